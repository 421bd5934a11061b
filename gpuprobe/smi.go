package gpuprobe

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// smiQueries are what nvidia-smi is asked for, the best first. A driver that
// does not know a field refuses all of them, so each next query asks less. The
// name stands last: it is the only text that could hold a comma.
var smiQueries = []string{
	smiCommon + "ecc.errors.uncorrected.volatile.total,clocks_event_reasons.active,name",
	smiCommon + "ecc.errors.uncorrected.volatile.total,clocks_throttle_reasons.active,name",
	smiCommon + "ecc.errors.uncorrected.volatile.total,name",
}

const smiCommon = "index,uuid,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,"

// smi keeps one nvidia-smi running. Starting it for each reading costs a
// second of driver start-up where no persistence daemon runs.
type smi struct {
	program  string
	interval time.Duration

	mu      sync.Mutex
	rows    map[int]smiRow
	err     error         // why there is no child, nil while one writes
	changed chan struct{} // closed at each row and error
	cancel  context.CancelFunc
	done    chan struct{} // closed when the keeper of the child has ended
}

type smiRow struct {
	device Device
	at     time.Time
}

func openSMI(c Config) (Source, error) {
	return &smi{
		program: cmp.Or(c.Address, "nvidia-smi"),
		// At least each second: the first reader's pace must not bind a later
		// one that is faster.
		interval: min(max(c.Interval, minInterval), time.Second),
		rows:     map[int]smiRow{}, changed: make(chan struct{}),
	}, nil
}

// Read returns the rows that came since at most three intervals. It waits for
// the first.
func (s *smi) Read(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*readTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		keeper, stop := context.WithCancel(context.Background())
		s.cancel, s.done = stop, make(chan struct{})
		go s.keep(keeper)
	}
	for {
		if sample := s.sample(time.Now()); len(sample.Devices) > 0 {
			return sample, nil
		}
		if s.err != nil {
			return Sample{}, s.err
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return Sample{}, fmt.Errorf("waiting for %s to write: %w", s.program, ctx.Err())
		}
	}
}

// Close ends the child.
func (s *smi) Close() error {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if done != nil {
		cancel()
		<-done
	}
	return nil
}

// sample has the fresh rows; it is as old as the oldest of them. mu is held.
func (s *smi) sample(now time.Time) Sample {
	stale := max(3*s.interval, 3*time.Second)
	var sample Sample
	for _, row := range s.rows {
		if now.Sub(row.at) > stale {
			continue
		}
		sample.Devices = append(sample.Devices, row.device)
		if sample.MeasuredAt.IsZero() || row.at.Before(sample.MeasuredAt) {
			sample.MeasuredAt = row.at
		}
	}
	slices.SortFunc(sample.Devices, func(a, b Device) int { return cmp.Compare(a.Index.Or(0), b.Index.Or(0)) })
	return sample
}

// keep starts the child again whenever it ends, ever slower while it does not
// live.
func (s *smi) keep(ctx context.Context) {
	defer close(s.done)
	const slowest = 30 * time.Second
	pause := time.Second
	for query := 0; ctx.Err() == nil; {
		rows, err := s.child(ctx, smiQueries[query])
		if errors.Is(err, errSMIField) && query+1 < len(smiQueries) {
			query++
			continue
		}
		s.tell(func() { s.err = err })
		if rows > 0 {
			pause = time.Second
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, slowest)
	}
}

// tell changes the state and wakes those who wait for it.
func (s *smi) tell(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

var errSMIField = errors.New("a field is unknown to this driver")

// child runs one nvidia-smi to its end and returns how many rows it gave and
// why it ended, never nil.
func (s *smi) child(ctx context.Context, query string) (rows int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	//nolint:gosec // the program is the operator's choice
	cmd := exec.CommandContext(ctx, s.program, "--query-gpu="+query,
		"--format=csv,noheader,nounits", "--loop-ms="+strconv.FormatInt(s.interval.Milliseconds(), 10))
	cmd.WaitDelay = time.Second
	defer endWithUs(cmd)()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, fmt.Errorf("starting nvidia-smi: %w: is the NVIDIA driver installed? Or give the program's path", err)
	}
	// A wrapper's own child may hold the pipe open after the wrapper is gone.
	defer context.AfterFunc(ctx, func() { _ = out.Close() })()
	// What is no row is why it ends: nvidia-smi prints its errors here.
	said := ""
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		device, err := parseSMI(lines.Text(), strings.Count(query, ",")+1)
		if err != nil {
			said = label(strings.TrimSpace(lines.Text()))
			if strings.Contains(said, "is not a valid field") {
				err = errSMIField
				cancel()
				_ = cmd.Wait()
				return rows, err
			}
			continue
		}
		rows++
		s.tell(func() {
			s.err = nil
			s.rows[device.Index.Or(0)] = smiRow{device, time.Now()}
		})
	}
	cancel() // a line without end stops the scanner, but not the child
	err = cmd.Wait()
	if said != "" {
		return rows, fmt.Errorf("%s ended: %s", s.program, said)
	}
	return rows, fmt.Errorf("%s ended: %w", s.program, cmp.Or(err, errors.New("without a reason")))
}

// parseSMI reads one row of the given number of fields. "[N/A]", "[Not
// Supported]" and their like are no numbers and stay missing.
func parseSMI(line string, fields int) (Device, error) {
	values := strings.SplitN(line, ",", fields)
	if len(values) != fields {
		return Device{}, fmt.Errorf("no row of nvidia-smi: %q", label(line))
	}
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	index, err := strconv.ParseUint(values[0], 10, 16)
	if err != nil || index >= maxDevices || values[1] == "" {
		return Device{}, fmt.Errorf("no row of nvidia-smi: %q", label(line))
	}
	number := func(i int) float64 {
		v, err := strconv.ParseFloat(values[i], 64)
		if err != nil {
			return -1e9 // beyond every bound
		}
		return v
	}
	d := Device{
		Index: Some(int(index)), UUID: label(values[1]), Name: label(values[fields-1]),
		Utilization:      ratio(number(2) / 100),
		MemoryUsedBytes:  whole(number(3)*mebibyte, maxBytes),
		MemoryTotalBytes: whole(number(4)*mebibyte, maxBytes),
		TemperatureC:     within(number(5), minCelsius, maxCelsius),
		PowerW:           within(number(6), 0, maxWatts),
		ECCUncorrected:   whole(number(7), maxBytes),
	}
	if bits, err := strconv.ParseUint(values[8], 0, 64); err == nil && fields > 9 {
		d.Throttle = Some(ThrottleReasons(bits))
	}
	return d, nil
}
