package inference

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/internal/refpool"
)

// Served is one user's hold on the model that a name stands for. It answers as
// a Model does, and can be given other files while it answers: Change loads
// them aside, tries them, and only then lets them answer, and Rollback goes
// back. Each answer is of one model, and none is lost.
//
// Everyone who names the same files by the same name with the same Options
// holds the same model and sees each other's changes. Its methods are safe for
// concurrent use.
type Served struct {
	shared   *refpool.Ref[servedKey, *served]
	released atomic.Bool
}

// servedKey has the digest of the files, so that who names them anew after they
// were changed in place gets them as they are then.
type servedKey struct {
	name, ref, digest string
	options           Options
}

var servedModels refpool.Pool[servedKey, *served]

// served is what all users of a name share.
type served struct {
	name, ref string // as configured
	options   Options
	opened    time.Time

	// changing is held by the one change that is under way.
	changing sync.Mutex
	current  atomic.Pointer[version]
	// before is what answered before the present version, nil if nothing did.
	// Its files are read again when they are wanted.
	before atomic.Pointer[version]
}

// version is a model that answers under a name, or did.
type version struct {
	*Model
	ref, digest string
	since       time.Time
}

// ErrChanging says that another change of the same name is under way.
var ErrChanging = errors.New("another change of this model is under way")

// ErrNoRollback says that nothing else has answered under a name.
var ErrNoRollback = errors.New("there is no earlier model to go back to")

// Serve returns the model that ref names, "builtin/NAME" or a directory, as
// what name stands for, with one more user. Each Serve needs one Release.
//
// Changes made under that name outlive their maker: they last until the last
// user has released it.
func Serve(name, ref string, o Options) (*Served, error) {
	digest, err := Digest(ref)
	if err != nil {
		return nil, err
	}
	shared, err := servedModels.Acquire(servedKey{name, ref, digest, o.withDefaults()},
		func() (*served, error) {
			m, err := Acquire(ref, o)
			if err != nil {
				return nil, err
			}
			s := &served{name: name, ref: ref, options: o, opened: time.Now()}
			s.current.Store(newVersion(m))
			return s, nil
		},
		func(s *served) error { return s.current.Load().Release() })
	if err != nil {
		return nil, err
	}
	return &Served{shared: shared}, nil
}

func newVersion(m *Model) *version {
	info := m.Info()
	return &version{Model: m, ref: info.Ref, digest: info.Digest, since: time.Now()}
}

// hold keeps what the name stands for alive during a call.
func (s *Served) hold() error {
	if s.released.Load() || s.shared.Retain() != nil {
		return ErrReleased
	}
	return nil
}

// Hold returns another hold on what the name stands for, with a Release of its
// own; ErrReleased if this one has ended.
func (s *Served) Hold() (*Served, error) {
	if err := s.hold(); err != nil {
		return nil, err
	}
	return &Served{shared: s.shared}, nil
}

func (s *Served) done() { _ = s.shared.Release() }

// Release ends this hold.
func (s *Served) Release() error {
	if s.released.Swap(true) {
		return ErrReleased
	}
	return s.shared.Release()
}

// Serving tells what the name stands for.
func (s *Served) Serving() Serving { return s.shared.Value.serving() }

// Info describes the model that answers now.
func (s *Served) Info() Info { return s.shared.Value.current.Load().Info() }

// Predict is Model.Predict. Stats.Digest tells which model answered.
func (s *Served) Predict(ctx context.Context, texts []string) (results []Result, stats Stats, err error) {
	err = s.call(func(m *Model) (err error) {
		results, stats, err = m.Predict(ctx, texts)
		return err
	})
	return results, stats, err
}

// Check is Model.Check.
func (s *Served) Check(ctx context.Context) error {
	return s.call(func(m *Model) error { return m.Check(ctx) })
}

// call calls f with the present model. A model that was replaced and released
// between the two steps has not begun, and the next one takes its place.
func (s *Served) call(f func(*Model) error) error {
	if err := s.hold(); err != nil {
		return err
	}
	defer s.done()
	for {
		v := s.shared.Value.current.Load()
		if err := f(v.Model); !errors.Is(err, ErrReleased) || s.shared.Value.current.Load() == v {
			return err
		}
	}
}

// Change lets the model that ref names answer in the place of the present one;
// an empty ref reads the configured files again. It returns once the new one
// answers, and the old one is freed with its last request. Options stay.
//
// Nothing changes when it fails: when the files can't be loaded, when the new
// model has another task, when its trial pass fails, or with ErrChanging.
// Files that are those of the present model are no change and no error.
func (s *Served) Change(ctx context.Context, ref string) (Serving, error) {
	if ref == "" {
		ref = s.shared.Value.ref
	}
	return s.change(ctx, func(*served) (string, string, error) { return ref, "", nil })
}

// Rollback lets the model answer again that the last Change or Rollback
// replaced. Beside Change's errors there are ErrNoRollback, and one for files
// that are not what they were.
func (s *Served) Rollback(ctx context.Context) (Serving, error) {
	return s.change(ctx, func(m *served) (string, string, error) {
		before := m.before.Load()
		if before == nil {
			return "", "", ErrNoRollback
		}
		return before.ref, before.digest, nil
	})
}

// change replaces the model by the one that target names; a digest given with
// it must be that of the files.
func (s *Served) change(ctx context.Context, target func(*served) (ref, digest string, err error)) (Serving, error) {
	if err := s.hold(); err != nil {
		return Serving{}, err
	}
	defer s.done()
	m := s.shared.Value
	if !m.changing.TryLock() {
		return Serving{}, ErrChanging
	}
	defer m.changing.Unlock()

	ref, digest, err := target(m)
	if err != nil {
		return Serving{}, err
	}
	old := m.current.Load()
	next, err := Acquire(ref, m.options)
	if err != nil {
		return Serving{}, err
	}
	v := newVersion(next)
	if digest != "" && v.digest != digest {
		err = fmt.Errorf("the files of %s have changed since it answered: they were %s and are %s", ref, digest, v.digest)
	} else {
		err = v.try(ctx, old.Info())
	}
	if err != nil || v.digest == old.digest {
		return m.serving(), errors.Join(err, next.Release())
	}
	m.before.Store(&version{ref: old.ref, digest: old.digest, since: old.since})
	m.current.Store(v)
	return m.serving(), old.Release()
}

// try runs the network, so that its memory is there and its first users don't
// wait for it.
func (v *version) try(ctx context.Context, old Info) error {
	info := v.Info()
	if info.Task != old.Task {
		return fmt.Errorf("model %s is for %s and can't take the place of one for %s", v.ref, info.Task, old.Task)
	}
	if err := v.Check(ctx); err != nil {
		return fmt.Errorf("trying model %s: %w", v.ref, err)
	}
	return nil
}

// Serving is what a name stands for.
type Serving struct {
	// Name, and the files that it was configured with.
	Name, ConfiguredRef string
	// Info of the model that answers, since when it does, and how busy it is.
	Info  Info
	Since time.Time
	Load  Load
	// Before is what Rollback would load; its Ref is empty if there is none.
	Before Before

	opened time.Time
}

// Before is a model that has answered and is no longer in memory.
type Before struct{ Ref, Digest string }

func (m *served) serving() Serving {
	v := m.current.Load()
	s := Serving{Name: m.name, ConfiguredRef: m.ref, Info: v.Info(), Since: v.since, opened: m.opened}
	l := v.shared.Value.batcher.Load()
	s.Load = Load{Ref: v.ref, Digest: v.digest, InFlight: l.InFlight, Queued: l.Queued}
	if b := m.before.Load(); b != nil {
		s.Before = Before{b.ref, b.digest}
	}
	return s
}

// Servings lists what is served by name, in the order of the names. During the
// reload that changes a model's configuration its name is there twice, the
// newer one first.
func Servings() []Serving {
	var list []Serving
	servedModels.Each(func(_ servedKey, m *served, _ int) { list = append(list, m.serving()) })
	slices.SortFunc(list, func(a, b Serving) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return b.opened.Compare(a.opened)
	})
	return list
}

// Find returns one more hold on what the name stands for, the newer one where
// there are two, and whether anybody holds it at all.
func Find(name string) (*Served, bool) {
	var found *refpool.Ref[servedKey, *served]
	servedModels.EachRef(func(ref *refpool.Ref[servedKey, *served]) {
		if m := ref.Value; m.name == name && (found == nil || m.opened.After(found.Value.opened)) {
			found = ref
		}
	})
	if found == nil || found.Retain() != nil {
		return nil, false
	}
	return &Served{shared: found}, true
}
