// Command generate writes the assembly of package kernels with avo. It is a
// module of its own so that users of the package do not depend on avo; run it
// by go generate in the directory above.
package main

import (
	"flag"
	"log"

	"github.com/mmcloughlin/avo/build"
)

// parts are the files that it can write, each with its stubs.
var parts = map[string]func(){
	"gemm": func() {
		for _, v := range []vectors{avx2, avx512} {
			for rows := 1; rows <= v.rows; rows++ {
				gemm(v, rows)
			}
		}
	},
	"int8": func() {
		for _, t := range []int8Tile{int8AVX2, int8AVXVNNI, int8AVX512} {
			for rows := 1; rows <= t.rows; rows++ {
				int8Gemm(t, rows)
			}
			quantize(t.vectors, t.name, t.xBytes)
		}
		bounds(avx2)
		bounds(avx512)
	},
	"vector": func() {
		for _, v := range []vectors{avx2, avx512} {
			add(v)
			gelu(v)
			geluTanh(v)
			softmax(v)
			layerNorm(v)
		}
	},
}

func main() {
	part := flag.String("part", "", "what to write: gemm, int8, vector, or neon, which writes ../neon_arm64.s and .go")
	flag.Parse()
	if *part == "neon" {
		if err := writeNEON("../neon_arm64.s", "../neon_arm64.go"); err != nil {
			log.Fatal(err)
		}
		return
	}
	write, ok := parts[*part]
	if !ok {
		log.Fatalf("no part %q", *part)
	}
	write()
	build.Generate()
}
