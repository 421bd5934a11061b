package balance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// desk is a node with a number of places, and the queue before it.
type desk struct {
	*Queue
	room  atomic.Int64
	began time.Time
}

func newDesk(room int64, o QueueOptions) *desk {
	d := &desk{began: time.Now()}
	d.room.Store(room)
	d.Queue = NewQueue(func() time.Duration { return time.Since(d.began) + time.Second }, o)
	return d
}

func (d *desk) take() bool {
	for {
		n := d.room.Load()
		if n <= 0 {
			return false
		}
		if d.room.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// answer ends a request.
func (d *desk) answer(took time.Duration) {
	d.room.Add(1)
	d.Answered(took)
}

// come lets a request come and reports what becomes of it.
func (d *desk) come(ctx context.Context, u Urgency) <-chan error {
	end := make(chan error, 1)
	go func() { end <- d.Wait(ctx, u, d.take) }()
	synctest.Wait()
	return end
}

func isServed(t *testing.T, end <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-end:
		if err != nil {
			t.Errorf("refused: %v", err)
		}
	default:
		t.Error("still waits")
	}
}

func isWaiting(t *testing.T, ends ...<-chan error) {
	t.Helper()
	synctest.Wait()
	for i, end := range ends {
		select {
		case err := <-end:
			t.Errorf("%d waits no longer: %v", i, err)
		default:
		}
	}
}

func isRefused(t *testing.T, end <-chan error, why Shed) *RefusalError {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-end:
		r, ok := errors.AsType[*RefusalError](err)
		if !ok || r.Why != why {
			t.Errorf("got %v, want a refusal: %v", err, why)
		}
		return r
	default:
		t.Errorf("still waits, want a refusal: %v", why)
		return new(RefusalError)
	}
}

func TestQueueServesInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(1, QueueOptions{10, 10 * sec})
		isServed(t, d.come(t.Context(), DefaultUrgency))
		first := d.come(t.Context(), DefaultUrgency)
		time.Sleep(ms)
		second := d.come(t.Context(), DefaultUrgency)
		isWaiting(t, first, second)
		d.answer(ms)
		isServed(t, first)
		isWaiting(t, second)
		d.answer(ms)
		isServed(t, second)
		if d.Len() != 0 {
			t.Errorf("%d wait", d.Len())
		}
	})
}

func TestUrgentRequestsGoFirstButNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{100, time.Hour})
		patient := d.come(t.Context(), DefaultUrgency+1)
		for i := range 30 { // one in flight at a time, and always an urgent one waiting
			time.Sleep(100 * ms)
			urgent := d.come(t.Context(), DefaultUrgency)
			d.answer(100 * ms)
			synctest.Wait()
			select {
			case <-patient:
				if waited := time.Duration(i+1) * 100 * ms; waited < lineAgeing || waited > lineAgeing+200*ms {
					t.Errorf("let in after %v, want %v", waited, lineAgeing)
				}
				isWaiting(t, urgent)
				d.answer(0)
				isServed(t, urgent)
				return
			default:
				isServed(t, urgent)
			}
		}
		t.Error("starved")
	})
}

func TestFullQueueShedsTheLeastUrgentAndNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{3, time.Hour})
		ctx := t.Context()
		low1, low2, normal := d.come(ctx, 5), d.come(ctx, 5), d.come(ctx, 3)
		isRefused(t, d.come(ctx, 5), ShedFull)
		urgent1 := d.come(ctx, 0)
		isRefused(t, low2, ShedEvicted)
		urgent2 := d.come(ctx, 0)
		isRefused(t, low1, ShedEvicted)
		isRefused(t, d.come(ctx, 3), ShedFull)
		isWaiting(t, normal, urgent1, urgent2)
		for _, next := range []<-chan error{urgent1, urgent2, normal} {
			d.answer(ms)
			isServed(t, next)
		}
		if d.Shed(ShedFull) != 2 || d.Shed(ShedEvicted) != 2 {
			t.Errorf("counted %d and %d", d.Shed(ShedFull), d.Shed(ShedEvicted))
		}
	})
}

func TestLeavingGivesThePlaceBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{1, time.Hour})
		ctx, leave := context.WithCancel(t.Context())
		gone := d.come(ctx, DefaultUrgency)
		isRefused(t, d.come(t.Context(), DefaultUrgency), ShedFull)
		leave()
		synctest.Wait()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		next := d.come(t.Context(), DefaultUrgency)
		isWaiting(t, next)
		d.answer(ms)
		isServed(t, next)
	})
}

// The one who leaves may have been called a moment before.
func TestATurnIsNeverLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{10, time.Hour})
		ctx, leave := context.WithCancel(t.Context())
		d.come(ctx, DefaultUrgency)
		next := d.come(t.Context(), DefaultUrgency)
		d.room.Add(1)
		leave()
		d.Answered(ms)
		isServed(t, next)
	})
}

func TestPanicOfATryPassesTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{10, time.Hour})
		go func() {
			defer func() { _ = recover() }()
			_ = d.Wait(t.Context(), MostUrgent, func() bool {
				if d.room.Load() > 0 {
					panic("as a handler may")
				}
				return false
			})
		}()
		synctest.Wait()
		next := d.come(t.Context(), DefaultUrgency)
		d.answer(ms)
		isServed(t, next)
	})
}

func TestPatienceEndsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{10, 2 * sec})
		end := d.come(t.Context(), DefaultUrgency)
		ctx, stop := context.WithTimeout(t.Context(), sec)
		defer stop()
		hurried := d.come(ctx, DefaultUrgency)
		time.Sleep(sec - ms)
		isWaiting(t, end, hurried)
		time.Sleep(2 * ms)
		synctest.Wait()
		if err := <-hurried; err == nil {
			t.Error("served, though its deadline is over and no node has room")
		}
		time.Sleep(sec - 2*ms)
		isWaiting(t, end)
		time.Sleep(2 * ms)
		if r := isRefused(t, end, ShedTimeout); r.RetryAfter != time.Second {
			t.Errorf("retry after %v, want the least there is while no rate is known", r.RetryAfter)
		}
	})
}

// At ten answers a second, a queue of 40 takes 4 s.
func TestRetryAfterIsTrueToTheRateOfAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		d := newDesk(0, QueueOptions{1000, time.Minute})
		for range 60 {
			d.come(ctx, DefaultUrgency)
		}
		for range 20 {
			time.Sleep(100 * ms)
			d.answer(100 * ms)
			synctest.Wait()
		}
		d.Configure(QueueOptions{d.Len(), time.Minute})
		if r := isRefused(t, d.come(ctx, DefaultUrgency), ShedFull); r.RetryAfter != 4*sec {
			t.Errorf("%d wait at 10/s, retry after %v", d.Len(), r.RetryAfter)
		}
		stop()
		synctest.Wait()
		if d.Len() != 0 {
			t.Errorf("%d still wait", d.Len())
		}
	})
}

func TestHopelessRequestsAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		d := newDesk(0, QueueOptions{1000, time.Minute})
		for range 60 {
			d.come(ctx, DefaultUrgency)
		}
		for range 20 {
			time.Sleep(100 * ms)
			d.answer(100 * ms)
			synctest.Wait()
		}
		hurried, stopHurried := context.WithTimeout(ctx, 3*sec)
		defer stopHurried()
		isRefused(t, d.come(hurried, DefaultUrgency), ShedLate)
		easy, stopEasy := context.WithTimeout(ctx, 6*sec)
		defer stopEasy()
		isWaiting(t, d.come(easy, DefaultUrgency))
		urgent, stopUrgent := context.WithTimeout(ctx, 3*sec)
		defer stopUrgent()
		isWaiting(t, d.come(urgent, MostUrgent)) // nobody is before it
		stop()
		synctest.Wait()
	})
}

func TestNodeThatComesUpIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{10, time.Hour})
		ends := []<-chan error{d.come(t.Context(), DefaultUrgency), d.come(t.Context(), DefaultUrgency), d.come(t.Context(), DefaultUrgency)}
		d.room.Add(2)
		d.Wake()
		isServed(t, ends[0])
		isServed(t, ends[1])
		isWaiting(t, ends[2])
		d.answer(ms)
		isServed(t, ends[2])
	})
}

// Of ten waiters, one looks.
func TestTheFirstLooksAgainThoughNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0, QueueOptions{10, time.Hour})
		ctx, stop := context.WithCancel(t.Context())
		var looks atomic.Int64
		for range 10 {
			go func() {
				_ = d.Wait(ctx, DefaultUrgency, func() bool { looks.Add(1); return d.take() })
			}()
		}
		synctest.Wait()
		before := looks.Load()
		time.Sleep(10*queueRecheck + ms)
		synctest.Wait()
		if n := looks.Load() - before; n != 10 {
			t.Errorf("%d looks in %v", n, 10*queueRecheck)
		}
		d.room.Add(1)
		time.Sleep(queueRecheck)
		synctest.Wait()
		if d.Len() != 9 {
			t.Errorf("%d still wait", d.Len())
		}
		stop()
		synctest.Wait()
	})
}

// Two handlers share a node of one place; each has its own queue.
func TestQueuesThatShareANodeTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		a, b := newDesk(0, QueueOptions{100, time.Hour}), newDesk(0, QueueOptions{100, time.Hour})
		var node Audience
		node.Join(a.Queue)
		node.Join(b.Queue)
		node.Join(b.Queue) // by a second configuration, for a while
		node.Leave(b.Queue)
		var room atomic.Int64
		take := func() bool { return room.CompareAndSwap(1, 0) }
		var served [2]atomic.Int64
		for i, q := range []*Queue{a.Queue, b.Queue} {
			for range 20 {
				go func() {
					if q.Wait(ctx, DefaultUrgency, take) == nil {
						served[i].Add(1)
					}
				}()
			}
		}
		synctest.Wait()
		for i := range 20 {
			time.Sleep(ms)
			room.Store(1)
			node.Answered([]*Queue{a.Queue, b.Queue}[i%2], ms)
			synctest.Wait()
			if room.Load() != 0 {
				t.Fatalf("answer %d: nobody took the room", i)
			}
		}
		first, second := served[0].Load(), served[1].Load()
		if first+second != 20 || min(first, second) < 1 { // both are called; the scheduler decides who is quicker
			t.Errorf("served %d and %d", first, second)
		}
		node.Leave(a.Queue)
		room.Store(1)
		node.Wake()
		synctest.Wait()
		if served[0].Load() != first || served[1].Load() != second+1 {
			t.Errorf("served %d and %d, after one left %d and %d", first, second, served[0].Load(), served[1].Load())
		}
		stop()
		synctest.Wait()
	})
}

func BenchmarkQueueWithRoom(b *testing.B) {
	d := newDesk(1<<40, QueueOptions{1000, sec})
	b.ReportAllocs()
	for b.Loop() {
		_ = d.Wait(b.Context(), DefaultUrgency, d.take)
		d.Answered(ms)
	}
}

// One answer lets one of a thousand waiters in, and it comes again.
func BenchmarkQueueUnderOverload(b *testing.B) {
	d := newDesk(0, QueueOptions{2000, time.Hour})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	in := make(chan struct{})
	for range 1000 {
		wg.Go(func() {
			for d.Wait(ctx, DefaultUrgency, d.take) == nil {
				in <- struct{}{}
			}
		})
	}
	for d.Len() < 1000 {
		time.Sleep(ms)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.answer(ms)
		<-in
	}
	stop()
	wg.Wait()
}

// Many come, leave, are answered and shed at once; each is served once or told,
// and the node is never over its room nor idle while somebody waits.
func TestQueueUnderRace(t *testing.T) {
	defer goleak.VerifyNone(t)
	const room = 4
	d := newDesk(room, QueueOptions{50, 5 * sec})
	var served, told atomic.Int64
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 300 {
				ctx, stop := context.WithCancel(context.Background())
				if (g+i)%5 == 0 {
					go func() { time.Sleep(time.Duration(i%3) * 100 * time.Microsecond); stop() }()
				}
				if err := d.Wait(ctx, Urgency((g+i)%9), d.take); err != nil {
					told.Add(1)
				} else {
					if d.room.Load() > room-1 {
						t.Error("more room than there is")
					}
					if i%7 == 0 {
						time.Sleep(50 * time.Microsecond)
					}
					d.answer(50 * time.Microsecond)
					served.Add(1)
				}
				stop()
			}
		})
	}
	wg.Wait()
	if got := served.Load() + told.Load(); got != 16*300 {
		t.Errorf("%d of %d ended", got, 16*300)
	}
	if d.Len() != 0 || d.line.length != 0 || d.called != nil || d.room.Load() != room {
		t.Errorf("left: %d waiting, %d in line, called %v, room %d", d.Len(), d.line.length, d.called, d.room.Load())
	}
	t.Logf("served %d, told %d", served.Load(), told.Load())
}
