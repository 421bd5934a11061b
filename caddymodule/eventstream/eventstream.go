// Package eventstream follows a stream of server-sent events as it passes, and
// ends it with an event of its own when its source breaks off in the middle.
// Nothing is held back or changed meanwhile.
//
// The format is that of the HTML standard, section 9.2.6: lines end with LF, CR
// or both, an empty line ends an event, and of a field given twice in an event
// the last counts (but for data, whose lines add up).
package eventstream

import (
	"bytes"
)

// maxLine is how much of a line is remembered, which is enough for any sensible
// event ID.
const maxLine = 512

// Incomplete is the type of an event that was broken off. Its data is a part of
// what was to come, so it must not reach those who listen for whole events.
const Incomplete = "incomplete"

// Follower knows where in a stream it is. Its zero value is at the beginning.
type Follower struct {
	line   []byte // the present line so far, up to maxLine
	long   bool   // it is longer
	cr     bool   // the last byte was a CR, so an LF belongs to it
	open   bool   // the event has a field
	id     []byte // of the last whole event that had one
	nextID []byte // of the present event
	hasID  bool   // the present event has one
	lost   bool   // an ID was too long to remember
}

// Write takes note of the next part of the stream. It never fails.
func (f *Follower) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if f.cr {
			f.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		end := bytes.IndexByte(p, '\n')
		if cr := bytes.IndexByte(p[:max(end, 0)], '\r'); cr >= 0 {
			end = cr
		} else if end < 0 {
			end = bytes.IndexByte(p, '\r')
		}
		if end < 0 {
			f.append(p)
			break
		}
		f.append(p[:end])
		f.endLine()
		f.cr = p[end] == '\r'
		p = p[end+1:]
	}
	return n, nil
}

func (f *Follower) append(p []byte) {
	if room := maxLine - len(f.line); len(p) > room {
		p, f.long = p[:room], true
	}
	f.line = append(f.line, p...)
}

func (f *Follower) endLine() {
	switch {
	case len(f.line) == 0:
		if f.hasID {
			f.id = append(f.id[:0], f.nextID...)
		}
		f.open, f.hasID = false, false
	case f.line[0] == ':':
	default:
		f.open = true
		name, value, _ := bytes.Cut(f.line, []byte(":"))
		if string(name) == "id" && bytes.IndexByte(value, 0) < 0 {
			f.hasID = true
			f.lost = f.lost || f.long
			f.nextID = append(f.nextID[:0], bytes.TrimPrefix(value, []byte(" "))...)
		}
	}
	f.line, f.long = f.line[:0], false
}

// End returns what ends the present event, nothing if none has begun, so that
// others can follow where the stream broke off. A half written event becomes one
// of type Incomplete, and leaves no ID from which a client would go on.
func (f *Follower) End() (out []byte) {
	if len(f.line) > 0 {
		if bytes.HasPrefix(f.line, []byte("retry")) {
			out = append(out, 'x') // half a number is another number, and this is none
		}
		out = append(out, '\n')
		f.endLine()
	}
	if f.open {
		out = append(out, "event: "+Incomplete+"\n"...)
		if f.hasID && !f.lost {
			out = append(out, "id: "...)
			out = append(append(out, f.id...), '\n')
		}
		out = append(out, '\n')
	}
	return out
}
