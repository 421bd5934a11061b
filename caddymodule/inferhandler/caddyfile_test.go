package inferhandler

import (
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestCaddyfileBecomesTheJSONOfTheDocumentation(t *testing.T) {
	caddyrun.Golden(t, "testdata/adapt")
}
