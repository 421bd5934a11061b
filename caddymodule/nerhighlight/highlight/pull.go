package highlight

import (
	"io"
	"iter"
)

// Pull lets a function that reads run on data that is written to it: Write
// hands the data to the function and returns when that wants more. There is no
// second thread of execution: the function runs only inside Write and Close, so
// it may write to what its caller writes to.
type Pull struct {
	next func() (struct{}, bool)
	stop func()
	in   []byte
	left []byte
	err  error
	done bool // run has returned
	end  bool // nothing more will be written
}

// NewPull prepares run. After an error of run, writes return that error; after
// it ends well, they do nothing. Stop must be called in the end.
func NewPull(run func(r io.Reader) error) *Pull {
	p := &Pull{}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.err = run(&pullReader{p, yield})
		p.done = true
	})
	return p
}

// Write gives run more to read.
func (p *Pull) Write(b []byte) (int, error) {
	if p.done {
		return len(b), p.err
	}
	if len(b) == 0 {
		return 0, nil
	}
	p.in = b
	p.next()
	if p.left = nil; p.done {
		p.left = p.in
	}
	p.in = nil // the caller's again
	if p.err != nil {
		return 0, p.err
	}
	return len(b), nil
}

// Left is what run has not read of the last Write, because it has ended.
func (p *Pull) Left() []byte { return p.left }

// Close lets run read io.EOF, and returns when it has ended.
func (p *Pull) Close() error {
	if !p.done {
		p.in, p.end = nil, true
		p.next()
	}
	p.Stop()
	return p.err
}

// Stop ends run wherever it is.
func (p *Pull) Stop() {
	p.stop()
	p.done = true
}

type pullReader struct {
	p     *Pull
	yield func(struct{}) bool
}

// Read returns io.EOF after Close, and io.ErrClosedPipe after Stop.
func (r *pullReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.p.in) == 0 {
		if r.p.end {
			return 0, io.EOF
		}
		if !r.yield(struct{}{}) {
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(b, r.p.in)
	r.p.in = r.p.in[n:]
	return n, nil
}
