package engine

import (
	"fmt"
	"strconv"
	"strings"
)

// Device is what computes a network: "cpu", which is also what an empty one
// means, or "cuda" or "cuda:N", the first or the N-th GPU of Nvidia, counted
// from 0 as CUDA_VISIBLE_DEVICES leaves them.
type Device string

// CPU is the default device.
const CPU Device = "cpu"

// maxCUDA bounds the number of a GPU: more is a typing mistake.
const maxCUDA = 1023

// CUDA returns the number of a GPU, and false for other devices and for what is
// none.
func (d Device) CUDA() (number int, ok bool) {
	if d == "cuda" {
		return 0, true
	}
	text, ok := strings.CutPrefix(string(d), "cuda:")
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), ok && err == nil && n <= maxCUDA
}

// Validate says what devices there are if this is none.
func (d Device) Validate() error {
	if _, cuda := d.CUDA(); cuda || d == "" || d == CPU {
		return nil
	}
	return fmt.Errorf("device %q: use cpu, cuda or cuda:N", d)
}
