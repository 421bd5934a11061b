package kernels

import "sync"

// Attention computes one head of self-attention over n tokens:
// dst = softmax(scale·q·kᵀ)·v. The four arrays hold the head's dim values of
// token i at i*stride, so heads need no copying. scale is positive.
func Attention(dst, q, k, v []float32, n, stride, dim int, scale float32) {
	if n > 0 && dim > 0 {
		current.attention(dst, q, k, v, n, stride, dim, scale)
	}
}

// scratch is the memory of one call of Attention: 290 KB for 512 tokens of a
// head of 64.
var scratch sync.Pool // of *[]float32

func (l *level) attention(dst, q, k, v []float32, n, stride, dim int, scale float32) {
	s, _ := scratch.Get().(*[]float32)
	if s == nil {
		s = new([]float32)
	}
	defer scratch.Put(s)
	if l.tiles == nil {
		attentionPortable(dst, q, k, v, n, stride, dim, scale, grow(s, 2*n))
		return
	}
	rows, width := len(l.tiles), panelled(n)
	all := grow(s, width*dim+panelled(dim)*n+rows*width)
	keys, values, scores := all[:width*dim], all[width*dim:][:panelled(dim)*n], all[width*dim+panelled(dim)*n:]
	for t := range n {
		transpose(keys[t/panelColumns*panelColumns*dim+t%panelColumns:], k[t*stride:t*stride+dim])
		row := v[t*stride : t*stride+dim]
		for d := 0; d < dim; d += panelColumns {
			copy(values[d*n+t*panelColumns:], row[d:min(d+panelColumns, dim)])
		}
	}
	for r := 0; r < n; {
		tall := nextTile(n-r, rows)
		for c := 0; c < n; c += l.columns {
			l.mulColumns(scores[c:], width, q[r*stride:], stride, keys[c*dim:], dim, 0, &noBias[0], tall, min(l.columns, n-c))
		}
		for i := range tall {
			l.softmax(scores[i*width:i*width+n], scale)
		}
		for c := 0; c < dim; c += l.columns {
			l.mulColumns(dst[r*stride+c:], stride, scores, width, values[c*n:], n, 0, &noBias[0], tall, min(l.columns, dim-c))
		}
		r += tall
	}
}

// grow makes a slice of n values of any content.
func grow(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = aligned[float32](n)
	}
	return (*s)[:n]
}

// transpose lays a row out as a column of a panel.
func transpose(to, row []float32) {
	for i, v := range row {
		to[i*panelColumns] = v
	}
}
