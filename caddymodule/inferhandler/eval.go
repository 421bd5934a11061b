package inferhandler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func evalCommand(flags *modelFlags) *cobra.Command {
	var columns csvColumns
	cmd := &cobra.Command{
		Use:   "eval [--model <ref>] [--json] <file>...",
		Short: "Measures a model on labelled files",
		Long: strings.TrimSpace(`
Measures a model on labelled files.

Entities: an .iob2 file (CoNLL columns, BIO tags) gives precision, recall and
F1 by type and over all. An entity counts when type, start and end are right.

Classification: a .csv file whose first row names the columns gives accuracy,
F1 by label, macro F1, and what always answering the commonest label would
reach. A column named star, stars or rating counts 4 and more as positive, 2 and
less as negative, and leaves the rest out.

	$ caddy infer eval test.iob2
	$ caddy infer eval --model builtin/sentiment-zh reviews.csv

Several files are reported one by one and together.
`),
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return errors.New("name a labelled file: .iob2 for entities, .csv for classification")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			return flags.withModel(cmd.Context(), func(ctx context.Context, m model) error {
				return evaluateAll(ctx, m, files, columns, func(r *report) error {
					return r.write(cmd.OutOrStdout(), flags.json)
				})
			})
		},
	}
	cmd.Flags().StringVar(&columns.text, "text-column", "", "Column of the text in a CSV file")
	cmd.Flags().StringVar(&columns.label, "label-column", "", "Column of the label in a CSV file")
	return cmd
}

// report is the outcome for one file.
type report struct {
	File   string `json:"file"`
	Model  string `json:"model"`
	Digest string `json:"digest"`
	Task   string `json:"task"`
	Texts  int    `json:"texts"`
	// Seconds that the model took.
	Seconds float64             `json:"seconds"`
	Classes map[string]measures `json:"classes"`

	// Entities: over all types.
	Overall *measures `json:"overall,omitempty"`

	// Classification.
	Accuracy *float64  `json:"accuracy,omitempty"`
	MacroF1  *float64  `json:"macro_f1,omitempty"`
	Majority *baseline `json:"majority_baseline,omitempty"`
}

// baseline is what always answering one label reaches.
type baseline struct {
	Label    string  `json:"label"`
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
}

// outcome is what a model got right and wrong.
type outcome struct {
	texts    int
	took     time.Duration
	entities decode.Evaluation
	labels   tally
}

// evaluateAll reports on each file and, of several, on all together.
func evaluateAll(ctx context.Context, m model, files []string, columns csvColumns, show func(*report) error) error {
	all := &outcome{labels: tally{}}
	for _, file := range files {
		one := &outcome{labels: tally{}}
		if err := evaluate(ctx, m, file, columns, one, all); err != nil {
			return fmt.Errorf("evaluating %s: %w", file, err)
		}
		if err := show(one.report(m.Info(), file)); err != nil {
			return err
		}
	}
	if len(files) < 2 {
		return nil
	}
	return show(all.report(m.Info(), fmt.Sprintf("all %d files", len(files))))
}

// evaluate adds a file's outcome to each of sums.
func evaluate(ctx context.Context, m model, file string, columns csvColumns, sums ...*outcome) error {
	info := m.Info()
	entities := info.Task == modeldir.TokenClassification
	switch ext := strings.ToLower(filepath.Ext(file)); {
	case ext == ".csv" && entities:
		return fmt.Errorf("model %s finds entities, which a .csv file has none of: give an .iob2 file or another --model", info.Ref)
	case ext == ".iob2" && !entities:
		return fmt.Errorf("model %s classifies texts, which an .iob2 file does not: give a .csv file or another --model", info.Ref)
	case ext != ".csv" && ext != ".iob2":
		return errors.New("its name should end in .iob2 (entities) or .csv (classification)")
	}
	in, err := os.Open(file) //nolint:gosec // the user names the file to measure on
	if err != nil {
		return err
	}
	defer in.Close()
	if entities {
		return evaluateEntities(ctx, m, in, sums)
	}
	return evaluateLabels(ctx, m, in, columns, sums)
}

func evaluateLabels(ctx context.Context, m model, in io.Reader, columns csvColumns, sums []*outcome) error {
	rows, err := readCSV(in, columns, m.Info().Labels)
	if err != nil {
		return err
	}
	return predictAll(ctx, m, len(rows), sums, func(i int) string { return rows[i].text }, func(i int, got *inference.Result) {
		for _, sum := range sums {
			sum.labels.label(rows[i].label, decode.Best(got.Scores).Label)
		}
	})
}

// predictAll asks the model about n texts and gives back each result.
func predictAll(ctx context.Context, m model, n int, sums []*outcome, text func(int) string, result func(int, *inference.Result)) error {
	if n == 0 {
		return errors.New("it has no texts to measure on")
	}
	started := time.Now()
	for from := 0; from < n; from += commandBatch {
		to := min(from+commandBatch, n)
		texts := make([]string, 0, commandBatch)
		for i := from; i < to; i++ {
			texts = append(texts, text(i))
		}
		results, _, err := m.Predict(ctx, texts)
		if err != nil {
			return err
		}
		for i := range results {
			result(from+i, &results[i])
		}
	}
	for _, sum := range sums {
		sum.texts += n
		sum.took += time.Since(started)
	}
	return nil
}

func (o *outcome) report(info inference.Info, file string) *report {
	r := &report{
		File: file, Model: info.Ref, Digest: info.Digest, Task: string(info.Task),
		Texts: o.texts, Seconds: o.took.Seconds(),
	}
	if info.Task == modeldir.TokenClassification {
		r.Classes = make(map[string]measures)
		for _, kind := range o.entities.Types() {
			r.Classes[kind] = measuresOf(o.entities.Type(kind))
		}
		overall := measuresOf(o.entities.Micro())
		r.Overall = &overall
		return r
	}
	r.Classes = o.labels.classes()
	accuracy, macro := o.labels.total().measures().Recall, o.labels.macroF1()
	r.Accuracy, r.MacroF1, r.Majority = &accuracy, &macro, new(baseline)
	r.Majority.Label, r.Majority.Accuracy, r.Majority.MacroF1 = o.labels.majority()
	return r
}

func (r *report) write(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	percent := func(v float64) string { return fmt.Sprintf("%.2f", 100*v) }
	row := func(name string, m measures) table.Row {
		return table.Row{visible(name), percent(m.Precision), percent(m.Recall), percent(m.F1), m.Support}
	}
	first := "label"
	if r.Overall != nil {
		first = "type"
	}
	t := newTable(first, "precision", "recall", "f1", "support")
	t.SetColumnConfigs([]table.ColumnConfig{rightAligned(2), rightAligned(3), rightAligned(4), rightAligned(5)})
	for _, class := range slices.Sorted(maps.Keys(r.Classes)) {
		t.AppendRow(row(class, r.Classes[class]))
	}
	if r.Overall != nil {
		t.AppendSeparator()
		t.AppendRow(row("all", *r.Overall))
	}
	if _, err := fmt.Fprintf(out, "%s on %s: %d texts in %.1f s\n%s\n", r.Model, r.File, r.Texts, r.Seconds, t.Render()); err != nil {
		return err
	}
	if r.Accuracy == nil {
		return nil
	}
	_, err := fmt.Fprintf(out, "accuracy %s, macro F1 %s (always %q: %s and %s)\n",
		percent(*r.Accuracy), percent(*r.MacroF1), r.Majority.Label, percent(r.Majority.Accuracy), percent(r.Majority.MacroF1))
	return err
}
