package refpool

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

type resource struct{ closed atomic.Int32 }

func closeResource(r *resource) error { r.closed.Add(1); return nil }

func TestOneValueForManyUsersAndClosedWithTheLast(t *testing.T) {
	var pool Pool[string, *resource]
	var opened atomic.Int32
	open := func() (*resource, error) { opened.Add(1); return &resource{}, nil }

	const users = 64
	refs := make([]*Ref[string, *resource], users)
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() {
			ref, err := pool.Acquire("a", open, closeResource)
			if err != nil {
				t.Error(err)
			}
			refs[i] = ref
		})
	}
	wg.Wait()
	if n := opened.Load(); n != 1 {
		t.Fatalf("opened %d times, want once", n)
	}
	value := refs[0].Value
	for i := range refs {
		if refs[i].Value != value {
			t.Fatal("two users hold different values")
		}
		if n := value.closed.Load(); n != 0 {
			t.Fatalf("closed with %d users left", users-i)
		}
		if err := refs[i].Release(); err != nil {
			t.Fatal(err)
		}
	}
	if n := value.closed.Load(); n != 1 {
		t.Fatalf("closed %d times, want once", n)
	}
	if err := refs[0].Retain(); !errors.Is(err, ErrClosed) {
		t.Errorf("Retain after the end: %v, want ErrClosed", err)
	}
	if err := refs[0].Release(); !errors.Is(err, ErrClosed) {
		t.Errorf("Release after the end: %v, want ErrClosed", err)
	}
	pool.Each(func(string, *resource, int) { t.Error("the pool still lists the closed value") })
}

func TestFailureIsSharedAndForgotten(t *testing.T) {
	var pool Pool[string, *resource]
	boom := errors.New("boom")
	if _, err := pool.Acquire("a", func() (*resource, error) { return nil, boom }, closeResource); !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	ref, err := pool.Acquire("a", func() (*resource, error) { return &resource{}, nil }, closeResource)
	if err != nil {
		t.Fatalf("a second attempt after a failure: %v", err)
	}
	if err := ref.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestPanicWhileOpeningReleasesTheWaiting(t *testing.T) {
	var pool Pool[string, *resource]
	opening, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = pool.Acquire("a", func() (*resource, error) {
			close(opening)
			<-proceed
			panic("boom")
		}, closeResource)
	})
	<-opening
	wg.Go(func() {
		// Either it joined the failing attempt or came after it.
		ref, err := pool.Acquire("a", func() (*resource, error) { return &resource{}, nil }, closeResource)
		if err == nil {
			_ = ref.Release()
		}
	})
	close(proceed)
	wg.Wait()
}
