package engine

import "testing"

func TestDevices(t *testing.T) {
	for d, want := range map[Device]int{"cuda": 0, "cuda:0": 0, "cuda:7": 7, "cuda:1023": 1023} {
		if n, ok := d.CUDA(); !ok || n != want || d.Validate() != nil {
			t.Errorf("%q: %d, %v, %v", d, n, ok, d.Validate())
		}
	}
	for d, valid := range map[Device]bool{
		"": true, CPU: true,
		"gpu": false, "cuda:": false, "cuda:-1": false, "cuda:1024": false, "cuda:x": false, "CUDA": false, "0": false,
	} {
		if _, ok := d.CUDA(); ok || (d.Validate() == nil) != valid {
			t.Errorf("%q: %v, %v", d, ok, d.Validate())
		}
	}
}
