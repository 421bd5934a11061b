package highlight

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// The helpers of this file read decoded JSON leniently: numbers may be quoted,
// because numpy's scalars become strings in services that stumble over them.

type object = map[string]any

// field returns the first of the named fields that is there and not null.
func field(o object, names ...string) any {
	for _, name := range names {
		if v := o[name]; v != nil {
			return v
		}
	}
	return nil
}

func stringField(o object, names ...string) (string, bool) {
	for _, name := range names {
		if s, ok := o[name].(string); ok {
			return s, true
		}
	}
	return "", false
}

// integer reads an offset. Fractions and what no text is long enough for are no
// offsets.
func integer(v any) (int, bool) {
	f, ok := number(v)
	if !ok || f != math.Trunc(f) || f < 0 || f > math.MaxInt32 {
		return 0, false
	}
	return int(f), true
}

func number(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	case float64:
		text = strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// probability reads a confidence: 0 to 1, with room for rounding.
func probability(v any) (float64, bool) {
	f, ok := number(v)
	if !ok || f < -1e-6 || f > 1+1e-6 {
		return 0, false
	}
	return min(max(f, 0), 1), true
}

func objects(v any) ([]object, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]object, len(list))
	for i, e := range list {
		if out[i], ok = e.(object); !ok {
			return nil, false
		}
	}
	return out, true
}

func stringsOf(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

func arrays(v any) ([][]any, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([][]any, len(list))
	for i, e := range list {
		if out[i], ok = e.([]any); !ok {
			return nil, false
		}
	}
	return out, true
}
