//go:build unix

package failover

import (
	"net/http"
	"testing"
	"time"
)

func TestDrainUnderLoadLosesNothingAndSendsNothingNew(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 3)
	g := startCaddy(t, nodes, "gpu")
	l := startLoad(t, g, 3)
	drained := nodes[0]
	eventually(t, "the node to be at work", func() bool { return state(t, drained).Answered > 20 })

	ordered := call(t, g, http.MethodPost, drained.Address+"/drain")
	if ordered.State != "draining" && ordered.State != "drained" {
		t.Errorf("ordered to drain, it is %s", ordered.State)
	}
	eventually(t, "the node to be drained", func() bool { return view(t, g, drained).State == "drained" })
	atEnd := state(t, drained)
	time.Sleep(4 * time.Second)

	now := view(t, g, drained)
	if now.picks() != ordered.picks() {
		t.Errorf("%d picks of a drained node", now.picks()-ordered.picks())
	}
	if s := state(t, drained); s.Received != atEnd.Received || s.InFlight != 0 {
		t.Errorf("a drained node received %d requests and has %d", s.Received-atEnd.Received, s.InFlight)
	}
	call(t, g, http.MethodPost, drained.Address+"/resume")
	eventually(t, "the node to be used again", func() bool { return state(t, drained).Received > atEnd.Received })
	nothingLost(t, l.end())
	if s := state(t, drained); s.Answered != s.Received {
		t.Errorf("it answered %d of %d requests", s.Answered, s.Received)
	}
}
