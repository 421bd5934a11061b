package gpuprobe

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeSMI writes a program that stands in for nvidia-smi. $1 is its query.
func fakeSMI(t *testing.T, script string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for nvidia-smi is a shell script")
	}
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	smiRow0 = "0, GPU-a, 45, 1024, 40960, 51, 201.53, 0, 0x0000000000000044, NVIDIA A100-SXM4-40GB"
	smiRow1 = "1, GPU-b, [N/A], 0, 40960, N/A, [Not Supported], [N/A], 0x0, NVIDIA A100, special"
)

func TestNvidiaSMIsRowsAreUnderstood(t *testing.T) {
	s, err := read(t, Config{Kind: "nvidia_smi", Address: fakeSMI(t, "echo '"+smiRow0+"'; echo '"+smiRow1+"'; exec sleep 60")})
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(s.MeasuredAt); age < 0 || age > time.Minute {
		t.Errorf("measured %v ago", age)
	}
	want := Device{
		UUID: "GPU-a", Name: "NVIDIA A100-SXM4-40GB", Index: some(0), Utilization: some(0.45), MemoryUsedBytes: some[uint64](1 << 30),
		MemoryTotalBytes: some[uint64](40 << 30), TemperatureC: some(51.), PowerW: some(201.53),
		ECCUncorrected: some[uint64](0), Throttle: some(ThrottlePowerCap | ThrottleThermalHardware),
	}
	if !reflect.DeepEqual(s.Devices[0], want) {
		t.Errorf("got  %+v\nwant %+v", s.Devices[0], want)
	}
	got, err := parseSMI(smiRow1, 10)
	want = Device{
		UUID: "GPU-b", Name: "NVIDIA A100, special", Index: some(1), MemoryUsedBytes: some[uint64](0),
		MemoryTotalBytes: some[uint64](40 << 30), Throttle: some(ThrottleReasons(0)),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
}

func TestNvidiaSMIIsOneChildThatIsStartedAgainWhenItDies(t *testing.T) {
	log := filepath.Join(t.TempDir(), "starts")
	source, err := Open(Config{Kind: "nvidia_smi", Address: fakeSMI(t, "echo $$ >> "+log+"\necho '"+smiRow0+"'\nexec sleep 0.3")})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := source.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	starts := func() int {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), "\n")
	}
	if n := starts(); n != 1 {
		t.Errorf("%d children for 5 readings", n)
	}
	for deadline := time.Now().Add(30 * time.Second); starts() < 2; {
		if time.Now().After(deadline) {
			t.Fatal("it was not started again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOlderDriversAreAskedForLess(t *testing.T) {
	script := `case "$1" in
*clocks*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;;
esac
echo '0, GPU-a, 45, 1024, 40960, 51, 201.53, 0, Tesla K80'
exec sleep 60`
	s, err := read(t, Config{Kind: "nvidia_smi", Address: fakeSMI(t, script)})
	if err != nil || s.Devices[0].Name != "Tesla K80" || s.Devices[0].Throttle.Known() {
		t.Errorf("%v %+v", err, s)
	}
}

func TestClosingDoesNotWaitForAWrappersChild(t *testing.T) {
	source, err := Open(Config{Kind: "nvidia_smi", Address: fakeSMI(t, "echo '"+smiRow0+"'\nsleep 20\nexit 0")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := source.Close(); err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestNvidiaSMISaysWhyItCannotRun(t *testing.T) {
	if _, err := read(t, Config{Kind: "nvidia_smi", Address: filepath.Join(t.TempDir(), "none")}); err == nil ||
		!strings.Contains(err.Error(), "is the NVIDIA driver installed?") {
		t.Errorf("error %v", err)
	}
	failing := fakeSMI(t, "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9")
	if _, err := read(t, Config{Kind: "nvidia_smi", Address: failing}); err == nil || !strings.Contains(err.Error(), "could not communicate") {
		t.Errorf("error %v", err)
	}
	source, err := Open(Config{Kind: "nvidia_smi", Address: fakeSMI(t, "exec sleep 60")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := source.Read(ctx); err == nil || !strings.Contains(err.Error(), "waiting for") {
		t.Errorf("error %v", err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzSMI(f *testing.F) {
	f.Add(smiRow0)
	f.Add(smiRow1)
	f.Fuzz(func(t *testing.T, line string) {
		for _, query := range smiQueries {
			if d, err := parseSMI(line, strings.Count(query, ",")+1); err == nil {
				sound(t, &Sample{Devices: []Device{d}})
			}
		}
	})
}
