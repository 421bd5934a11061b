//go:build unix

// Command failover shows what gateways do when nodes fail: it runs each of them
// as a process in front of simulated nodes, lets the same things happen to the
// same load, and prints a table.
//
//	go run ./bench/failover -scenario all
//
// See bench/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

type options struct {
	scenario, contenders, caddy, agent, save string
	seeds, attempts                          int
	quiet                                    time.Duration
	sigma                                    float64
	verbose, alone                           bool
}

func main() {
	var o options
	flag.StringVar(&o.scenario, "scenario", "all", "scenarios to run, by comma: "+strings.Join(names(), ", "))
	flag.StringVar(&o.contenders, "contenders", "all", "gateways to run, by comma: nginx, haproxy-agent, haproxy-queue, caddy, caddy-infer")
	flag.IntVar(&o.seeds, "seeds", 3, "how often each is run, with other arrivals and service times")
	flag.IntVar(&o.attempts, "attempts", 3, "how often what the machine disturbed is tried, of which the least disturbed attempt counts")
	flag.DurationVar(&o.quiet, "quiet", 10*time.Millisecond, "up to which 99th percentile of how late requests were sent nothing counts as disturbed")
	flag.StringVar(&o.caddy, "caddy", "", "a Caddy binary with this repository's modules (default: build it)")
	flag.StringVar(&o.agent, "agent", "share", "what the nodes tell HAProxy's agent-check: idle (share of the GPU) or share (what co-tenants leave)")
	flag.Float64Var(&o.sigma, "sigma", 0.25, "lognormal spread of the service time")
	flag.BoolVar(&o.alone, "alone", false, "measure the gateways one after the other: takes longer, and on few cores is nearer to what each does by itself")
	flag.StringVar(&o.save, "save", "", "also write the table to this file, such as bench/results/failover-2026-12-01.md")
	flag.BoolVar(&o.verbose, "v", false, "tell of each trial what failed, and of each half second how it went")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func names() []string {
	list := make([]string, 0, len(scenarios))
	for _, s := range scenarios {
		list = append(list, s.name)
	}
	return list
}

func run(ctx context.Context, o *options) error {
	var picked []*scenario
	for name := range strings.SplitSeq(o.scenario, ",") {
		n := len(picked)
		for _, s := range scenarios {
			if name == "all" || name == s.name {
				picked = append(picked, s)
			}
		}
		if len(picked) == n {
			return fmt.Errorf("-scenario: no %q", name)
		}
	}
	gateways, err := chosen(o.contenders)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binaries, err := gateway.Build(ctx, dir)
	if err != nil {
		return err
	}
	if o.caddy != "" {
		binaries.Caddy = o.caddy
	}

	report := newReport(gateways, picked)
	random := rand.New(rand.NewPCG(1, 1))
	for seed := range uint64(o.seeds) {
		for _, s := range picked {
			groups := [][]*contender{gateways}
			if s.alone || o.alone {
				groups = nil
				for _, i := range random.Perm(len(gateways)) {
					groups = append(groups, gateways[i:i+1])
				}
			}
			for _, g := range groups {
				trials, busy, err := runQuietly(ctx, binaries, o, s, g, seed+1)
				if err != nil {
					return err
				}
				for _, t := range trials {
					report.add(t, busy)
				}
				report.progress(os.Stderr, trials, seed+1, busy, o.verbose)
			}
		}
	}
	var text strings.Builder
	report.print(&text, o, binaries.Caddy)
	fmt.Print(text.String())
	if o.save == "" {
		return nil
	}
	head := fmt.Sprintf("# Failover, %s\n\n", time.Now().UTC().Format(time.DateOnly))
	return errors.Join(os.MkdirAll(filepath.Dir(o.save), 0o750), os.WriteFile(o.save, []byte(head+text.String()), 0o600))
}

// runQuietly repeats what the machine disturbed, and returns the least disturbed
// attempt with how busy the machine was in it.
func runQuietly(ctx context.Context, b gateway.Binaries, o *options, s *scenario, group []*contender, seed uint64) (best []*trial, busy float64, err error) {
	least := time.Duration(math.MaxInt64)
	for range max(1, o.attempts) {
		before := readCPU()
		trials, err := runTogether(ctx, b, o, s, group, seed)
		if err != nil {
			return nil, 0, err
		}
		late := lateness(trials)
		if late < least {
			best, busy, least = trials, readCPU().since(before), late
		}
		if late <= o.quiet {
			break
		}
	}
	return best, busy, nil
}

func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
