//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/builtin"
)

// models are directories: two that find the same entities, and one whose weights
// are cut off.
type models struct {
	first, second, broken string
	// prefix of the labels of the model with that digest.
	prefix map[string]string
}

// secondPrefix distinguishes the second model's labels from the first's.
const secondPrefix = "V2"

func writeModels(dir string) (m models, err error) {
	source, ok := builtin.Open("ner-zh")
	if !ok {
		return m, fmt.Errorf("there is no built-in model ner-zh")
	}
	m = models{
		first: filepath.Join(dir, "first"), second: filepath.Join(dir, "second"), broken: filepath.Join(dir, "broken"),
		prefix: make(map[string]string),
	}
	for path, change := range map[string]func(name string, content []byte) []byte{
		m.first:  func(_ string, content []byte) []byte { return content },
		m.second: relabel,
		m.broken: cutOff,
	} {
		if err := copyModel(path, source, change); err != nil {
			return m, err
		}
	}
	for path, prefix := range map[string]string{m.first: "", m.second: secondPrefix} {
		d, err := digest(path)
		if err != nil {
			return m, err
		}
		m.prefix[d] = prefix
	}
	if len(m.prefix) != 2 {
		return m, fmt.Errorf("the two models are one")
	}
	return m, nil
}

func copyModel(to string, from fs.FS, change func(name string, content []byte) []byte) error {
	if err := os.Mkdir(to, 0o750); err != nil {
		return err
	}
	entries, err := fs.ReadDir(from, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		content, err := fs.ReadFile(from, e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), change(e.Name(), content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func relabel(name string, content []byte) []byte {
	if name != "config.json" {
		return content
	}
	for _, tag := range []string{"B", "I", "E", "S"} {
		content = bytes.ReplaceAll(content, []byte(`"`+tag+`-`), []byte(`"`+tag+`-`+secondPrefix))
	}
	return content
}

func cutOff(name string, content []byte) []byte {
	if strings.HasSuffix(name, ".safetensors") {
		return content[:len(content)/2]
	}
	return content
}

// pool is texts and what the first model finds in them.
type pool struct {
	texts    []string
	entities [][]inference.Entity
}

// parts that texts are made of: with them there is something to find.
var parts = []string{
	"马云", "在", "杭州", "阿里巴巴", "总部", "发表演讲", "。", "清华大学", "与", "中科院", "联合发布", "新研究成果", "，", "特朗普",
	"访问", "华盛顿", "白宫", "李娜", "从", "上海", "到", "北京大学", "学习", "法国", "总统", "昨天", "天气很好", "张伟和王芳", "去了广州", "！",
}

// newPool makes n texts, and asks the model in this process.
func newPool(ctx context.Context, dir string, n int, seed uint64) (*pool, error) {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a repeatable choice
	p := &pool{texts: make([]string, n), entities: make([][]inference.Entity, n)}
	for i := range p.texts {
		var text strings.Builder
		fmt.Fprint(&text, i, "：")
		for range 3 + random.IntN(25) {
			text.WriteString(parts[random.IntN(len(parts))])
		}
		p.texts[i] = text.String()
	}
	m, err := inference.Acquire(dir, inference.Options{QueueLength: 2 * n})
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.Release() }()
	for i, text := range p.texts {
		results, _, err := m.Predict(ctx, []string{text})
		if err != nil {
			return nil, err
		}
		p.entities[i] = results[0].Entities
	}
	return p, nil
}
