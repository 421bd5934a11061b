package kernels

// attentionPortable needs scratch space of 2n values.
func attentionPortable(dst, q, k, v []float32, n, stride, dim int, scale float32, scores []float32) {
	i := 0
	for ; i+2 <= n; i += 2 {
		q0, q1 := q[i*stride:i*stride+dim], q[(i+1)*stride:(i+1)*stride+dim]
		s0, s1 := scores[:n], scores[n:2*n]
		j := 0
		for ; j+tileCols <= n; j += tileCols {
			at := k[j*stride:]
			tile(s0[j:], s1[j:], q0, q1, at[:dim], at[stride:stride+dim], at[2*stride:2*stride+dim])
		}
		for ; j < n; j++ {
			row := k[j*stride : j*stride+dim]
			s0[j], s1[j] = Dot(q0, row), Dot(q1, row)
		}
		attend(dst[i*stride:i*stride+dim], s0, v, stride, scale)
		attend(dst[(i+1)*stride:(i+1)*stride+dim], s1, v, stride, scale)
	}
	for ; i < n; i++ {
		s := scores[:n]
		for j := range s {
			s[j] = Dot(q[i*stride:i*stride+dim], k[j*stride:j*stride+dim])
		}
		attend(dst[i*stride:i*stride+dim], s, v, stride, scale)
	}
}

// attend turns raw scores into weights and sums up the values by them.
func attend(dst, s, v []float32, stride int, scale float32) {
	softmaxPortable(s, scale)
	clear(dst)
	j := 0
	for ; j+4 <= len(s); j += 4 {
		p0, p1, p2, p3 := s[j], s[j+1], s[j+2], s[j+3]
		at := v[j*stride:]
		v0, v1 := at[:len(dst)], at[stride:][:len(dst)] // no bounds checks below
		v2, v3 := at[2*stride:][:len(dst)], at[3*stride:][:len(dst)]
		for d := range dst {
			dst[d] += (p0*v0[d] + p1*v1[d]) + (p2*v2[d] + p3*v3[d])
		}
	}
	for ; j < len(s); j++ {
		p, row := s[j], v[j*stride:][:len(dst)]
		for d := range dst {
			dst[d] += p * row[d]
		}
	}
}
