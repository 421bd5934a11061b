package gpuadmin

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	_ "github.com/caddy-infer/caddy-infer/gpuprobe/nvml" // the kind nvml
)

// hostSources read this host, the best first.
var hostSources = []gpuprobe.Config{{Kind: "nvml"}, {Kind: "nvidia_smi"}}

// probeFlags are what `caddy gpu probe` is told.
type probeFlags struct {
	source   string
	mapping  []string
	send     string
	json     bool
	watch    bool
	interval time.Duration
	timeout  time.Duration
}

func probeCommand(host []gpuprobe.Config) *cobra.Command {
	var flags probeFlags
	cmd := &cobra.Command{
		Use:   "probe [--source <kind> [<address>]] [--json] [--watch]",
		Short: "Shows this host's GPUs, or what a node says of itself",
		Long:  "Shows this host's GPUs or, with --source, what a gateway sees of a node.\n\nThe kinds of sources:\n\n" + kindList(),
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if ctx == nil { // cobra leaves it nil where Execute was given none
				ctx = context.Background()
			}
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			configs, err := flags.configs(args, host)
			if err != nil {
				return err
			}
			return flags.probe(ctx, configs, newPrinter(cmd.OutOrStdout(), flags.json, flags.watch))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.source, "source", "s", "", "Kind of source")
	f.StringArrayVar(&flags.mapping, "map", nil, "For prometheus and json: `field=metric` or field=key, repeatable")
	f.StringVar(&flags.send, "send", "", "For agent_check: what to send after connecting")
	f.BoolVar(&flags.json, "json", false, "Print JSON")
	f.BoolVarP(&flags.watch, "watch", "w", false, "Keep reading until interrupted")
	f.DurationVar(&flags.interval, "interval", time.Second, "Pause between readings of --watch")
	f.DurationVar(&flags.timeout, "timeout", 10*time.Second, "How long one reading may take")
	return cmd
}

func kindList() string {
	var b strings.Builder
	for _, k := range gpuprobe.Kinds() {
		fmt.Fprintf(&b, "\t%-20s %s", k.Name, k.Summary)
		if k.Port != 0 {
			fmt.Fprintf(&b, " (port %d)", k.Port)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// configs are the sources to try, the first that answers counts.
func (f *probeFlags) configs(args []string, host []gpuprobe.Config) ([]gpuprobe.Config, error) {
	if f.interval <= 0 || f.timeout <= 0 {
		return nil, errors.New("--interval and --timeout must be positive")
	}
	if f.source == "" {
		if len(args) > 0 || len(f.mapping) > 0 || f.send != "" {
			return nil, errors.New("an address needs --source: the kind of what answers there")
		}
		return host, nil
	}
	if f.source == "push" {
		return nil, errors.New("push cannot be probed: it is the node that sends")
	}
	c := gpuprobe.Config{Kind: f.source, Send: f.send, Interval: f.interval, Mapping: make(map[string]string, len(f.mapping))}
	for _, m := range f.mapping {
		field, spec, ok := strings.Cut(m, "=")
		if !ok {
			return nil, fmt.Errorf("--map %s: want field=metric", m)
		}
		c.Mapping[field] = spec
	}
	if len(args) > 0 {
		c.Address = args[0]
	}
	return []gpuprobe.Config{c}, nil
}

func (f *probeFlags) probe(ctx context.Context, configs []gpuprobe.Config, p printer) error {
	source, sample, err := f.first(ctx, configs)
	if err != nil {
		return err
	}
	err = p.print(&sample)
	for f.watch && err == nil {
		select {
		case <-ctx.Done():
			return source.Close()
		case <-time.After(f.interval):
		}
		// A node that fails now may answer again; that is what watching is for.
		if sample, failure := f.read(ctx, source); failure == nil {
			err = p.print(&sample)
		} else if ctx.Err() == nil {
			err = p.failed(failure)
		}
	}
	return errors.Join(err, source.Close())
}

// first opens the first source that answers.
func (f *probeFlags) first(ctx context.Context, configs []gpuprobe.Config) (gpuprobe.Source, gpuprobe.Sample, error) {
	var failures []string
	for _, c := range configs {
		source, err := gpuprobe.Open(c)
		if err == nil {
			var sample gpuprobe.Sample
			if sample, err = f.read(ctx, source); err == nil {
				return source, sample, nil
			}
			_ = source.Close()
		}
		failures = append(failures, err.Error())
	}
	what := ""
	if f.source == "" {
		what = "this host shows no NVIDIA GPU: "
	}
	return nil, gpuprobe.Sample{}, errors.New(what + strings.Join(failures, "; "))
}

func (f *probeFlags) read(ctx context.Context, source gpuprobe.Source) (gpuprobe.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	return source.Read(ctx)
}
