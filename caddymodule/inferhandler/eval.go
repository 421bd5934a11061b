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
`),
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return flags.withModel(cmd.Context(), func(ctx context.Context, m model) error {
				for _, file := range files {
					report, err := evaluate(ctx, m, file, columns)
					if err != nil {
						return fmt.Errorf("evaluating %s: %w", file, err)
					}
					if err := report.write(cmd.OutOrStdout(), flags.json); err != nil {
						return err
					}
				}
				return nil
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

func evaluate(ctx context.Context, m model, file string, columns csvColumns) (*report, error) {
	info := m.Info()
	r := &report{File: file, Model: info.Ref, Digest: info.Digest, Task: string(info.Task)}
	entities := info.Task == modeldir.TokenClassification
	switch ext := strings.ToLower(filepath.Ext(file)); {
	case ext == ".csv" && entities:
		return nil, fmt.Errorf("model %s finds entities, which a .csv file has none of: give an .iob2 file or another --model", info.Ref)
	case ext == ".iob2" && !entities:
		return nil, fmt.Errorf("model %s classifies texts, which an .iob2 file does not: give a .csv file or another --model", info.Ref)
	case ext != ".csv" && ext != ".iob2":
		return nil, errors.New("its name should end in .iob2 (entities) or .csv (classification)")
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if entities {
		return r, r.evaluateEntities(ctx, m, in)
	}
	return r, r.evaluateLabels(ctx, m, in, columns)
}

func (r *report) evaluateLabels(ctx context.Context, m model, in io.Reader, columns csvColumns) error {
	rows, err := readCSV(in, columns, m.Info().Labels)
	if err != nil {
		return err
	}
	sum := tally{}
	err = r.predictAll(ctx, m, len(rows), func(i int) string { return rows[i].text }, func(i int, got *inference.Result) {
		sum.label(rows[i].label, decode.Best(got.Scores).Label)
	})
	if err != nil {
		return err
	}
	r.Classes = sum.classes()
	accuracy, macro := sum.total().measures().Recall, sum.macroF1()
	r.Accuracy, r.MacroF1, r.Majority = &accuracy, &macro, new(baseline)
	r.Majority.Label, r.Majority.Accuracy, r.Majority.MacroF1 = sum.majority()
	return nil
}

// predictAll asks the model about n texts and gives back each result.
func (r *report) predictAll(ctx context.Context, m model, n int, text func(int) string, result func(int, *inference.Result)) error {
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
	r.Texts, r.Seconds = n, time.Since(started).Seconds()
	return nil
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
