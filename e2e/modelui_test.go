package e2e

import (
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const cluster = `
http://ADDR_NODE {
	model_ui
	reverse_proxy STUB
}
http://ADDR_GATEWAY {
	handle_path /webui/* {
		reverse_proxy ADDR_NODE {
			header_down X-Upstream {http.reverse_proxy.upstream.hostport}
		}
	}
}`

// openModelUI opens the page as users see it: through a gateway, under a prefix.
func openModelUI(t *testing.T) (*browser, *stub, string) {
	t.Helper()
	b, s := openBrowser(t), newStub(t)
	addrs := runCaddy(t, strings.ReplaceAll(cluster, "STUB", s.Listener.Addr().String()))
	origin := "http://" + addrs["ADDR_GATEWAY"]
	t.Cleanup(func() { b.settled(origin) })
	b.look(1200, "dark")
	b.do(chromedp.Navigate(origin+"/webui/"), chromedp.WaitVisible(chromedp.CSS("#run")))
	return b, s, addrs["ADDR_NODE"]
}

// ask types a text and sends it with the keyboard alone.
func (b *browser) ask(text string) {
	b.t.Helper()
	b.do(chromedp.SetValue(chromedp.CSS("#text"), text), chromedp.Focus(chromedp.CSS("#text")))
	b.do(chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
}

// marked returns type and text of each mark, without the labels CSS draws.
func (b *browser) marked() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#answer mark")].map((m) => m.dataset.type + " " + m.textContent)`)
}

func (b *browser) wantMarks(want ...string) {
	b.t.Helper()
	b.until(`document.querySelector("#result:not([hidden]):not(.stale)")`)
	if got := b.marked(); !reflect.DeepEqual(got, want) {
		b.t.Errorf("marks %q, want %q", got, want)
	}
}

func TestEntitiesAreMarkedInTheirColours(t *testing.T) {
	b, _, node := openModelUI(t)
	b.ask("马云在杭州阿里巴巴总部发表演讲。")
	b.wantMarks("PER 马云", "LOC 杭州", "ORG 阿里巴巴")
	if got := eval[string](b, `document.querySelector(".marked").textContent`); got != "马云在杭州阿里巴巴总部发表演讲。" {
		t.Errorf("the text to copy is %q", got)
	}
	const looks = `[...document.querySelectorAll("#answer mark")].map((m) => {
		const s = getComputedStyle(m), label = getComputedStyle(m, "::after").content;
		return [s.color, s.borderBottomStyle, label].join(" ")
	})`
	for theme, want := range map[string][]string{
		"dark":  {`rgb(255, 107, 107) solid "PER"`, `rgb(0, 229, 255) dashed "LOC"`, `rgb(255, 230, 0) double "ORG"`},
		"light": {`rgb(22, 22, 31) solid "PER"`, `rgb(22, 22, 31) dashed "LOC"`, `rgb(22, 22, 31) double "ORG"`},
	} {
		b.look(1200, theme)
		got := eval[[]string](b, looks)
		for i := range got {
			got[i] = strings.ReplaceAll(strings.ReplaceAll(got[i], "color(srgb 0.0862745 0.0862745 0.121569)", "rgb(22, 22, 31)"), "\n", "")
			for hue, rgb := range map[string]string{"1 0.419608 0.419608": "255, 107, 107", "0 0.898039 1": "0, 229, 255", "1 0.901961 0": "255, 230, 0"} {
				got[i] = strings.Replace(got[i], "color(srgb "+hue+")", "rgb("+rgb+")", 1)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: looks %q, want %q", theme, got, want)
		}
	}
	phases := eval[string](b, `document.querySelector(".latency").textContent`)
	for _, want := range []string{"queue 0.2 ms", "model 3.4 ms", "network", "node " + node} {
		if !strings.Contains(phases, want) {
			t.Errorf("latency line %q lacks %q", phases, want)
		}
	}
}

func TestOffsetsSurviveEveryScript(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.ask("😀馬雲👨‍👩‍👧在ＩＢＭ🇨🇳,北京大学 é𠀀\n杭州")
	b.wantMarks("PER 馬雲", "ORG ＩＢＭ", "ORG 北京", "LOC 北京", "ORG 大学", "LOC 杭州")
	if dropped := eval[int](b, `document.querySelectorAll("#answer p.dim").length`); dropped != 0 {
		t.Error("entities were left out")
	}
}

func TestLegendHidesAType(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.ask("马云在杭州,华为P60")
	b.wantMarks("PER 马云", "LOC 杭州", "PRODUCT 华为P60")
	b.do(chromedp.Click(chromedp.CSS(`.legend .ner-PER`)))
	if got := eval[string](b, `getComputedStyle(document.querySelector("mark.ner-PER")).borderBottomWidth`); got != "0px" {
		t.Errorf("a hidden type still has a line of %s", got)
	}
	b.do(chromedp.Click(chromedp.CSS(`.legend .ner-PER`)))
	if got := eval[string](b, `getComputedStyle(document.querySelector("mark.ner-PER")).borderBottomWidth`); got != "3px" {
		t.Errorf("shown again it has a line of %s", got)
	}
}

func TestSentimentHasLabelAndBars(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.run(`[...document.querySelectorAll(".example")].find((e) => e.textContent.includes("太棒了")).click()`)
	b.until(`document.querySelector(".verdict")`)
	if got := eval[string](b, `document.querySelector(".verdict").textContent`); got != "▲ Positive 97.0 %" {
		t.Errorf("verdict %q", got)
	}
	widths := eval[[]float64](b, `[...document.querySelectorAll(".fill")].map((f) => f.getBoundingClientRect().width / f.parentNode.getBoundingClientRect().width)`)
	if len(widths) != 2 || widths[0] < 0.96 || widths[0] > 0.98 || widths[1] > 0.04 {
		t.Errorf("bars %v, want 0.97 and 0.03", widths)
	}
	for _, theme := range []string{"dark", "light"} {
		b.look(1200, theme)
		b.picture("model_ui-sentiment-" + theme)
	}
}

func TestBusyServiceIsAskedAgain(t *testing.T) {
	b, s, _ := openModelUI(t)
	var calls atomic.Int32
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			reply(w, map[string]string{"error": "queue is full"})
			return
		}
		answer(w, r)
	}
	b.ask("马云在杭州")
	b.until(`document.getElementById("problem").innerText.includes("queue is full")`)
	if got := eval[string](b, `document.getElementById("problem").innerText`); !strings.Contains(got, "busy") || !strings.Contains(got, "Trying again in 1 s") {
		t.Errorf("the page says %q", got)
	}
	b.picture("model_ui-busy")
	b.wantMarks("PER 马云", "LOC 杭州")
	if !eval[bool](b, `document.getElementById("problem").hidden`) {
		t.Error("the problem is still shown after it has passed")
	}
}

func TestLostNetworkIsToldAndCanBeRetried(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.offline(true)
	b.ask("马云在杭州")
	b.until(`document.getElementById("problem").innerText.includes("can't be reached")`)
	b.offline(false)
	b.do(chromedp.Click(chromedp.CSS("#retry")))
	b.wantMarks("PER 马云", "LOC 杭州")
}

func TestErrorsOfTheServiceAreReadable(t *testing.T) {
	b, s, _ := openModelUI(t)
	for status, want := range map[int]string{
		400: "rejected", 404: "no model at /webui/predict", 413: "too long", 418: "HTTP status 418", 500: "HTTP status 500",
	} {
		s.handler = func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			reply(w, map[string]string{"error": "<b>why</b>"})
		}
		b.ask("马云")
		b.until(`document.getElementById("problem").innerText.includes("` + want + `") && document.getElementById("problem").innerText.includes("<b>why</b>")`)
	}
	s.handler = func(w http.ResponseWriter, _ *http.Request) { reply(w, "hello") }
	b.ask("马云")
	b.until(`document.getElementById("problem").innerText.includes("not the JSON")`)
}

func TestHostileAnswersStayText(t *testing.T) {
	b, s, _ := openModelUI(t)
	const evil = `"><img src=x onerror="document.title='owned'">`
	s.handler = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server-Timing", `<img>;dur=1`)
		w.Header().Set("X-Node", evil)
		reply(w, map[string]any{"text": evil + "马云", "output": []any{
			entity{Type: evil, Start: 0, End: 5, Span: evil[:5], Prob: 0.5},
			entity{Type: "PER", Start: -1, End: 1e9, Span: "马云"},
			map[string]any{"type": map[string]int{}, "start": "0", "end": nil, "prob": evil},
			nil,
		}})
	}
	b.ask("马云")
	b.until(`!document.querySelector("#result").hidden`)
	if n := eval[int](b, `document.querySelectorAll("#result img, #result script").length`); n != 0 {
		t.Errorf("%d elements came out of the answer", n)
	}
	if got := eval[string](b, `document.title`); got == "owned" {
		t.Error("a script of the answer ran")
	}
	s.handler = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"label": evil, "score": evil, "labels": []any{nil, evil}, "scores": []any{evil, nil}})
	}
	b.ask("马云")
	b.until(`document.querySelector(".verdict")`)
	if n := eval[int](b, `document.querySelectorAll("#result img, #result script").length`); n != 0 {
		t.Errorf("%d elements came out of the classification", n)
	}
}

func TestLanguageSwitchKeepsWhatWasTyped(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.ask("马云在杭州")
	b.wantMarks("PER 马云", "LOC 杭州")
	b.do(chromedp.Focus(chromedp.CSS("#lang")), chromedp.KeyEvent(kb.Enter))
	b.until(`document.documentElement.lang === "zh" && document.getElementById("run").innerText.includes("开始分析")`)
	if got := eval[string](b, `document.getElementById("text").value`); got != "马云在杭州" {
		t.Errorf("after the switch the text is %q", got)
	}
	if got := eval[string](b, `document.querySelector(".legend").innerText`); !strings.Contains(got, "人名") {
		t.Errorf("the legend is still %q", got)
	}
	b.do(chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("#run")))
	b.until(`document.title === "文本分析"`) // the choice is kept
}

func TestPageFitsEveryWindow(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.ask("马云在杭州阿里巴巴总部发表演讲。清华大学与中科院联合发布新研究成果。特朗普访问华盛顿特区白宫。北京大学的😀馬雲用华为P60。")
	b.until(`document.querySelectorAll("#answer mark").length > 8`)
	for _, width := range []int64{360, 1200} {
		for _, theme := range []string{"dark", "light"} {
			b.look(width, theme)
			if got := eval[int64](b, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("the page is %d px wide in a window of %d", got, width)
			}
			b.picture("model_ui-" + map[int64]string{360: "narrow", 1200: "wide"}[width] + "-" + theme)
		}
	}
	b.run(`document.getElementById("lang").click(); document.querySelectorAll("details").forEach((d) => d.open = true)`)
	b.look(360, "light")
	if got := eval[int64](b, `document.documentElement.scrollWidth`); got > 360 {
		t.Errorf("with everything open the page is %d px wide", got)
	}
	b.picture("model_ui-narrow-zh-open")
}

func TestWithoutScriptThePageSaysWhatToDo(t *testing.T) {
	b, _, _ := openModelUI(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.do(chromedp.Reload())
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("main")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "curl") {
		t.Errorf("the page says %q", text)
	}
	b.picture("model_ui-noscript")
}
