package healthcheck

import "testing"

func TestThresholdsCountInARow(t *testing.T) {
	for _, test := range []struct {
		name     string
		down     bool
		outcomes string // p passed, f failed, a absent, u unclear, s silent
		want     string // the verdict after each: + up, - down
	}{
		{"three failures", false, "fff", "++-"},
		{"nobody there is a failure", false, "faa", "++-"},
		{"failures between successes", false, "ffpffpff", "++++++++"},
		{"a busy check breaks a row of failures", false, "ffuff", "+++++"},
		{"work excuses silence", false, "sssfuss", "+++++++"},
		{"but none that comes after it", false, "fss", "++-"},
		{"nor makes it a sign of life", true, "psp", "--+"},
		{"two successes", true, "pp", "-+"},
		{"a failure between them", true, "pfpp", "---+"},
		{"busy neither helps nor hinders to rise", true, "puup", "---+"},
		{"down and up again", false, "fffppfff", "++--+++-"},
	} {
		v := verdict{rise: 2, fall: 3, down: test.down}
		got := ""
		for _, o := range test.outcomes {
			v.hear(map[rune]outcome{'p': passed, 'f': failed, 'a': absent, 'u': unclear, 's': silent}[o])
			got += map[bool]string{false: "+", true: "-"}[v.down]
		}
		if got != test.want {
			t.Errorf("%s: %s gives %s, want %s", test.name, test.outcomes, got, test.want)
		}
	}
}
