package tokenizer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// added is a token that tokenizer.json or tokenizer_config.json adds to the
// vocabulary. The fields are Hugging Face's.
type added struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
}

// addedTokens collects the tokens that are looked for in texts as they stand.
func addedTokens(vocab map[string]int32, s wordPieceSettings, cfg config) ([]special, error) {
	var list []special
	add := func(t special) {
		if t.content != "" && !slices.ContainsFunc(list, func(o special) bool { return o.content == t.content }) {
			list = append(list, t)
		}
	}
	all := s.added
	if s.defaultSpecials {
		for _, key := range slices.Sorted(maps.Keys(cfg.AddedTokens)) {
			id, err := strconv.ParseInt(key, 10, 32)
			if err != nil || id < 0 {
				return nil, fmt.Errorf("reading %s: added_tokens_decoder has the id %q; ids are numbers", configFile, key)
			}
			t := cfg.AddedTokens[key]
			t.ID = int32(id)
			all = append(all, t)
		}
	}
	for _, t := range all {
		if t.ID < 0 {
			return nil, fmt.Errorf("reading the added token %q: its id is %d; ids begin at 0", t.Content, t.ID)
		}
		if t.Normalized {
			return nil, fmt.Errorf("reading the added token %q: \"normalized\": true is not supported; set it to false in %s and %s", t.Content, jsonFile, configFile)
		}
		add(special{content: t.Content, id: t.ID, left: t.LStrip, right: t.RStrip, whole: t.SingleWord})
	}
	names := slices.Clone(cfg.NeverSplit)
	if s.defaultSpecials {
		names = append(names, cfg.Unk.or("[UNK]"), cfg.Sep.or("[SEP]"), cfg.Pad.or("[PAD]"), cfg.Cls.or("[CLS]"), cfg.Mask.or("[MASK]"))
		for _, t := range cfg.Additional {
			names = append(names, string(t))
		}
	}
	for _, name := range names {
		if id, ok := vocab[name]; ok {
			add(special{content: name, id: id})
		}
	}
	return list, nil
}
