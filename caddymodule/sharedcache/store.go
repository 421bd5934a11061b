package sharedcache

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// The client's own log tells of each connection that it does not get; what
// matters is logged here, by Caddy.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// pause is how long Redis is left alone after it has failed.
const pause = time.Second

// maxWrites bounds what is being written at a time; more is not kept.
const maxWrites = 64

// store is Redis, which may be there or not.
type store struct {
	client   *redis.Client
	ttl      time.Duration
	timeout  time.Duration
	logger   *zap.Logger
	failedAt atomic.Int64 // Unix time in ns
	writes   chan struct{}
	writing  sync.WaitGroup
}

func newStore(h *Handler) *store {
	timeout := time.Duration(h.Timeout)
	return &store{
		client: redis.NewClient(&redis.Options{
			Addr: h.Address, Username: h.Username, Password: h.Password, DB: h.Database, ClientName: cacheName,
			DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
			PoolSize: maxWrites, MaxActiveConns: 2 * maxWrites, DisableIdentity: true,
		}),
		ttl: time.Duration(h.TTL), timeout: timeout, logger: h.logger,
		writes: make(chan struct{}, maxWrites),
	}
}

// close waits for the writes, which are short, and ends the connections.
func (s *store) close() error {
	s.writing.Wait()
	return s.client.Close()
}

// away says that Redis has just failed.
func (s *store) away() bool { return time.Now().UnixNano()-s.failedAt.Load() < int64(pause) }

// failed notes an error of Redis, and tells of it at most once in a pause.
func (s *store) failed(err error) {
	if errors.Is(err, redis.ErrClosed) {
		return // a request that outlives its configuration
	}
	now := time.Now().UnixNano()
	if before := s.failedAt.Swap(now); now-before > int64(pause) {
		s.logger.Warn("Redis does not answer: going on without it", zap.Error(err))
	}
}

// get returns what is kept, or nil.
func (s *store) get(ctx context.Context, key string) *answer {
	if s.away() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	data, err := s.client.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil), errors.Is(err, context.Canceled): // not there, or nobody waits
		return nil
	case err != nil:
		s.failed(err)
		return nil
	}
	a := new(answer)
	if err := json.Unmarshal(data, a); err != nil {
		s.logger.Warn("what is kept can't be read", zap.Error(err))
		return nil
	}
	return a
}

// set keeps an answer, beside the request, and then calls done.
func (s *store) set(key string, a *answer, done func()) {
	select {
	case s.writes <- struct{}{}:
	default:
		done()
		return
	}
	s.writing.Go(func() {
		defer func() { <-s.writes; done() }()
		if s.away() {
			return
		}
		data, err := json.Marshal(a)
		if err != nil {
			s.logger.Error("an answer can't be kept", zap.Error(err))
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		defer cancel()
		if err := s.client.Set(ctx, key, data, s.ttl).Err(); err != nil {
			s.failed(err)
		}
	})
}
