package goengine

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/builtin"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// copied is a fixture where a cache may be written.
func copied(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(path, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return path
}

func openPrecision(t testing.TB, path string, p engine.Precision, threads int) engine.Engine {
	t.Helper()
	dir, err := modeldir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open("go", dir, engine.Options{Precision: p, Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func logitsOf(t testing.TB, e engine.Engine, batch []engine.Sequence) []float32 {
	t.Helper()
	out, err := e.Run(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	var all []float32
	for _, l := range out {
		all = append(all, l.Data...)
	}
	return all
}

// cosine is the usual measure of how much of a result quantisation keeps.
func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func TestINT8IsCloseToFP32(t *testing.T) {
	for _, name := range []string{"tiny-token", "tiny-sequence"} {
		path := copied(t, name)
		batch := readExpected(t, path).batch()
		e := openPrecision(t, path, engine.INT8, 2)
		if got := e.Info(); got.Precision != engine.INT8 || got.WeightBytes == 0 {
			t.Errorf("%s: %+v", name, got)
		}
		got, want := logitsOf(t, e, batch), logitsOf(t, openPrecision(t, path, engine.FP32, 2), batch)
		c := cosine(got, want)
		t.Logf("%s: cosine %.6f", name, c)
		if c < 0.9995 || slices.Equal(got, want) {
			t.Errorf("%s: cosine %v", name, c)
		}
	}
}

func TestQuantisedWeightsAreReadFromTheCacheTheNextTime(t *testing.T) {
	path := copied(t, "tiny-token")
	batch := readExpected(t, path).batch()
	first := openPrecision(t, path, engine.INT8, 1)
	want := logitsOf(t, first, batch)
	cache := filepath.Join(path, CacheFile)
	before, err := os.Stat(cache)
	if err != nil {
		t.Fatal(err)
	}
	second := openPrecision(t, path, engine.INT8, 1)
	if got := logitsOf(t, second, batch); !slices.Equal(got, want) {
		t.Error("the cache's weights give other logits")
	}
	if second.(*model).loader.int8.cache == nil || first.(*model).loader.int8.cache == nil {
		t.Error("the cache is not in use")
	}
	if first.Info() != second.Info() {
		t.Errorf("%+v and %+v", first.Info(), second.Info())
	}
	after, err := os.Stat(cache)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the cache was written again: %v", err)
	}
	left, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), ".") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
}

func TestCachesThatAreNotWholeOrOfOtherWeightsAreReplaced(t *testing.T) {
	path := copied(t, "tiny-token")
	batch := readExpected(t, path).batch()
	want := logitsOf(t, openPrecision(t, path, engine.INT8, 1), batch)
	cache := filepath.Join(path, CacheFile)
	good, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		return b
	}
	for name, content := range map[string][]byte{
		"empty": {}, "text": []byte("not a cache"), "cut off": good[:len(good)/2], "longer": append(bytes.Clone(good), 0),
		"a bit of the weights": flipped(len(good) / 2), "a bit of the header": flipped(20),
		"another version": bytes.Replace(good, []byte("version 1"), []byte("version 0"), 1),
		"a name":          bytes.Replace(good, []byte("layer.0.output.dense.weight.packed"), []byte("layer.9.output.dense.weight.packed"), 1),
	} {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(content, good) {
				t.Fatal("nothing is broken")
			}
			if err := os.WriteFile(cache, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := logitsOf(t, openPrecision(t, path, engine.INT8, 1), batch); !slices.Equal(got, want) {
				t.Error("other logits")
			}
			if now, err := os.ReadFile(cache); err != nil || !bytes.Equal(now, good) {
				t.Errorf("the cache was not made anew: %v", err)
			}
		})
	}

	// The cache of one model in the directory of another.
	other := copied(t, "tiny-sequence")
	batch = readExpected(t, other).batch()
	want = logitsOf(t, openPrecision(t, other, engine.INT8, 1), batch)
	if err := os.WriteFile(filepath.Join(other, CacheFile), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := logitsOf(t, openPrecision(t, other, engine.INT8, 1), batch); !slices.Equal(got, want) {
		t.Error("another model's weights were used")
	}
}

func TestINT8NeedsNoWritableDirectory(t *testing.T) {
	path := copied(t, "tiny-token")
	batch := readExpected(t, path).batch()
	want := logitsOf(t, openPrecision(t, path, engine.INT8, 1), batch)
	// Permissions do not bind root, a directory in the way binds everyone.
	if err := os.Remove(filepath.Join(path, CacheFile)); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("mapped files cannot be removed here")
		}
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, CacheFile, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := openPrecision(t, path, engine.INT8, 1)
	if got := logitsOf(t, e, batch); !slices.Equal(got, want) {
		t.Error("other logits without a cache")
	}
	if q := e.(*model).loader.int8; q.cache != nil || q.made != nil {
		t.Errorf("%+v", q)
	}
}

func TestTheCacheIsNoPartOfTheDigest(t *testing.T) {
	path := copied(t, "tiny-token")
	digest := func() string {
		dir, err := modeldir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := dir.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := digest()
	openPrecision(t, path, engine.INT8, 1)
	if after := digest(); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestACacheCutOffWhileInUseFailsTheRequestOnly(t *testing.T) {
	path := copied(t, "tiny-token")
	batch := readExpected(t, path).batch()
	for _, threads := range []int{1, 4} {
		e := openPrecision(t, path, engine.INT8, threads)
		if err := os.Truncate(filepath.Join(path, CacheFile), 100); err != nil {
			t.Skipf("this system does not truncate mapped files: %v", err)
		}
		if _, err := e.Run(t.Context(), batch); err == nil || !strings.Contains(err.Error(), "changed while in use") {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnknownPrecisionsAreRefused(t *testing.T) {
	dir, err := modeldir.Open("testdata/tiny-token")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Open("go", dir, engine.Options{Precision: "fp8"}); err == nil || !strings.Contains(err.Error(), "fp8") {
		t.Errorf("got %v", err)
	}
}

func TestBuiltinModelsSayTheSameInINT8(t *testing.T) {
	for _, name := range builtin.Names() {
		t.Run(name, func(t *testing.T) {
			files, _ := builtin.Open(name)
			dir, err := modeldir.OpenFS("builtin/"+name, files)
			if err != nil {
				t.Fatal(err)
			}
			var logits [2][]float32
			for i, p := range []engine.Precision{engine.FP32, engine.INT8} {
				e, err := engine.Open("go", dir, engine.Options{Precision: p})
				if err != nil {
					t.Fatal(err)
				}
				batch := []engine.Sequence{{IDs: []int32{5, 80, 900, 33, 7, 410, 2000, 12}}, {IDs: []int32{64}}}
				logits[i] = logitsOf(t, e, batch)
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
			if c := cosine(logits[0], logits[1]); c < 0.999 || slices.Equal(logits[0], logits[1]) {
				t.Errorf("cosine %v", c)
			}
		})
	}
}
