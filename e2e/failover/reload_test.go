//go:build unix

package failover

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// A reload replaces every handler; what they have learned of the nodes, and
// what operators ordered, is to survive it.
func TestTwentyReloadsKeepTheNodeTable(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 4)
	well, failing, drained := nodes[0], nodes[1], nodes[2]
	g := startCaddy(t, nodes, "gpu {\n\t\t\teject 1 failures\n\t\t}")
	l := startLoad(t, g, 4)

	set(t, failing, `{"mode":"fail"}`)
	call(t, g, http.MethodPost, drained.Address+"/drain")
	eventually(t, "the failing node to be ejected", func() bool { return view(t, g, failing).Ejections > 0 })
	eventually(t, "the drained node to be empty", func() bool { return view(t, g, drained).State == "drained" })
	eventually(t, "the latency to be known", func() bool { return view(t, g, well).LatencyMS != nil })

	before := make(map[*simnode.Process]nodeView)
	for _, n := range nodes {
		before[n] = view(t, g, n)
	}
	received := state(t, drained).Received
	for i := range 20 {
		time.Sleep(250 * time.Millisecond)
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			was, now := before[n], view(t, g, n)
			for reason, count := range was.Picks {
				if now.Picks[reason] < count {
					t.Fatalf("reload %d: %s had %d picks for %s, now %d", i, n.Address, count, reason, now.Picks[reason])
				}
			}
			switch {
			case !now.InUse:
				t.Fatalf("reload %d: %s is not in use", i, n.Address)
			case now.Ejections < was.Ejections:
				t.Fatalf("reload %d: %s had %d ejections, now %d", i, n.Address, was.Ejections, now.Ejections)
			case was.LatencyMS != nil && (now.LatencyMS == nil || *now.LatencyMS == 0):
				t.Fatalf("reload %d: the latency of %s is forgotten", i, n.Address)
			case n == failing && now.State != "ejected" && now.State != "probing":
				t.Fatalf("reload %d: the ejected node is %s", i, now.State)
			case n == drained && (now.State != "drained" || now.picks() != was.picks()):
				t.Fatalf("reload %d: the drained node is %s and had %d picks", i, now.State, now.picks()-was.picks())
			}
			before[n] = now
		}
	}
	if more := state(t, drained).Received - received; more != 0 {
		t.Errorf("the drained node got %d requests", more)
	}
	r := l.end()
	// Between two configurations Caddy itself drops some connections before any
	// handler sees them (docs/decisions.md). No answer may be bad.
	dropped := r.Count(func(rec *openloop.Record) bool { return rec.Outcome == openloop.Dropped })
	if r.Failed() > dropped || dropped > len(r.Records)/4 {
		t.Errorf("%d of %d requests lost, %d of them with their connection:\n%v", r.Failed(), len(r.Records), dropped, r.Failures())
	}
	t.Logf("%d of %d requests lost their connection in 20 reloads", dropped, len(r.Records))
	if v := view(t, g, well); v.picks() == 0 || v.InFlight != 0 {
		t.Errorf("%+v", v)
	}
}
