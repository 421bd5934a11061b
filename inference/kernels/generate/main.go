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
var parts = map[string]func(vectors){
	"gemm": func(v vectors) {
		for rows := 1; rows <= v.rows; rows++ {
			gemm(v, rows)
		}
	},
	"vector": func(v vectors) {
		add(v)
		gelu(v)
		geluTanh(v)
		softmax(v)
		layerNorm(v)
	},
}

func main() {
	part := flag.String("part", "", "what to write: gemm, vector")
	flag.Parse()
	write, ok := parts[*part]
	if !ok {
		log.Fatalf("no part %q", *part)
	}
	write(avx2)
	write(avx512)
	build.Generate()
}
