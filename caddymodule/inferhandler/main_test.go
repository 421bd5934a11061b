package inferhandler

import (
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }
