package nerhighlight

import (
	"context"
	"crypto/sha256"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

// cachedEntities is the most that are remembered of one paragraph; one with
// more is looked at anew each time.
const cachedEntities = 256

// cached remembers what was found in up to size texts, by their digests. Pages
// of a site repeat most of their paragraphs.
func cached(find highlight.Find, size int) (highlight.Find, error) {
	known, err := lru.New[[sha256.Size]byte, []highlight.Entity](size)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, texts []string) ([][]highlight.Entity, error) {
		found := make([][]highlight.Entity, len(texts))
		keys := make([][sha256.Size]byte, len(texts))
		var missing []int
		var ask []string
		for i, text := range texts {
			keys[i] = sha256.Sum256([]byte(text))
			entities, ok := known.Get(keys[i])
			if found[i] = entities; !ok {
				missing = append(missing, i)
				ask = append(ask, text)
			}
		}
		metrics.cacheHits.Add(float64(len(texts) - len(ask)))
		if len(ask) == 0 {
			return found, nil
		}
		answers, err := find(ctx, ask)
		if err != nil || len(answers) != len(ask) {
			return answers, err
		}
		for n, i := range missing {
			found[i] = answers[n]
			if len(answers[n]) <= cachedEntities {
				known.Add(keys[i], answers[n])
			}
		}
		return found, nil
	}, nil
}
