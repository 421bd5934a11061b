package healthcheck

// outcome is what one check says of its node.
type outcome uint8

const (
	passed outcome = iota
	failed
	// absent is a failure of a node that refuses connections: nothing runs
	// there, and to ask it costs nothing.
	absent
	// unclear is a check that was not answered by a node which lives: it is
	// busy. It neither adds to what a dead node needs to rise, nor leaves a
	// row of failures unbroken.
	unclear
	// silent is a check that was not answered by a node which may be at work.
	// That excuses the first; once a check has failed, more work is none: a
	// node that hangs is given some now and then, to see.
	silent
)

// verdict counts outcomes in a row, as HAProxy's rise and fall do.
type verdict struct {
	rise, fall    int
	down          bool
	passes, fails int // in a row, while they speak against the verdict
}

// hear takes in an outcome and reports whether it changes the verdict.
func (v *verdict) hear(o outcome) (changed bool) {
	if o == absent || o == silent && v.fails > 0 {
		o = failed
	}
	switch {
	case o == failed && v.down:
		v.passes = 0
	case o == failed:
		v.fails++
		changed = v.fails >= v.fall
	case v.down && o == passed:
		v.passes++
		changed = v.passes >= v.rise
	case !v.down:
		v.fails = 0
	}
	if changed {
		v.down = !v.down
		v.passes, v.fails = 0, 0
	}
	return changed
}
