//go:build unix

// Command load starts a server, loads it from this machine at several
// concurrencies, and notes what came back and what it cost:
//
//	load -name "Flask" -url http://127.0.0.1:5000/predict -out results.jsonl -- gunicorn …
//	load -table results.jsonl -base "Flask"
//
// The first form appends a JSON line for each concurrency, the second prints all
// lines as a Markdown table with ratios to the base.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		name     = flag.String("name", "", "what the table calls the server")
		url      = flag.String("url", "", "where to POST; on 127.0.0.1 only")
		metrics  = flag.String("metrics", "", "address of the server's Prometheus metrics, for the mean batch size")
		levels   = flag.String("c", "1,8,32", "concurrencies")
		duration = flag.Duration("duration", 10*time.Second, "how long each concurrency is measured")
		warmup   = flag.Duration("warmup", 2*time.Second, "load before each measurement that doesn't count")
		out      = flag.String("out", "", "file to append the results to")
		table    = flag.String("table", "", "print the results in this file instead")
		base     = flag.String("base", "", "name of the row that the ratios are to")
	)
	flag.Parse()
	if *table != "" {
		return printTable(os.Stdout, *table, *base)
	}
	if *name == "" || *out == "" || flag.NArg() == 0 {
		return errors.New("-name, -url, -out and, after --, the server's command are needed")
	}
	if !strings.HasPrefix(*url, "http://127.0.0.1:") {
		return fmt.Errorf("-url %q: only servers on http://127.0.0.1:… may be loaded", *url)
	}
	server, err := start(flag.Args())
	if err != nil {
		return err
	}
	defer server.stop()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		server.stop() // it has a process group of its own, which the terminal doesn't reach
		os.Exit(1)
	}()
	if err := waitReady(*url, server); err != nil {
		return err
	}
	for level := range strings.SplitSeq(*levels, ",") {
		concurrency, err := strconv.Atoi(level)
		if err != nil || concurrency < 1 || concurrency > 1000 {
			return fmt.Errorf("-c %q: want numbers between 1 and 1000", *levels)
		}
		generate(*url, concurrency, *warmup)
		r, err := measure(*url, *metrics, concurrency, *duration, server)
		if err != nil {
			return err
		}
		r.Name = *name
		if err := appendLine(*out, r); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, c=%d: %.1f/s, p50 %.0f ms, p95 %.0f ms, %d errors, %.0f MB, others %.0f %%\n",
			r.Name, concurrency, r.PerSecond, r.P50, r.P95, r.Errors, r.RSS, r.Others)
	}
	return nil
}

func appendLine(file string, r result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
