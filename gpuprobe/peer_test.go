package gpuprobe

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// The library that most exporters are made with, in both of its formats.
func TestPagesOfTheRealPrometheusLibraryAreRead(t *testing.T) {
	registry := prometheus.NewRegistry()
	queue := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "my_queue", Help: "a \"quoted\" # help"}, []string{"model"})
	queue.WithLabelValues("a # \"b\" {c} \\ \n").Set(2)
	queue.WithLabelValues("d").Set(3)
	served := prometheus.NewCounter(prometheus.CounterOpts{Name: "my_running_total", Help: "help"})
	served.(prometheus.ExemplarAdder).AddWithExemplar(7, prometheus.Labels{"trace": "x # {"})
	registry.MustRegister(queue, served)

	for name, accept := range map[string]string{"as asked": "", "always OpenMetrics": "application/openmetrics-text;version=1.0.0"} {
		t.Run(name, func(t *testing.T) {
			handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
			format := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if accept != "" {
					r.Header.Set("Accept", accept)
				}
				handler.ServeHTTP(w, r)
				format = w.Header().Get("Content-Type")
			}))
			defer server.Close()
			s, err := read(t, Config{Kind: "prometheus", Address: server.URL, Mapping: map[string]string{
				"queue": "my_queue", "running": "my_running_total", "in_flight": `my_queue{model="d"}`,
			}})
			if err != nil || s.Queue != some(5.) || s.Running != some(7.) || s.InFlight != some(3.) {
				t.Errorf("%v %+v", err, s)
			}
			if got := strings.HasPrefix(format, "application/openmetrics-text"); got != (accept != "") {
				t.Errorf("format %s", format)
			}
		})
	}
}

// largePage is a model server's: a few numbers among thousands of buckets.
func largePage(b *testing.B) []byte {
	page, err := os.ReadFile("testdata/dcgm.txt")
	if err != nil {
		b.Fatal(err)
	}
	out := bytes.NewBuffer(page)
	fmt.Fprintln(out, "# TYPE seconds histogram")
	for i := range 5000 {
		fmt.Fprintf(out, "seconds_bucket{model=\"%d\",le=\"%d\"} 5\n", i/50, i%50)
	}
	return out.Bytes()
}

func BenchmarkParseLargePage(b *testing.B) {
	page := largePage(b)
	b.Run("mapped lines", func(b *testing.B) {
		for b.Loop() {
			if _, err := parseMetrics(page, exporters[0].metrics, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all lines", func(b *testing.B) { // what the mapping saves
		for b.Loop() {
			parser := expfmt.NewTextParser(model.UTF8Validation)
			if _, err := parser.TextToMetricFamilies(bytes.NewReader(page)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLatest(b *testing.B) {
	w, err := NewWatch(Config{Kind: "push", Address: "a"}, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		if r := w.Latest(); r.Failures > 0 {
			b.Fatal(r.Err)
		}
	}
}
