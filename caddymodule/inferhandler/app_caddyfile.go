package inferhandler

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

func init() { httpcaddyfile.RegisterGlobalOption("inference", parseGlobalOption) }

// parseGlobalOption reads one inference block. Several blocks add up, because
// imported snippets may bring their own.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, app); err != nil {
			return nil, fmt.Errorf("reading the previous inference block: %w", err)
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "inference", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option:
//
//	inference {
//		model <name> <ref> {
//			engine    go|onnxruntime
//			precision int8|fp32
//			library   <path>
//			device    cpu|cuda|cuda:<number>
//			workers   <number>
//			threads   <number>
//			batch     <size> [<wait>]
//			queue     <length> [<wait>]
//			max_chars <number>
//			cache     <results> [<size>]
//		}
//	}
//
// The ref is builtin/ner-zh, builtin/sentiment-zh or a model directory. The
// block of a model may be left out.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume "inference"
	if d.NextArg() {
		return d.Errf("unexpected argument '%s': models are named in a block, `inference { model NAME REF }`", d.Val())
	}
	for d.NextBlock(0) {
		if d.Val() != "model" {
			return d.Errf("unrecognized inference option '%s': the only one is model", d.Val())
		}
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Errf("model takes a name and a reference, for instance `model ner builtin/ner-zh`; got %d arguments", len(args))
		}
		name := args[0]
		if _, taken := a.Models[name]; taken {
			return d.Errf("model '%s' is named twice: each name stands for one model", name)
		}
		m := &Model{Ref: args[1]}
		if err := m.unmarshalOptions(d); err != nil {
			return err
		}
		if a.Models == nil {
			a.Models = make(map[string]*Model)
		}
		a.Models[name] = m
	}
	return nil
}

func (m *Model) unmarshalOptions(d *caddyfile.Dispenser) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("model option '%s' is given twice", option)
		}
		seen[option] = true

		var err error
		switch option {
		case "engine":
			m.Engine, err = word(d)
		case "precision":
			var p string
			p, err = word(d)
			m.Precision = engine.Precision(p)
		case "library":
			m.Library, err = word(d)
		case "device":
			var device string
			device, err = word(d)
			m.Device = engine.Device(device)
		case "workers":
			m.Workers, err = wholeNumber(d)
		case "threads":
			m.Threads, err = wholeNumber(d)
		case "max_chars":
			m.MaxChars, err = wholeNumber(d)
		case "batch":
			m.BatchSize, m.BatchWait, err = numberAndWait(d)
		case "queue":
			m.QueueLength, m.QueueWait, err = numberAndWait(d)
		case "cache":
			m.Cache, m.CacheBytes, err = numberAndSize(d)
		default:
			return d.Errf("unrecognized model option '%s': there are engine, precision, library, device, workers, threads, batch, queue, max_chars and cache", option)
		}
		if err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("unexpected argument '%s' after %s", d.Val(), option)
		}
		// Here the error still knows its line; Provision checks again for
		// configurations in JSON.
		if err := m.options().Validate(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

func word(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	if !d.NextArg() {
		return "", d.Errf("%s needs a value", option)
	}
	return d.Val(), nil
}

func wholeNumber(d *caddyfile.Dispenser) (int, error) {
	option := d.Val()
	if !d.NextArg() {
		return 0, d.Errf("%s needs a number", option)
	}
	n, err := strconv.Atoi(d.Val())
	if err != nil || n < 1 {
		return 0, d.Errf("%s '%s': give a whole number from 1", option, d.Val())
	}
	return n, nil
}

func numberAndWait(d *caddyfile.Dispenser) (int, caddy.Duration, error) {
	option := d.Val()
	n, err := wholeNumber(d)
	if err != nil || !d.NextArg() {
		return n, 0, err
	}
	wait, err := duration(d, option+" wait")
	return n, wait, err
}

func numberAndSize(d *caddyfile.Dispenser) (int, int64, error) {
	option := d.Val()
	n, err := wholeNumber(d)
	if err != nil || !d.NextArg() {
		return n, 0, err
	}
	size, err := parseSize(d, option+" size")
	return n, size, err
}

// duration reads the current token.
func duration(d *caddyfile.Dispenser, what string) (caddy.Duration, error) {
	v, err := caddy.ParseDuration(d.Val())
	if err != nil || v <= 0 {
		return 0, d.Errf("%s '%s': give a duration above zero such as 2ms or 10s", what, d.Val())
	}
	return caddy.Duration(v), nil
}

func timeDuration(d caddy.Duration) time.Duration { return time.Duration(d) }

var _ caddyfile.Unmarshaler = (*App)(nil)
