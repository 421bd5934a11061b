package handover

import (
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }
