package caddyrun

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Golden checks every dir/*.caddyfiletest: a Caddyfile, a line of ten dashes,
// then either the JSON it adapts to or, where that does not start with "{",
// words that its error must contain. It is the format of Caddy's own
// integration tests.
func Golden(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.caddyfiletest"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no *.caddyfiletest in %s", dir)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			golden(t, file)
		})
	}
}

func golden(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	source, want, ok := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n----------\n")
	if !ok {
		t.Fatalf("%s: no line of ten dashes", file)
	}
	want = strings.TrimSpace(want)
	got, err := Adapt(source + "\n")
	if !strings.HasPrefix(want, "{") {
		if err == nil {
			t.Fatalf("adapted, want the error %q", want)
		}
		if !strings.Contains(err.Error(), want) {
			t.Fatalf("error %q, want one with %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if indent(t, got) != indent(t, []byte(want)) {
		t.Errorf("adapted to\n%s\nwant\n%s", indent(t, got), want)
	}
}

func indent(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
