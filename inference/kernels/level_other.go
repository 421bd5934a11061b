//go:build !amd64

package kernels

func levels() []*level { return []*level{&portable} }
