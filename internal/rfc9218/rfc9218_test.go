package rfc9218

import "testing"

func TestUrgencyOfNumbersAndHeaders(t *testing.T) {
	for s, want := range map[string]int{
		"0": 0, "7": 7, " 2 ": 2, "u=5": 5, "u=1, i": 1, "i, u=6": 6,
		"": -1, "8": -1, "-1": -1, "u=9": -1, "urgent": -1, "i": -1, "3, 4": -1, "u=": -1, "u=u=1": -1,
	} {
		u, ok := Urgency(s)
		if ok != (want >= 0) || ok && int(u) != want || !ok && u != Default {
			t.Errorf("%q: %d, %v", s, u, ok)
		}
	}
}
