package highlight

import (
	"context"
	"strconv"
	"time"
)

// Find returns the entities of each of the texts, with offsets in code points.
type Find func(ctx context.Context, texts []string) ([][]Entity, error)

// Options of a Rewriter. Zero means the default.
type Options struct {
	// Find is the model.
	Find Find
	// Charset of the page.
	Charset Charset
	// Format of the page. Default: FormatHTML.
	Format Format
	// MaxBuffer bounds the bytes that are held back, and the longest single
	// token (a tag, a script). A longer token ends the marking: the rest of the
	// page passes. Default: 256 KiB.
	MaxBuffer int
	// MaxBlock is the longest text given to the model, in code points. Longer
	// blocks are cut between sentences. Default: 2000.
	MaxBlock int
	// MaxBatch bounds one call of the model, in code points. Default: 8000.
	MaxBatch int
	// MaxBlocks bounds one call of the model, in texts. Default: 32.
	MaxBlocks int
	// MaxCalls of the model for one page; the rest passes. Default: 200.
	MaxCalls int
	// Timeout of one call. Default: 1 s.
	Timeout time.Duration
	// Budget is the time that one page may spend in the model; the rest
	// passes. Default: 5 s.
	Budget time.Duration
	// Include names Includable elements to be marked all the same.
	Include map[string]bool
	// Skip names more elements that are not marked.
	Skip map[string]bool
	// Stylesheet is the address of MarkStyles, on the page's own site, or "".
	Stylesheet string
	// Policy is what the page's headers say. Policies in the page are added.
	Policy Policy
	// Host of the page's address, for policies that name it.
	Host string

	now     func() time.Time // for tests
	symbols bool             // marks become symbols that no page has, for tests
}

// Format of a page.
type Format int

const (
	// FormatHTML is text/html.
	FormatHTML Format = iota
	// FormatXHTML is application/xhtml+xml.
	FormatXHTML
	// FormatText is plain text, which becomes HTML.
	FormatText
)

func (o *Options) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxBuffer, 256<<10)
	def(&o.MaxBlock, 2000)
	def(&o.MaxBatch, 8000)
	o.MaxBatch = max(o.MaxBatch, o.MaxBlock)
	def(&o.MaxBlocks, 32)
	def(&o.MaxCalls, 200)
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Budget <= 0 {
		o.Budget = 5 * time.Second
	}
	if o.Charset.Name == "" {
		o.Charset = UTF8
	}
	if o.now == nil {
		o.now = time.Now
	}
}

// Reasons why the marking of a page ended early, or some of it is missing.
const (
	ReasonError   = "model_error"    // calls failed
	ReasonTimeout = "model_timeout"  // calls took too long, or the page's budget is used up
	ReasonCalls   = "too_many_calls" // of the model
	ReasonBuffer  = "too_large"      // a single tag or script is over MaxBuffer
)

// Stats tell what became of a page.
type Stats struct {
	Entities int // marked
	Dropped  int // could not be marked where they are
	Blocks   int // of text given to the model
	Calls    int // of the model
	Model    time.Duration
	Reason   string // why something is unmarked; the first such reason
}

// String is the value of a header that tells of a page.
func (s Stats) String() string {
	degraded := "0"
	if s.Reason != "" {
		degraded = s.Reason
	}
	return "entities=" + strconv.Itoa(s.Entities) + ";dropped=" + strconv.Itoa(s.Dropped) +
		";blocks=" + strconv.Itoa(s.Blocks) + ";calls=" + strconv.Itoa(s.Calls) +
		";ms=" + strconv.FormatInt(s.Model.Milliseconds(), 10) + ";degraded=" + degraded
}
