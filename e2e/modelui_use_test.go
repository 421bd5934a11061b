package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// recorded has a service remember the texts that it is asked about.
func recorded(s *stub) (texts func() []string) {
	var mu sync.Mutex
	var list []string
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var request struct{ Text string }
		_ = json.Unmarshal(body, &request)
		mu.Lock()
		list = append(list, request.Text)
		mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer(w, r)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// What an input method shows while a word is being chosen is no text to ask
// about; the word is.
func TestInputMethodsAreLeftAlone(t *testing.T) {
	b, s, _ := openModelUI(t)
	asked := recorded(s)
	b.do(chromedp.Focus(chromedp.CSS("#text")))
	for _, letters := range []string{"m", "ma", "ma yun"} {
		n := int64(len(letters))
		call(b, input.ImeSetComposition, input.ImeSetCompositionParams{Text: letters, SelectionStart: n, SelectionEnd: n})
	}
	time.Sleep(time.Second) // three times the pause after which the page asks
	if texts := asked(); len(texts) != 0 {
		t.Errorf("asked about %q", texts)
	}
	call(b, input.InsertText, input.InsertTextParams{Text: "马云"})
	b.wantMarks("PER 马云")
	for _, text := range asked() {
		if text != "马云" {
			t.Errorf("asked about %q", text)
		}
	}
}

// A node dies while somebody types: the page goes on with the other one.
func TestANodeDiesWhileSomebodyTypes(t *testing.T) {
	b := openBrowser(t)
	nodes := []*stub{newStub(t), newStub(t)}
	addrs := runCaddy(t, `
http://ADDR_PAGE {
	model_ui
	model_proxy /predict `+nodes[0].Listener.Addr().String()+" "+nodes[1].Listener.Addr().String()+` {
		health off
		header_down X-Upstream {http.reverse_proxy.upstream.hostport}
	}
}`)
	b.look(1200, "dark")
	b.do(chromedp.Navigate("http://"+addrs["ADDR_PAGE"]+"/"), chromedp.WaitVisible(chromedp.CSS("#run")), chromedp.Focus(chromedp.CSS("#text")))
	const text = "马云在杭州,特朗普访问白宫,清华大学"
	typed := 0
	for i, r := range []rune(text) {
		if i == 4 {
			nodes[0].CloseClientConnections()
			nodes[0].Close()
		}
		call(b, input.InsertText, input.InsertTextParams{Text: string(r)})
		if typed += len(string(r)); i%4 == 3 {
			b.until(fmt.Sprintf("document.querySelector('.marked')?.textContent === %q", text[:typed]))
			if got := eval[string](b, `document.querySelector("#problem").hidden ? "" : document.querySelector("#problem").innerText`); got != "" {
				t.Errorf("after %q the reader is told: %s", text[:typed], got)
			}
		}
	}
	b.until(fmt.Sprintf("document.querySelector('.marked')?.textContent === %q", text))
	b.wantMarks("PER 马云", "LOC 杭州", "PER 特朗普", "ORG 白宫", "ORG 清华大学")
	if got := eval[string](b, `document.querySelector("#node b").textContent`); got != nodes[1].Listener.Addr().String() {
		t.Errorf("answered by %s, the node that lives is %s", got, nodes[1].Listener.Addr())
	}
}

// openFile gives the batch form a file.
func (b *browser) openFile(name string, content []byte) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.run(`document.getElementById("batch").open = true`)
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.until(`!document.querySelector("#batch-form").hidden`)
}

// saved presses the button and returns the file that the browser would save.
func (b *browser) saved(button string) [][]string {
	b.t.Helper()
	b.run(`window.saved = null;
		URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return "#"; };
		HTMLAnchorElement.prototype.click = () => {};`)
	b.do(chromedp.Click(chromedp.CSS(button)))
	b.until(`window.saved !== null`)
	text := strings.TrimPrefix(eval[string](b, `window.saved`), "\ufeff")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		b.t.Fatalf("%v in %s", err, text)
	}
	return rows
}

// A thousand rows go to the model in this process and come back as a table.
func TestAThousandRows(t *testing.T) {
	b := openBrowser(t)
	addrs := runCaddy(t, "http://ADDR_PAGE {\n\tinference /predict builtin/ner-zh\n\tmodel_ui\n}")
	origin := "http://" + addrs["ADDR_PAGE"]
	b.look(1200, "dark")
	b.do(chromedp.Navigate(origin+"/"), chromedp.WaitVisible(chromedp.CSS("#run")))
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	_ = w.Write([]string{"id", "text"})
	for i := range 1000 {
		text := fmt.Sprintf("马云在杭州阿里巴巴总部发表演讲,第 %d 次。", i)
		switch i {
		case 10:
			text = ""
		case 20:
			text = "=1+1,\"马云\"" // a formula, were it not guarded
		}
		_ = w.Write([]string{fmt.Sprint(i), text})
	}
	w.Flush()
	b.openFile("texts.csv", file.Bytes())
	if got := eval[string](b, `document.querySelector("#batch-file").textContent`); got != "texts.csv: 1,000 texts, CSV, UTF-8" {
		t.Errorf("the form says %q", got)
	}
	b.do(chromedp.Click(chromedp.CSS("#batch-run")))
	b.until(`document.querySelector("#batch-state").textContent.startsWith("1,000 of 1,000") && document.querySelector("#batch-cancel").hidden`)
	b.picture("model_ui-batch")
	rows := b.saved("#batch-save")
	if len(rows) != 1001 || strings.Join(rows[0], ",") != "id,text,LOC,ORG,PER,entities" {
		t.Fatalf("%d rows, the first is %q", len(rows), rows[0])
	}
	for i, row := range rows[1:] {
		switch {
		case row[0] != fmt.Sprint(i):
			t.Fatalf("row %d is %q", i, row)
		case i == 10 && strings.Join(row[2:], "") != "":
			t.Errorf("an empty text gave %q", row)
		case i == 20 && !strings.HasPrefix(row[1], "'="):
			t.Errorf("a spreadsheet would compute %q", row[1])
		case i != 10 && i != 20 && !strings.Contains(row[4], "马云"):
			t.Errorf("row %d: %q", i, row)
		}
	}
	b.settled(origin)
}

// A batch is stopped by the reader, and goes on where it was; a text that the
// service refuses costs its own row.
func TestABatchIsCancelledAndContinued(t *testing.T) {
	b, s, _ := openModelUI(t)
	gate := make(chan struct{})
	var open sync.Once
	t.Cleanup(func() { open.Do(func() { close(gate) }) })
	var mu sync.Mutex
	seen := map[string]int{}
	answered := "" // a text of the one request that is answered before the batch is cancelled
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Text  string
			Texts []string
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Text == "bad" || slices.Contains(request.Texts, "bad") {
			w.WriteHeader(http.StatusBadRequest)
			reply(w, map[string]string{"error": "not this one"})
			return
		}
		mu.Lock()
		first := len(seen) == 0
		for _, text := range append(request.Texts, request.Text) {
			seen[text]++
		}
		if first {
			answered = request.Texts[0]
		}
		mu.Unlock()
		if !first {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		results := []any{}
		for _, text := range request.Texts {
			results = append(results, map[string]any{"text": text, "output": []any{}})
		}
		if request.Texts == nil {
			reply(w, map[string]any{"text": request.Text, "output": []any{}})
			return
		}
		reply(w, map[string]any{"results": results})
	}
	lines := make([]string, 200)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"text":"text %d"}`, i)
	}
	lines[150] = `{"text":"bad"}`
	b.openFile("texts.jsonl", []byte(strings.Join(lines, "\n")))
	b.do(chromedp.Click(chromedp.CSS("#batch-run")))
	b.until(`document.querySelector("#batch-state").textContent.startsWith("32 of 200")`)
	b.do(chromedp.Click(chromedp.CSS("#batch-cancel")))
	b.until(`!document.querySelector("#batch-run").hidden && document.querySelector("#batch-run").textContent === "Continue"`)
	open.Do(func() { close(gate) })
	b.do(chromedp.Click(chromedp.CSS("#batch-run")))
	b.until(`document.querySelector("#batch-state").textContent.startsWith("200 of 200 · 1 failed")`)
	mu.Lock()
	if seen[answered] != 1 {
		t.Errorf("%q was answered and was asked about %d times", answered, seen[answered])
	}
	mu.Unlock()
	rows := b.saved("#batch-save")
	if last := len(rows[0]) - 1; len(rows) != 201 || rows[0][last] != "error" || !strings.Contains(rows[151][last], "not this one") || rows[152][last] != "" {
		t.Errorf("%d rows, %q, %q", len(rows), rows[0], rows[151])
	}
}

func TestAnswersCanBeTakenAway(t *testing.T) {
	b, _, _ := openModelUI(t)
	b.ask("马云在杭州")
	b.wantMarks("PER 马云", "LOC 杭州")
	for tab, want := range map[string]string{
		"json": `"span": "马云"`, "curl": "curl -H 'Content-Type: application/json' -d '{\"text\":\"马云在杭州\"}'",
		"html": `data-label="PER"`, "bio": "马\tB-PER\n云\tI-PER\n在\tO\n杭\tB-LOC\n州\tI-LOC\n", "csv": "PER,0,2,马云,0.987",
	} {
		b.do(chromedp.Click(chromedp.CSS("#tab-" + tab)))
		if got := eval[string](b, `document.querySelector("#view-`+tab+`").textContent`); !strings.Contains(got, want) || !eval[bool](b, `!document.querySelector("#panel-`+tab+`").hidden`) {
			t.Errorf("%s: %q lacks %q", tab, got, want)
		}
	}
	// The address carries the text in its fragment, which no server sees.
	b.do(chromedp.Click(chromedp.CSS("#link")))
	b.do(chromedp.Navigate(eval[string](b, `location.href`)), chromedp.Reload())
	b.wantMarks("PER 马云", "LOC 杭州")
}

func TestUsersOfAssistiveTechnologyAreServed(t *testing.T) {
	b, _, _ := openModelUI(t)
	for _, theme := range []string{"dark", "light"} {
		b.look(1200, theme)
		b.ask("马云在杭州阿里巴巴总部发表演讲,华为P60。")
		b.wantMarks("PER 马云", "LOC 杭州", "ORG 阿里巴巴", "PRODUCT 华为P60")
		b.run(`document.getElementById("batch").open = true`)
		axe(t, b)
		b.run(`document.getElementById("batch").open = false`)
		b.look(720, theme)
		b.picture("model_ui-" + theme)
	}
	b.ask("这个产品太棒了!")
	b.until(`document.querySelector(".verdict")`)
	axe(t, b)
}
