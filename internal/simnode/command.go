package simnode

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

// Addresses is the line that the command prints once it listens.
type Addresses struct {
	Address string `json:"address"`
	Control string `json:"control"`
	Agent   string `json:"agent,omitempty"`
}

// Main is the command: a node that runs until its standard input ends, so that
// it cannot outlive whoever started it.
func Main() error {
	var c Config
	flag.StringVar(&c.Listen, "listen", "", "address for requests (default a free port of 127.0.0.1)")
	flag.StringVar(&c.Control, "control", "", "address for orders (default a free port of 127.0.0.1)")
	flag.StringVar(&c.Agent, "agent", "", "address for HAProxy's agent-check (default none)")
	flag.StringVar(&c.AgentReports, "agent-reports", "", "idle or share")
	flag.StringVar(&c.Name, "name", "", "name in answers (default the address)")
	flag.IntVar(&c.Slots, "slots", 0, "requests at full speed at once (default 2)")
	flag.DurationVar(&c.Service, "service", 0, "mean service time (default 20ms)")
	flag.Float64Var(&c.Sigma, "sigma", 0, "lognormal spread of the service time (default none)")
	flag.Uint64Var(&c.Seed, "seed", 0, "seed of the service times")
	flag.TextVar(&c.Discipline, "discipline", FIFO, "fifo or ps")
	flag.DurationVar(&c.Distance, "distance", 0, "round trip of the network")
	flag.DurationVar(&c.Cold, "cold", 0, "how long it is slow from its first request on")
	flag.Float64Var(&c.ColdFactor, "cold-factor", 0, "how slow (default 5)")
	flag.Float64Var(&c.Settings.Slowdown, "slowdown", 0, "factor on the service time")
	flag.Float64Var(&c.Settings.CoTenant, "co-tenant", 0, "share of the GPU that another process takes")
	flag.Parse()
	n, err := Start(c)
	if err != nil {
		return err
	}
	defer n.Close()
	line, err := json.Marshal(Addresses{n.Address(), n.ControlAddress(), n.AgentAddress()})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
