// Package telemetryfile reads the `telemetry` option of Caddyfiles, which the
// load-balancing policy and the node agent have in common.
package telemetryfile

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// More reads an option that only one of the directives has. known is false for
// an option that it has not either.
type More func(option string, args []string) (known bool, err error)

// Unmarshal reads what follows the word telemetry:
//
//	telemetry <kind> [<address>] {
//		map  <field> <metric>
//		send <text>
//	}
//
// args are the words of its line. more may be nil; options names all options,
// for the error about an unknown one. Whether the source makes sense is for the
// caller to check, by gpuprobe.Open.
func Unmarshal(d *caddyfile.Dispenser, args []string, options string, more More) (c gpuprobe.Config, err error) {
	if len(args) < 1 || len(args) > 2 {
		return c, d.ArgErr()
	}
	c.Kind = args[0]
	if len(args) == 2 {
		c.Address = args[1]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		args := d.RemainingArgs()
		switch option {
		case "map":
			err = unmarshalMap(d, args, &c)
		case "send":
			if len(args) != 1 {
				return c, d.ArgErr()
			}
			c.Send = args[0]
		default:
			known := false
			if more != nil {
				known, err = more(option, args)
			}
			if !known && err == nil {
				err = d.Errf("unrecognized option '%s': telemetry knows %s", option, options)
			}
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func unmarshalMap(d *caddyfile.Dispenser, args []string, c *gpuprobe.Config) error {
	if len(args) < 2 {
		return d.ArgErr()
	}
	if _, ok := c.Mapping[args[0]]; ok {
		return d.Errf("map %s is given twice", args[0])
	}
	if c.Mapping == nil {
		c.Mapping = make(map[string]string)
	}
	c.Mapping[args[0]] = strings.Join(args[1:], " ")
	return nil
}
