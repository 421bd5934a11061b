package inferhandler

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// BenchmarkHandler is the handler's own cost per request, with a model that
// answers at once: reading, parsing, answering, metrics. req/s at 1, 8 and 32
// concurrent clients.
func BenchmarkHandler(b *testing.B) {
	const sentence = "马云在杭州阿里巴巴总部发表演讲。"
	for _, body := range []struct{ name, json string }{
		{"text", `{"text":"` + sentence + `"}`},
		{"texts=32", `{"texts":["` + strings.Repeat(sentence+`","`, 31) + sentence + `"]}`},
	} {
		for _, clients := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/clients=%d", body.name, clients), func(b *testing.B) {
				h := newHandler(&fakeModel{task: ner})
				b.ReportAllocs()
				b.SetBytes(int64(len(body.json)))
				requests := make(chan struct{})
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for range requests {
							r := httptest.NewRequest(http.MethodPost, "/predict", strings.NewReader(body.json))
							r.Header.Set("Content-Type", "application/json")
							w := discard{http.Header{}}
							if err := h.ServeHTTP(w, r, nil); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					requests <- struct{}{}
				}
				close(requests)
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			})
		}
	}
}

// discard is a ResponseWriter that costs nothing itself.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
