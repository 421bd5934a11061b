package kernels

import "golang.org/x/sys/cpu"

//go:generate go run -C generate . -part gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg kernels
//go:generate go run -C generate . -part int8 -out ../int8_amd64.s -stubs ../int8_amd64.go -pkg kernels
//go:generate go run -C generate . -part vector -out ../vector_amd64.s -stubs ../vector_amd64.go -pkg kernels
//go:generate go run -C generate . -part neon

// levels are those that this processor supports, in ascending order. INT8
// has an instruction of its own, VNNI, which both AVX2 and AVX-512 exist with
// and without.
func levels() []*level {
	supported := []*level{&portable}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !x.HasBMI2 {
		return supported
	}
	supported = append(supported, &avx2)
	if x.HasAVXVNNI {
		l := avx2
		l.name = "avx2vnni"
		l.tiles8, l.quantize, l.wide = int8TilesAVXVNNI, quantizeAVXVNNI, false
		supported = append(supported, &l)
	}
	if !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL {
		return supported
	}
	supported = append(supported, &avx512)
	if x.HasAVX512VNNI {
		l := avx512
		l.name = "avx512vnni"
		l.tiles8, l.columns8, l.quantize, l.quantizeStep, l.wide = int8TilesAVX512, 32, quantizeAVX512, 16, false
		supported = append(supported, &l)
	}
	return supported
}

var avx2 = level{
	name:    "avx2",
	tiles:   gemmTilesAVX2,
	columns: 16,

	tiles8: int8TilesAVX2, columns8: 16, quantize: quantizeAVX2, quantizeStep: 8, wide: true, bounds: boundsAVX2,

	add: addAVX2, gelu: geluAVX2, geluTanh: geluTanhAVX2, softmax: softmaxAVX2, layerNorm: layerNormAVX2,
}

// avx512 has no 512-bit kernels for INT8: those of AVX2 serve it.
var avx512 = level{
	name:    "avx512",
	tiles:   gemmTilesAVX512,
	columns: 32,

	tiles8: int8TilesAVX2, columns8: 16, quantize: quantizeAVX2, quantizeStep: 8, wide: true, bounds: boundsAVX512,

	add: addAVX512, gelu: geluAVX512, geluTanh: geluTanhAVX512, softmax: softmaxAVX512, layerNorm: layerNormAVX512,
}

var gemmTilesAVX2 = []tileFunc{
	gemmAVX2x1, gemmAVX2x2, gemmAVX2x3, gemmAVX2x4, gemmAVX2x5, gemmAVX2x6,
}

var gemmTilesAVX512 = []tileFunc{
	gemmAVX512x1, gemmAVX512x2, gemmAVX512x3, gemmAVX512x4, gemmAVX512x5, gemmAVX512x6,
	gemmAVX512x7, gemmAVX512x8, gemmAVX512x9, gemmAVX512x10, gemmAVX512x11, gemmAVX512x12,
}

var int8TilesAVX2 = []int8TileFunc{int8AVX2x1, int8AVX2x2, int8AVX2x3}

var int8TilesAVXVNNI = []int8TileFunc{
	int8AVXVNNIx1, int8AVXVNNIx2, int8AVXVNNIx3, int8AVXVNNIx4, int8AVXVNNIx5, int8AVXVNNIx6,
}

var int8TilesAVX512 = []int8TileFunc{
	int8AVX512x1, int8AVX512x2, int8AVX512x3, int8AVX512x4, int8AVX512x5, int8AVX512x6,
	int8AVX512x7, int8AVX512x8, int8AVX512x9, int8AVX512x10, int8AVX512x11, int8AVX512x12,
}
