package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// axe has axe-core check the page as it stands now, and fails the test for
// what users of assistive technology would stumble over: violations that
// axe-core calls serious or critical. The lesser ones it logs.
//
// AXE_CORE names the file axe.min.js of npm's axe-core, as `npm install
// axe-core@4.14.1` leaves it in node_modules/axe-core.
func axe(t *testing.T, b *browser) {
	t.Helper()
	file := os.Getenv("AXE_CORE")
	if file == "" {
		t.Skip("no axe-core here: run npm install axe-core@4.14.1 somewhere, and name its axe.min.js in AXE_CORE")
	}
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// As the debugger does it, not as a script element: the pages' policy allows none.
	if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[chromedp.Void](string(script)+"; undefined")); err != nil {
		t.Fatalf("loading axe-core: %v", err)
	}
	type violation struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	violations, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]violation](
		`axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map((v) => ({
			id: v.id, impact: v.impact, help: v.help,
			nodes: v.nodes.map((n) => ({html: n.html, failureSummary: n.failureSummary})),
		})))`,
		chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("running axe-core: %v", err)
	}
	for _, v := range violations {
		say := t.Logf
		if v.Impact == "serious" || v.Impact == "critical" {
			say = t.Errorf
		}
		for _, n := range v.Nodes {
			say("axe-core: %s (%s, %s) at %s: %s", v.Help, v.ID, v.Impact, n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " "))
		}
	}
}
