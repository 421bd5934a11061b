package eventstream

import (
	"strings"
	"testing"
)

// event is as a client sees it.
type event struct{ kind, data, id string }

// parse is the standard's algorithm (section 9.2.6), and what it makes of
// retry.
func parse(stream string) (events []event, retry string) {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	lines = lines[:len(lines)-1] // what has no end of line is discarded
	var kind, id string
	var data []string
	for _, line := range lines {
		if line == "" {
			if data != nil {
				events = append(events, event{kind, strings.Join(data, "\n"), id})
			} else if kind != "" {
				events = append(events, event{kind, "(none)", id})
			}
			kind, data = "", nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			kind = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				retry = value
			}
		}
	}
	return events, retry
}

const stream = "retry: 3000\n\n: a comment\nid: 1\nevent: token\ndata: {\"a\": 1}\n\n" +
	"data: first\r\ndata: second\r\nid: 22\r\n\r\n" +
	"id:333\rdata:x\r\rdata: none\n\nid\ndata: reset\n\n"

// Wherever a stream breaks off, clients see the events that were whole, and then
// that something is wrong; never half an event for a whole one, and never an ID
// of one that they have not seen.
func TestStreamEndsWithAnErrorWhereverItBreaks(t *testing.T) {
	whole, _ := parse(stream)
	for cut := range len(stream) + 1 {
		sent := stream[:cut]
		before, _ := parse(sent)
		for step := 1; step <= 3; step++ { // however it arrives
			var f Follower
			for at := 0; at < len(sent); at += step {
				f.Write([]byte(sent[at:min(at+step, len(sent))]))
			}
			got, retry := parse(sent + string(f.End()) + "event: error\ndata: gone\n\n")
			if len(got) == 0 || got[len(got)-1].kind != "error" || got[len(got)-1].data != "gone" {
				t.Fatalf("cut at %d: the last of %q is no error", cut, got)
			}
			seen := got[:len(got)-1]
			if n := len(seen) - 1; n >= 0 && seen[n].kind == Incomplete {
				seen = seen[:n]
			}
			if len(seen) != len(before) || len(seen) > len(whole) {
				t.Fatalf("cut at %d: %q, want %q and the error", cut, got, before)
			}
			id := ""
			for i, e := range seen {
				if e != whole[i] {
					t.Errorf("cut at %d: event %d is %q, want %q", cut, i, e, whole[i])
				}
				id = e.id
			}
			if last := got[len(got)-1].id; last != id {
				t.Errorf("cut at %d: a client would go on from %q, having seen %q", cut, last, id)
			}
			if retry != "" && retry != "3000" {
				t.Errorf("cut at %d: clients would come back after %s ms", cut, retry)
			}
		}
	}
}

func TestLongLinesAreNotKept(t *testing.T) {
	var f Follower
	f.Write([]byte("id: 1\ndata: x\n\ndata: " + strings.Repeat("x", 1<<20)))
	if cap(f.line) > 2*maxLine {
		t.Errorf("%d bytes of a line are kept", cap(f.line))
	}
	if got := string(f.End()); got != "\nevent: incomplete\n\n" {
		t.Errorf("%q", got)
	}
	f = Follower{}
	f.Write([]byte("id: " + strings.Repeat("1", 1<<12) + "\ndata: half"))
	if got := string(f.End()); strings.Contains(got, "id") {
		t.Errorf("an ID that was not kept is put back: %q", got)
	}
}

func FuzzFollower(f *testing.F) {
	f.Add(stream, 3)
	f.Add("id: 1\r\r\nretry: 1", 1)
	f.Add("\ufeffdata: a\n\n:\nevent:x\nid", 2)
	f.Fuzz(func(t *testing.T, sent string, step int) {
		if step < 1 || len(sent) > 1<<12 {
			return
		}
		var follower Follower
		for at := 0; at < len(sent); at += step {
			follower.Write([]byte(sent[at:min(at+step, len(sent))]))
		}
		before, _ := parse(sent)
		after, _ := parse(sent + string(follower.End()) + "event: error\ndata: {}\n\n")
		if n := len(after); n == 0 || after[n-1].kind != "error" || after[n-1].data != "{}" || n < len(before)+1 || n > len(before)+2 {
			t.Fatalf("%q then %q", before, after)
		}
	})
}
