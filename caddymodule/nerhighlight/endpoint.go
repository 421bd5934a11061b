package nerhighlight

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

const (
	// endpointCalls at the same time, of all pages; pages wait for their turn
	// within their own timeouts.
	endpointCalls = 16
	// endpointSplit is how many requests one call becomes at a time where each
	// has one text.
	endpointSplit = 4
	// endpointAnswer is the longest answer that is read.
	endpointAnswer = 4 << 20
)

// endpoint is a service that finds entities.
type endpoint struct {
	url, field string
	list       bool
	client     *http.Client
	transport  *http.Transport
	calls      *semaphore.Weighted
}

func newEndpoint(url, field string, list bool) *endpoint {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = endpointCalls
	return &endpoint{
		url: url, field: field, list: list, transport: t, calls: semaphore.NewWeighted(endpointCalls),
		// The texts go where the configuration says and nowhere else.
		client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func (e *endpoint) close() error {
	e.transport.CloseIdleConnections()
	return nil
}

func (e *endpoint) find(ctx context.Context, texts []string) ([][]highlight.Entity, error) {
	if e.list {
		return e.call(ctx, texts, texts)
	}
	found := make([][]highlight.Entity, len(texts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(endpointSplit)
	for i, text := range texts {
		group.Go(func() error {
			one, err := e.call(ctx, text, []string{text})
			if err == nil {
				found[i] = one[0]
			}
			return err
		})
	}
	return found, group.Wait()
}

func (e *endpoint) call(ctx context.Context, value any, texts []string) ([][]highlight.Entity, error) {
	if err := e.calls.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer e.calls.Release(1)
	body, err := json.Marshal(map[string]any{e.field: value})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the endpoint answered %s", resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, endpointAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(answer) > endpointAnswer {
		return nil, errTooLarge
	}
	docs, err := highlight.Parse(answer, texts)
	if err != nil {
		return nil, err
	}
	if len(docs) != len(texts) {
		return nil, fmt.Errorf("the endpoint answered about %d texts of %d", len(docs), len(texts))
	}
	found := make([][]highlight.Entity, len(texts))
	for i, text := range texts {
		if docs[i].Scores != nil {
			return nil, highlight.ErrUnknown
		}
		// What is repeated differently would be marked in the wrong place.
		if docs[i].Text == text {
			found[i] = docs[i].Entities
		}
	}
	return found, nil
}
