//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	of := func(n int) (sorted []time.Duration) {
		for i := range n {
			sorted = append(sorted, time.Duration(i+1))
		}
		return sorted
	}
	for _, test := range []struct {
		n, p int
		want time.Duration
	}{{1, 50, 1}, {1, 95, 1}, {2, 50, 1}, {3, 50, 2}, {20, 95, 19}, {100, 95, 95}, {101, 95, 96}} {
		if got := percentile(of(test.n), test.p); got != test.want {
			t.Errorf("p%d of 1…%d is %d, want %d", test.p, test.n, got, test.want)
		}
	}
}

func TestOnlyRightAnswersCount(t *testing.T) {
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			_, _ = w.Write([]byte(`{"text":"another","output":[]}`))
		case 2:
			_, _ = w.Write([]byte(`{"text":"马云在杭州阿里巴巴总部发表演讲。"}`))
		default:
			_, _ = w.Write([]byte(`{"text":"马云在杭州阿里巴巴总部发表演讲。","output":[]}`))
		}
	}))
	defer server.Close()
	good := 0
	for range 8 {
		if post(server.Client(), server.URL, texts[0]) == nil {
			good++
		}
	}
	if good != 2 {
		t.Errorf("%d of 8 answers counted, want the 2 right ones", good)
	}
}

func TestTableHasRatiosAtTheSameConcurrency(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.jsonl")
	lines := `{"name":"a","concurrency":1,"per_second":10}
{"name":"a","concurrency":8,"per_second":20}
{"name":"b","concurrency":1,"per_second":15}
{"name":"direct","concurrency":0,"per_second":50}
{"name":"b","concurrency":32,"per_second":15}
`
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := printTable(&table, file, "a"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| b | 1 | 15.0 | 1.50 |", "| direct | – | 50.0 | 2.50 |", "| b | 32 | 15.0 |  |"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if err := printTable(&table, file, "c"); err == nil {
		t.Error("a base that isn't there is no error")
	}
}
