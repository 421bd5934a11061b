package gpupolicy

import (
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// places remembers where Caddyfiles adapted by this process name an address.
//
// Whether an upstream has it shows only when the configuration is provisioned,
// because reverse_proxy parses its policy before its upstreams are known, and
// Caddy's JSON has no room for lines. `caddy run` and `caddy validate` adapt
// and provision in one process, so there the error can say the line; a
// configuration that comes as JSON has none to say.
var places = struct {
	sync.Mutex
	of map[string]string // "weight 10.0.0.1:8081" to "Caddyfile:5"
}{of: make(map[string]string)}

// maxPlaces bounds the memory of a process that adapts Caddyfiles for ever.
const maxPlaces = 4096

func notePlace(d *caddyfile.Dispenser, rule string) {
	places.Lock()
	defer places.Unlock()
	if len(places.of) >= maxPlaces {
		clear(places.of)
	}
	places.of[rule] = fmt.Sprintf("%s:%d", d.File(), d.Line())
}

// withPlace appends the rule's place, if it is known.
func withPlace(rule string) string {
	places.Lock()
	defer places.Unlock()
	if place, ok := places.of[rule]; ok {
		return rule + " (" + place + ")"
	}
	return rule
}
