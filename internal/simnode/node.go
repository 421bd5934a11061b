// Package simnode simulates a model node: an HTTP server whose answers take
// time on a GPU that exists only as arithmetic, which tells the truth about its
// load, and which can be made to fail in every way that real nodes do.
//
// It runs inside a test (Start) or as a process of its own that can be killed
// (Spawn, and the command in cmd/simnode).
package simnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a node. The zero value of every field is a default.
type Config struct {
	// Listen is the address for requests, Control the one for orders (see
	// Settings), both host:port. Default: free ports of 127.0.0.1.
	Listen, Control string
	// Agent is the address on which HAProxy's agent-check is answered. Default:
	// none.
	Agent string
	// AgentReports is what the agent gives as its weight: "idle", the idle
	// share of the GPU, or "share", what co-tenants leave of it, which takes
	// accounting by process on the node. Default: idle.
	AgentReports string
	// Name is the node's name in its answers. Default: Listen.
	Name string
	// Slots is how many requests run at once at full speed. Default: 2.
	Slots int
	// Service is how long one takes, its mean where it varies. Default: 20ms.
	Service time.Duration
	// Sigma makes the time lognormal: the standard deviation of its logarithm.
	// Default: 0, always the same time.
	Sigma float64
	// Seed makes the times repeatable.
	Seed uint64
	// Discipline is how requests share the GPU. Default: FIFO.
	Discipline Discipline
	// Distance is the network's round trip to the node, which passes before a
	// request takes a place.
	Distance time.Duration
	// Cold is how long the node is ColdFactor times slower, counted from its
	// first request: kernels are compiled and memory is allocated when used.
	Cold       time.Duration
	ColdFactor float64
	// Settings are what the node begins with.
	Settings Settings
}

func (c Config) withDefaults() Config {
	if c.Slots == 0 {
		c.Slots = 2
	}
	if c.Service == 0 {
		c.Service = 20 * time.Millisecond
	}
	if c.Discipline == "" {
		c.Discipline = FIFO
	}
	if c.ColdFactor == 0 {
		c.ColdFactor = 5
	}
	if c.AgentReports == "" {
		c.AgentReports = "idle"
	}
	c.Settings = c.Settings.withDefaults()
	return c
}

// Limits of what a node takes.
const (
	maxBody     = 16 << 20
	maxRequests = 20_000 // at once
)

// Node is a running node.
type Node struct {
	config  Config
	engine  *engine
	address string

	inFlight           atomic.Int64
	received, answered atomic.Int64

	mu       sync.Mutex
	settings Settings
	server   *http.Server // nil while it refuses
	random   *rand.Rand
	warm     *time.Timer // runs while the node is cold
	cold     bool
	first    bool // a request has come
	closed   bool
	others   []io.Closer // control and agent
	control  string
	agent    string
}

// Start runs a node in this process. Close ends it.
func Start(config Config) (*Node, error) {
	config = config.withDefaults()
	if err := config.Settings.check(); err != nil {
		return nil, err
	}
	n := &Node{
		config:   config,
		engine:   newEngine(config.Discipline, config.Slots),
		settings: config.Settings,
		random:   rand.New(rand.NewPCG(config.Seed, 1)),
		cold:     config.Cold > 0,
	}
	if err := n.open(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// open starts all listeners.
func (n *Node) open() error {
	l, err := net.Listen("tcp", orFree(n.config.Listen))
	if err != nil {
		return fmt.Errorf("listening for requests: %w", err)
	}
	n.address = l.Addr().String()
	if n.config.Name == "" {
		n.config.Name = n.address
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serve(l)
	n.applyLocked()

	orders, err := net.Listen("tcp", orFree(n.config.Control))
	if err != nil {
		return fmt.Errorf("listening for orders: %w", err)
	}
	n.control = orders.Addr().String()
	control := &http.Server{Handler: http.HandlerFunc(n.serveControl), ReadHeaderTimeout: time.Minute}
	n.others = append(n.others, control)
	go func() { _ = control.Serve(orders) }()
	if n.config.Agent == "" {
		return nil
	}
	agent, err := net.Listen("tcp", n.config.Agent)
	if err != nil {
		return fmt.Errorf("listening for agent checks: %w", err)
	}
	n.agent = agent.Addr().String()
	n.others = append(n.others, agent)
	go n.serveAgent(agent)
	return nil
}

func orFree(addr string) string {
	if addr == "" {
		return "127.0.0.1:0"
	}
	return addr
}

// Address is where the node answers requests, ControlAddress where it takes
// orders, AgentAddress where HAProxy may ask, empty for nowhere.
func (n *Node) Address() string        { return n.address }
func (n *Node) ControlAddress() string { return n.control }
func (n *Node) AgentAddress() string   { return n.agent }

// Close drops every connection.
func (n *Node) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.server != nil {
		_ = n.server.Close()
		n.server = nil
	}
	for _, o := range n.others {
		_ = o.Close()
	}
	if n.warm != nil {
		n.warm.Stop()
	}
	n.engine.stop()
}

func (n *Node) serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /predict", n.predict)
	mux.HandleFunc("GET /health", n.health)
	mux.HandleFunc("GET /gpu/status", n.status)
	mux.HandleFunc("GET /metrics", n.metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	n.server = server
	go func() { _ = server.Serve(l) }()
}

// Answer is what /predict answers.
type Answer struct {
	// ID is the request's own.
	ID string `json:"id"`
	// Node is who answered.
	Node string `json:"node"`
	// Bytes is the length of the request's body.
	Bytes int `json:"bytes"`
}

// NodeHeader is the header of an answer that names the node.
const NodeHeader = "X-Node"

func (n *Node) predict(w http.ResponseWriter, r *http.Request) {
	if n.inFlight.Add(1) > maxRequests {
		n.inFlight.Add(-1)
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	defer n.inFlight.Add(-1)
	n.received.Add(1)
	if !sleep(r.Context(), n.config.Distance) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "reading the request failed", http.StatusBadRequest)
		return
	}
	var request struct{ ID string }
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, "the request is not JSON", http.StatusBadRequest)
		return
	}
	w.Header().Set(NodeHeader, n.config.Name)
	s := n.current()
	switch s.Mode {
	case Hang:
		<-r.Context().Done()
		return
	case Fail:
		http.Error(w, "failing by order", s.Status)
		return
	default:
	}
	j := n.engine.submit(n.work())
	select {
	case <-j.done:
	case <-r.Context().Done():
		return // the work goes on
	}
	answer, err := json.Marshal(Answer{ID: request.ID, Node: n.config.Name, Bytes: len(body)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if s.Mode == Reset {
		breakOff(w, answer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	n.answered.Add(1)
	_, _ = w.Write(answer)
}

// breakOff sends half an answer and resets the connection.
func breakOff(w http.ResponseWriter, answer []byte) {
	conn, out, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(answer))
	_, _ = out.Write(answer[:len(answer)/2])
	_ = out.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// work draws a service time. The mean of exp(N(-σ²/2, σ²)) is 1.
func (n *Node) work() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.first {
		n.first = true
		if n.cold {
			n.warm = time.AfterFunc(n.config.Cold, n.warmed)
		}
	}
	s := n.config.Sigma
	if s == 0 {
		return n.config.Service
	}
	return time.Duration(float64(n.config.Service) * math.Exp(s*n.random.NormFloat64()-s*s/2))
}

func (n *Node) warmed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cold = false
	n.applyLocked()
}

func (n *Node) health(w http.ResponseWriter, r *http.Request) {
	if !sleep(r.Context(), n.config.Distance) {
		return
	}
	s := n.current()
	switch s.Mode {
	case Hang:
		<-r.Context().Done()
	case Fail:
		reply(w, s.Status, map[string]any{"status": "failing"})
	default:
		reply(w, http.StatusOK, map[string]any{"status": "healthy"})
	}
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// sleep waits, and tells whether the client was still there at the end.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errClosed = errors.New("the node is closed")
