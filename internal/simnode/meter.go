package simnode

import "time"

// meter remembers how busy something was, as drivers do: utilisation is the
// share of a past window in which anything ran.
type meter struct {
	marks []mark // in order; the level holds until the next
}

type mark struct {
	at    time.Time
	level float64
}

// horizon is how far back a meter can look.
const horizon = 2 * time.Second

func newMeter(now time.Time) meter { return meter{marks: []mark{{at: now}}} }

func (m *meter) set(now time.Time, level float64) {
	last := &m.marks[len(m.marks)-1]
	if last.level == level {
		return
	}
	if last.at.Equal(now) {
		last.level = level
	} else {
		m.marks = append(m.marks, mark{now, level})
	}
	old := 0
	for old+1 < len(m.marks) && m.marks[old+1].at.Before(now.Add(-horizon)) {
		old++
	}
	if old > 64 { // seldom, so that copying costs nothing
		m.marks = append(m.marks[:0], m.marks[old:]...)
	}
}

// mean is the average level over the window that ends now.
func (m *meter) mean(now time.Time, window time.Duration) float64 {
	from := now.Add(-window)
	var sum float64
	end := now
	for i := len(m.marks) - 1; i >= 0 && end.After(from); i-- {
		begin := m.marks[i].at
		if begin.Before(from) {
			begin = from
		}
		if end.After(begin) {
			sum += m.marks[i].level * end.Sub(begin).Seconds()
			end = begin
		}
	}
	return sum / window.Seconds()
}
