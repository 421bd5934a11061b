package kernels

import "golang.org/x/sys/cpu"

//go:generate go run -C generate . -part gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg kernels
//go:generate go run -C generate . -part vector -out ../vector_amd64.s -stubs ../vector_amd64.go -pkg kernels

// levels are those that this processor supports, in ascending order.
func levels() []*level {
	supported := []*level{&portable}
	x := &cpu.X86
	if !(x.HasAVX2 && x.HasFMA && x.HasBMI2) {
		return supported
	}
	supported = append(supported, &level{
		name: "avx2",
		tiles: []tileFunc{
			gemmAVX2x1, gemmAVX2x2, gemmAVX2x3, gemmAVX2x4, gemmAVX2x5, gemmAVX2x6,
		},
		columns: 16,
		add:     addAVX2, gelu: geluAVX2, geluTanh: geluTanhAVX2, softmax: softmaxAVX2, layerNorm: layerNormAVX2,
	})
	if !(x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL) {
		return supported
	}
	return append(supported, &level{
		name: "avx512",
		tiles: []tileFunc{
			gemmAVX512x1, gemmAVX512x2, gemmAVX512x3, gemmAVX512x4, gemmAVX512x5, gemmAVX512x6,
			gemmAVX512x7, gemmAVX512x8, gemmAVX512x9, gemmAVX512x10, gemmAVX512x11, gemmAVX512x12,
		},
		columns: 32,
		add:     addAVX512, gelu: geluAVX512, geluTanh: geluTanhAVX512, softmax: softmaxAVX512, layerNorm: layerNormAVX512,
	})
}
