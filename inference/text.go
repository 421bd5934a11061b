package inference

import (
	"fmt"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/tokenizer"
	"github.com/caddy-infer/caddy-infer/inference/window"
)

// text turns texts into an engine's sequences: tokens, windows, special tokens.
type text struct {
	tok      tokenizer.Tokenizer
	cls, sep int32
	special  bool // each window is [CLS] … [SEP]
	// window is the most tokens of text in one sequence.
	window int
}

// maxWindow bounds the windows of models that take any length, so that a long
// text becomes several units of work instead of one that blocks a worker. A
// class is of the whole text, and networks were trained on whole ones, so
// classifiers read more at a time: nearly every review fits.
var maxWindow = map[modeldir.Task]int{
	modeldir.TokenClassification:    510,
	modeldir.SequenceClassification: 4096,
}

// newText prepares a tokenizer for a network that takes maxTokens, special ones
// included, or any number when that is 0.
func newText(tok tokenizer.Tokenizer, task modeldir.Task, maxTokens int) (*text, error) {
	t := &text{tok: tok, window: maxWindow[task]}
	t.cls, t.sep, t.special = tok.Special()
	if maxTokens > 0 {
		if t.special {
			maxTokens -= 2
		}
		if maxTokens < 1 {
			return nil, fmt.Errorf("%s: max_position_embeddings leaves no room for text", modeldir.ConfigFile)
		}
		t.window = min(t.window, maxTokens)
	}
	return t, nil
}

// input is one text, ready for the engine.
type input struct {
	tokens  []tokenizer.Token
	windows []window.Window
	// first is the index of its first sequence; an input without any has no
	// tokens and no special ones either.
	first, sequences int
}

// encode returns an input per text, and the sequences of all of them.
func (t *text) encode(texts []string) ([]input, []engine.Sequence) {
	inputs := make([]input, len(texts))
	sequences := make([]engine.Sequence, 0, len(texts))
	for i, s := range texts {
		in := &inputs[i]
		in.tokens = t.tok.Encode(s)
		in.first = len(sequences)
		if len(in.tokens) == 0 && !t.special {
			continue
		}
		in.windows = window.Split(in.tokens, s, t.window)
		in.sequences = len(in.windows)
		for _, w := range in.windows {
			sequences = append(sequences, t.sequence(in.tokens[w.Start:w.End]))
		}
	}
	return inputs, sequences
}

func (t *text) sequence(tokens []tokenizer.Token) engine.Sequence {
	ids := make([]int32, 0, len(tokens)+2)
	if t.special {
		ids = append(ids, t.cls)
	}
	for _, token := range tokens {
		ids = append(ids, token.ID)
	}
	if t.special {
		ids = append(ids, t.sep)
	}
	return engine.Sequence{IDs: ids}
}

// newTagger prepares the decoder of a token classifier.
func newTagger(dir *modeldir.Dir) (*decode.Tagger, error) {
	crf, err := dir.CRF()
	if err != nil {
		return nil, err
	}
	return decode.NewTagger(dir.Config.Labels, (*decode.CRF)(crf))
}

// decode turns the logits of all sequences into results. An engine whose
// answer has another shape than the labels and tokens is an error.
func (c *core) decode(texts []string, inputs []input, logits []engine.Logits) ([]Result, error) {
	results := make([]Result, len(texts))
	for i, in := range inputs {
		results[i].Text = texts[i]
		own := logits[in.first : in.first+in.sequences]
		var err error
		if c.tagger != nil {
			results[i].Entities, err = c.entities(texts[i], in, own)
		} else {
			results[i].Scores, err = c.scores(in, own)
		}
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (c *core) entities(s string, in input, logits []engine.Logits) ([]Entity, error) {
	spans := make([][]decode.Span, len(logits))
	for i, l := range logits {
		w := in.windows[i]
		rows := w.End - w.Start
		if c.text.special {
			if err := c.shape(l, rows+2); err != nil {
				return nil, err
			}
			l = engine.Logits{Rows: rows, Cols: l.Cols, Data: l.Data[l.Cols : (rows+1)*l.Cols]}
		} else if err := c.shape(l, rows); err != nil {
			return nil, err
		}
		spans[i] = c.tagger.Decode(l)
	}
	joined := window.Join(in.windows, spans)
	entities := make([]Entity, 0, len(joined))
	cut := cutter{text: s}
	for _, span := range joined {
		start, end := in.tokens[span.Start].Start, in.tokens[span.End-1].End
		entities = append(entities, Entity{
			Type: span.Type, Start: start, End: end, Span: cut.slice(start, end), Prob: span.Score,
		})
	}
	return entities, nil
}

func (c *core) scores(in input, logits []engine.Logits) ([]decode.LabelScore, error) {
	if len(logits) == 0 { // nothing but white space: the model cannot tell
		scores := make([]decode.LabelScore, len(c.info.Labels))
		for i, label := range c.info.Labels {
			scores[i] = decode.LabelScore{Label: label, Score: 1 / float64(len(scores))}
		}
		return scores, nil
	}
	rows := make([][]float32, len(logits))
	for i, l := range logits {
		if err := c.shape(l, 1); err != nil {
			return nil, err
		}
		rows[i] = l.Row(0)
	}
	return decode.Classify(window.Mean(in.windows, rows), c.info.Labels, c.multi), nil
}

func (c *core) shape(l engine.Logits, rows int) error {
	if l.Rows != rows || l.Cols != len(c.info.Labels) || len(l.Data) != rows*l.Cols {
		return fmt.Errorf("the network answered with %d×%d values instead of %d×%d",
			l.Rows, l.Cols, rows, len(c.info.Labels))
	}
	return nil
}

// cutter slices a text by code points, in one pass over it when the slices
// come in order.
type cutter struct {
	text       string
	char, byte int
}

// slice returns the code points [start, end). It clips what lies outside.
func (c *cutter) slice(start, end int) string {
	if start < c.char {
		c.char, c.byte = 0, 0
	}
	c.advance(start)
	from := c.byte
	c.advance(end)
	return c.text[from:c.byte]
}

func (c *cutter) advance(to int) {
	for c.char < to && c.byte < len(c.text) {
		_, size := utf8.DecodeRuneInString(c.text[c.byte:])
		c.byte += size
		c.char++
	}
}
