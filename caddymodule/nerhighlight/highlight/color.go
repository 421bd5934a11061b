package highlight

import (
	"fmt"
	"math"
)

// rgb is a colour of sRGB.
type rgb struct{ r, g, b uint8 }

func hex(s string) (c rgb) {
	if _, err := fmt.Sscanf(s, "#%02x%02x%02x", &c.r, &c.g, &c.b); err != nil {
		panic("colour " + s)
	}
	return c
}

func (c rgb) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

// mix lays share of c over base.
func (c rgb) mix(share float64, base rgb) rgb {
	m := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*share + float64(b)*(1-share))) }
	return rgb{m(c.r, base.r), m(c.g, base.g), m(c.b, base.b)}
}

// luminance is WCAG 2.2's relative luminance.
func (c rgb) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast is WCAG 2.2's contrast ratio, 1 to 21.
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	if x < y {
		x, y = y, x
	}
	return (x + 0.05) / (y + 0.05)
}

// hsl makes a colour of hue (degrees), saturation and lightness (0 to 1).
func hsl(h, s, l float64) rgb {
	a := s * min(l, 1-l)
	f := func(n float64) uint8 {
		k := math.Mod(n+h/30, 12)
		return uint8(math.Round(255 * (l - a*max(-1, min(k-3, 9-k, 1)))))
	}
	return rgb{f(0), f(8), f(4)}
}

// legible returns the colour of a hue whose contrast with a background reaches
// a ratio: lighter on dark ones, darker on light ones, no more than needed.
func legible(hue, saturation, ratio float64, background rgb) rgb {
	step, from := -0.01, 0.6
	if background.luminance() < 0.2 {
		step = 0.01
	}
	c := hsl(hue, saturation, from)
	for l := from; l > 0 && l < 1 && contrast(c, background) < ratio; l += step {
		c = hsl(hue, saturation, l)
	}
	return c
}
