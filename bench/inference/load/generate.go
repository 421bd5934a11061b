//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// texts are the sentences of the articles' own load test, sent in turn.
var texts = []string{"马云在杭州阿里巴巴总部发表演讲。", "清华大学与中科院联合发布新研究成果。", "特朗普访问华盛顿特区白宫。"}

// result is one line of the results. Times are in ms, memory in MB of 2^20 bytes.
type result struct {
	Name        string  `json:"name"`
	Concurrency int     `json:"concurrency"` // 0: no server, called directly
	PerSecond   float64 `json:"per_second"`  // good answers
	P50         float64 `json:"p50_ms"`
	P95         float64 `json:"p95_ms"`
	Errors      int     `json:"errors"`
	RSS         float64 `json:"rss_mb"`                   // of all processes of the server, at the end
	Anonymous   float64 `json:"anon_mb,omitempty"`        // of that, what is no file's
	CPU         float64 `json:"cpu_ms,omitempty"`         // of the server, per answer
	Batch       float64 `json:"batch,omitempty"`          // mean size
	Others      float64 `json:"others_percent,omitempty"` // of the machine's CPU time, used by neither server nor load
}

// generate keeps concurrency requests under way for the given time and returns
// the latency of each good answer, sorted, and how many were not good.
func generate(url string, concurrency int, d time.Duration) (latencies []time.Duration, failed int) {
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()

	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range concurrency {
		wg.Go(func() {
			for i := worker; ctx.Err() == nil; i++ {
				begin := time.Now()
				err := post(client, url, texts[i%len(texts)])
				took := time.Since(begin)
				mu.Lock()
				if err != nil {
					failed++
				} else {
					latencies = append(latencies, took)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(latencies)
	return latencies, failed
}

// post sends one text and checks that an answer for it came back.
func post(client *http.Client, url, text string) error {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return err
	}
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Text   string
		Output []any
	}
	answerBody, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s: %.200s", resp.Status, answerBody)
	}
	if err := json.Unmarshal(answerBody, &answer); err != nil || answer.Text != text || answer.Output == nil {
		return fmt.Errorf("unexpected answer %.200s", answerBody)
	}
	return nil
}

func waitReady(url string, p *process) error {
	var last error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if p.ended() {
			return fmt.Errorf("the server ended before it answered: %w", last)
		}
		if last = post(http.DefaultClient, url, texts[0]); last == nil {
			return nil
		}
	}
	return fmt.Errorf("waiting for the server: %w", last)
}

func measure(url, metrics string, concurrency int, d time.Duration, p *process) (result, error) {
	batchesBefore, err := batchSizes(metrics)
	if err != nil {
		return result{}, err
	}
	before, begin := usage(p), time.Now()
	latencies, failed := generate(url, concurrency, d)
	took, after := time.Since(begin), usage(p)
	batchesAfter, err := batchSizes(metrics)
	if err != nil {
		return result{}, err
	}
	if len(latencies) == 0 {
		return result{}, fmt.Errorf("no good answer among %d", failed)
	}
	r := result{
		Concurrency: concurrency, Errors: failed,
		PerSecond: float64(len(latencies)) / took.Seconds(),
		P50:       milliseconds(percentile(latencies, 50)), P95: milliseconds(percentile(latencies, 95)),
		RSS: after.rss, Anonymous: after.anon,
		CPU: 1000 * (after.server - before.server) / float64(len(latencies)),
	}
	if total := after.total - before.total; total > 0 {
		own := after.server - before.server + after.self - before.self
		r.Others = max(0, 100*(after.busy-before.busy-own)/total)
	}
	if n := batchesAfter.count - batchesBefore.count; n > 0 {
		r.Batch = (batchesAfter.sum - batchesBefore.sum) / n
	}
	return r, nil
}

// percentile returns the smallest latency that p percent do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

type histogram struct{ sum, count float64 }

// batchSizes reads the batch-size histogram, summed over models.
func batchSizes(url string) (h histogram, err error) {
	if url == "" {
		return h, nil
	}
	resp, err := http.Get(url) //nolint:gosec // the address is the caller's own server
	if err != nil {
		return h, fmt.Errorf("reading metrics: %w", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		v, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case strings.HasPrefix(name, "caddy_inference_batch_size_sum{"):
			h.sum += v
		case strings.HasPrefix(name, "caddy_inference_batch_size_count{"):
			h.count += v
		}
	}
	return h, nil
}
