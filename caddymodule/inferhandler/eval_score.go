package inferhandler

import (
	"cmp"
	"maps"
	"slices"
)

// counts are of one class: found and right, found but wrong, and missed.
type counts struct{ truePositive, falsePositive, falseNegative int }

// measures of one class, in JSON as `caddy infer eval --json` prints them.
// Each is 0 where it would divide by nothing.
type measures struct {
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
	// Support is how often the class is in the file.
	Support int `json:"support"`
}

func (c counts) measures() measures {
	return measures{
		Precision: ratio(c.truePositive, c.truePositive+c.falsePositive),
		Recall:    ratio(c.truePositive, c.truePositive+c.falseNegative),
		F1:        ratio(2*c.truePositive, 2*c.truePositive+c.falsePositive+c.falseNegative),
		Support:   c.truePositive + c.falseNegative,
	}
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// tally counts by class.
type tally map[string]counts

func (t tally) add(class string, c counts) {
	sum := t[class]
	sum.truePositive += c.truePositive
	sum.falsePositive += c.falsePositive
	sum.falseNegative += c.falseNegative
	t[class] = sum
}

// label counts one classified text.
func (t tally) label(want, got string) {
	if want == got {
		t.add(want, counts{truePositive: 1})
		return
	}
	t.add(want, counts{falseNegative: 1})
	t.add(got, counts{falsePositive: 1})
}

// total adds all classes up: the micro average.
func (t tally) total() counts {
	sum := tally{}
	for _, c := range t {
		sum.add("", c)
	}
	return sum[""]
}

func (t tally) classes() map[string]measures {
	out := make(map[string]measures, len(t))
	for class, c := range t {
		out[class] = c.measures()
	}
	return out
}

// macroF1 is the mean over the classes that are in the file.
func (t tally) macroF1() float64 {
	sum, n := 0.0, 0
	for _, c := range t {
		if m := c.measures(); m.Support > 0 {
			sum += m.F1
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// majority is what always answering the commonest class would reach.
func (t tally) majority() (class string, accuracy, macroF1 float64) {
	if len(t) == 0 {
		return "", 0, 0
	}
	support := func(class string) int { return t[class].measures().Support }
	names := slices.Sorted(maps.Keys(t))
	class = slices.MaxFunc(names, func(a, b string) int { return cmp.Compare(support(a), support(b)) })
	guess := tally{}
	for _, name := range names {
		if name == class {
			guess.add(name, counts{truePositive: support(name)})
		} else {
			guess.add(name, counts{falseNegative: support(name)})
			guess.add(class, counts{falsePositive: support(name)})
		}
	}
	return class, ratio(support(class), t.total().measures().Support), guess.macroF1()
}
