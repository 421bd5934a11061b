//go:build !amd64 && !arm64

package kernels

func levels() []*level { return []*level{&portable} }
