package gpuadmin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/text"
)

// barCells is the width of a bar.
const barCells = 10

// bar draws a share, 0 to 1, in eighths of cells.
func bar(share float64, cells int) string {
	eighths := int(math.Round(min(1, max(0, share)) * float64(cells) * 8))
	b := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text.Pad(b, cells, '░')
}

// barPercent is a bar with its number, which is what counts.
func barPercent(share float64) string {
	return fmt.Sprintf("%s %3.0f %%", bar(share, barCells), 100*share)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// visible replaces control and direction characters: what a node says or is
// called must not drive the terminal or break a table's lines.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, s)
}
