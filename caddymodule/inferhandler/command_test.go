package inferhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/inference"
)

func TestInferPrintsTablesThatLineUp(t *testing.T) {
	var out bytes.Buffer
	m := &fakeModel{task: ner}
	err := infer(t.Context(), m, lines([]string{"马云在杭州", "Al met ｆｕｌｌ", "。", "a\tb\x1b[31m"}, nil), newPrinter(&out, ner, false))
	if err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{"马云在杭州\n", "│ PER  │ 马云 │     0 │   2 │ 0.875 │\n", "。\nno entities found\n", "a·b·[31m\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for block := range strings.SplitSeq(got, "\n\n") {
		var widths []int
		for line := range strings.Lines(block) {
			if strings.ContainsAny(line, "│─") {
				widths = append(widths, text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")))
			}
		}
		if len(slices.Compact(widths)) > 1 {
			t.Errorf("lines of widths %v in\n%s", widths, block)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("colours or the text's own escapes went to what is no terminal")
	}
}

func TestInferPrintsLabels(t *testing.T) {
	var out bytes.Buffer
	if err := infer(t.Context(), &fakeModel{task: sentiment}, lines([]string{"好", strings.Repeat("很", 50)}, nil), newPrinter(&out, sentiment, false)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "│ positive │ 0.800 │") || !strings.Contains(got, "很…") {
		t.Errorf("got\n%s", got)
	}
}

func TestInferJSONIsTheHandlersAnswer(t *testing.T) {
	var out bytes.Buffer
	input := "马云在杭州\r\n\n  \n<b>\n"
	if err := infer(t.Context(), &fakeModel{task: ner}, lines(nil, strings.NewReader(input)), newPrinter(&out, ner, true)); err != nil {
		t.Fatal(err)
	}
	want := `{"text":"马云在杭州","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.875}]}` + "\n" +
		`{"text":"<b>","output":[{"type":"PER","start":0,"end":2,"span":"<b","prob":0.875}]}` + "\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestHighlightMarksEntitiesOnATerminal(t *testing.T) {
	got := highlight(&inference.Result{Text: "马云在\x1b杭州", Entities: []inference.Entity{
		{Type: "PER", Start: 0, End: 2}, {Type: "LOC", Start: 4, End: 6}, {Type: "ORG", Start: 5, End: 99},
	}})
	if want := "\x1b[4;91m马云\x1b[0m在·\x1b[4;96m杭州\x1b[0m"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestInputThatIsNoTextIsAnError(t *testing.T) {
	for name, next := range map[string]nextText{
		"an empty argument":         lines([]string{"a", ""}, nil),
		"an argument not in UTF-8":  lines([]string{"\xff"}, nil),
		"a line not in UTF-8":       lines(nil, strings.NewReader("a\n\xff\n")),
		"a line without end":        lines(nil, io.LimitReader(endless{}, 10<<20)),
		"a reader that breaks down": lines(nil, io.MultiReader(strings.NewReader("a\n"), broken{})),
	} {
		err := infer(t.Context(), &fakeModel{task: ner}, next, newPrinter(io.Discard, ner, false))
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat("a", len(p))), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// command is `caddy infer` as cobra runs it.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "infer", SilenceUsage: true, SilenceErrors: true}
	setUpCommand(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetIn(strings.NewReader("马云在杭州\n"))
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommandAsksTheModelItIsGiven(t *testing.T) {
	flags := []string{"--engine", "scripted", "--model", modelDir(t), "--json"}
	for _, args := range [][]string{nil, {"马云在杭州"}} {
		got, err := command(t, append(flags, args...)...)
		if err != nil || !strings.HasPrefix(got, `{"text":"马云在杭州","output":[{"type":"PER","start":0,"end":2,`) {
			t.Errorf("%v: %v %s", args, err, got)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--model", "/nowhere", "a"}, "/nowhere"},
		{[]string{"--model", "builtin/nothing", "a"}, "there is no such built-in model"},
		{[]string{"--model", "ner-zh", "a"}, `unknown model "ner-zh": give builtin/ner-zh, builtin/sentiment-zh or a model directory`},
		{[]string{"--precision", "fp64", "a"}, "use fp32 or int8"},
		{[]string{"eval"}, "name a labelled file"},
		{append(slices.Clone(flags), "eval", "missing.iob2"), "evaluating missing.iob2"},
		{append(slices.Clone(flags), "eval", "x.csv"), "finds entities, which a .csv file has none of"},
		{append(slices.Clone(flags), "eval", "x.txt"), "should end in .iob2 (entities) or .csv (classification)"},
	} {
		if _, err := command(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.args, err, tt.want)
		}
	}
	wantUnloaded(t)
}

func TestEvalMeasuresEntities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.iob2")
	// 马云 is right, 杭州 has another type; in the second sentence, whose space
	// only the comment tells of, 州 is missed and 杭州 is right.
	content := `# sent_id = 1
# text = 马云在杭州。
1	马云	B-PER	-	-
2	在	O	-	-
3	杭州	B-ORG	-	-
4	。	O	-	-

# text = 州 杭州
1	州	B-LOC	-	-
2	杭	B-LOC	-	-
3	州	I-LOC	-	-
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--engine", "scripted", "--model", modelDir(t), "eval", file}
	out, err := command(t, append(flags, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	want := map[string]measures{
		"PER": {Precision: 1, Recall: 1, F1: 1, Support: 1},
		"ORG": {Support: 1},
		"LOC": {Precision: 0.5, Recall: 0.5, F1: 0.5, Support: 2},
	}
	for kind, m := range want {
		if r.Classes[kind] != m {
			t.Errorf("%s: %+v, want %+v", kind, r.Classes[kind], m)
		}
	}
	if r.Overall == nil || *r.Overall != (measures{Precision: 2. / 3, Recall: 0.5, F1: 4. / 7, Support: 4}) || r.Texts != 2 {
		t.Errorf("overall %+v, %d texts", r.Overall, r.Texts)
	}
	if out, err = command(t, flags...); err != nil || !strings.Contains(out, "│ all  │     66.67 │  50.00 │  57.14 │       4 │") {
		t.Errorf("%v\n%s", err, out)
	}
	// Twice the same file is the same share of twice as many.
	if out, err = command(t, append(flags, file)...); err != nil || !strings.Contains(out, "on all 2 files: 4 texts in ") ||
		!strings.Contains(out, "│ all  │     66.67 │  50.00 │  57.14 │       8 │") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEvalMeasuresLabelsAgainstTheMajority(t *testing.T) {
	// The fake calls everything positive.
	content := "\ufeffindex,reviewbody,star\n1,好,5.0\n2,\"不,错\",4\n3,一般,3\n4,差,1\n5,好吃,4.5\n6,,5\n"
	m := labelled{&fakeModel{task: sentiment}}
	sum := &outcome{labels: tally{}}
	if err := evaluateLabels(t.Context(), m, strings.NewReader(content), csvColumns{}, []*outcome{sum}); err != nil {
		t.Fatal(err)
	}
	r := sum.report(m.Info(), "reviews.csv")
	if r.Texts != 4 || *r.Accuracy != 0.75 || r.Classes["positive"].Recall != 1 || r.Classes["negative"].F1 != 0 {
		t.Errorf("%+v accuracy %v", r, *r.Accuracy)
	}
	// F1 of positive: 2·3/(2·3+1), of negative 0; the majority answers the same.
	if macro := (6. / 7) / 2; *r.MacroF1 != macro || *r.Majority != (baseline{"positive", 0.75, macro}) {
		t.Errorf("macro F1 %v, majority %+v", *r.MacroF1, r.Majority)
	}
	var out bytes.Buffer
	if err := r.write(&out, false); err != nil || !strings.Contains(out.String(), `accuracy 75.00, macro F1 42.86 (always "positive": 75.00 and 42.86)`) {
		t.Errorf("%v\n%s", err, &out)
	}
}

// labelled is a fake that names its labels.
type labelled struct{ *fakeModel }

func (l labelled) Info() inference.Info {
	info := l.fakeModel.Info()
	info.Labels = []string{"negative", "positive"}
	return info
}

func TestCSVColumnsAndLabelsAreFound(t *testing.T) {
	chinese := []string{"负面", "正面"}
	tests := []struct {
		name, content string
		columns       csvColumns
		want          []labelledText
		err           string
	}{
		{"usual names", "label,text\n1,好\n负面,差\n", csvColumns{}, []labelledText{{"好", "正面"}, {"差", "负面"}}, ""},
		{"given names", "a,b\npos,好\n", csvColumns{text: "b", label: "A"}, []labelledText{{"好", "正面"}}, ""},
		{"no such column", "a,b\n", csvColumns{}, nil, "name one of a, b with --text-column"},
		{"an unknown label", "text,label\n好,joy\n", csvColumns{}, nil, `line 2: label "joy" is none of the model's: 负面, 正面`},
		{"stars that are none", "text,star\n好,many\n", csvColumns{}, nil, `line 2: "many" is not a number of stars`},
		{"an empty file", "", csvColumns{}, nil, "it is empty"},
		{"ragged rows", "text,label\n好\n", csvColumns{}, nil, "wrong number of fields"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readCSV(strings.NewReader(tt.content), tt.columns, chinese)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%v %+v", err, got)
			}
		})
	}
}
