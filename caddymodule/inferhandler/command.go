package inferhandler

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/engine"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "infer",
		Usage: "[--model <ref>] [--engine <name>] [--precision <p>] [--library <path>] [--device <d>] [--json] [<text>...]",
		Short: "Asks a model about texts",
		Long: `
Asks a model about texts, without a server: each argument is one text or, with
no arguments, each line of standard input.

The model is builtin/ner-zh (the default), builtin/sentiment-zh or a directory
in Hugging Face or ModelScope layout. With --json the answers are those of the
inference handler, one JSON object per line.

	$ caddy infer "马云在杭州阿里巴巴总部发表演讲。"
	$ caddy infer --model builtin/sentiment-zh --json "这个产品太棒了!"
	$ caddy infer --model /models/raner < sentences.txt

'caddy infer eval' measures a model on labelled files.
`,
		CobraFunc: setUpCommand,
	})
}

// defaultModel is what `caddy infer` asks when it is not told.
const defaultModel = "builtin/ner-zh"

// commandMaxChars replaces the server's limit: nobody else waits here.
const commandMaxChars = 1_000_000

// commandBatch is how many texts are in work at the same time.
const commandBatch = 32

// modelFlags are the flags that infer and its subcommands share.
type modelFlags struct {
	ref, engine, precision, library, device string
	json                                    bool
}

func setUpCommand(cmd *cobra.Command) {
	var flags modelFlags
	// Persistent, so that `caddy infer eval` has them too.
	f := cmd.PersistentFlags()
	f.StringVarP(&flags.ref, "model", "m", defaultModel, "Built-in model or model directory")
	f.StringVar(&flags.engine, "engine", "", "Engine that computes the network (default \"go\")")
	f.StringVar(&flags.precision, "precision", "", "Precision of the weights: fp32 or int8")
	f.StringVar(&flags.library, "library", "", "Path of the engine's native library")
	f.StringVar(&flags.device, "device", "", "Device that computes: cpu, cuda or cuda:N (default \"cpu\")")
	f.BoolVar(&flags.json, "json", false, "Print JSON")

	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return flags.withModel(cmd.Context(), func(ctx context.Context, m model) error {
			texts, in := args, cmd.InOrStdin()
			if len(texts) == 0 && isTerminal(in) {
				fmt.Fprintln(cmd.ErrOrStderr(), "Type texts, one per line; end with Ctrl-D.")
			}
			p := newPrinter(cmd.OutOrStdout(), m.Info().Task, flags.json)
			return infer(ctx, m, lines(texts, in), p)
		})
	}
	cmd.AddCommand(evalCommand(&flags))
}

// withModel calls f with the model that the flags name.
func (f *modelFlags) withModel(ctx context.Context, do func(context.Context, model) error) error {
	if ctx == nil { // cobra leaves it nil where Execute was given none
		ctx = context.Background()
	}
	if err := checkRef(f.ref); err != nil {
		return err
	}
	m, err := inference.Acquire(f.ref, inference.Options{
		Engine:    f.engine,
		Precision: engine.Precision(f.precision),
		Library:   f.library,
		Device:    engine.Device(f.device),
		MaxChars:  commandMaxChars,
	})
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, m), m.Release())
}

// checkRef helps those who leave "builtin/" out.
func checkRef(ref string) error {
	if isDirectory(ref) || strings.ContainsAny(ref, `/\`) {
		return nil
	}
	return fmt.Errorf("unknown model %q: give %s or a model directory", ref, builtinRefs())
}

// nextText returns io.EOF after the last text.
type nextText func() (string, error)

// lines reads the arguments or, without any, the lines of in that are not
// blank.
func lines(args []string, in io.Reader) nextText {
	if len(args) > 0 {
		return func() (string, error) {
			if len(args) == 0 {
				return "", io.EOF
			}
			text := args[0]
			args = args[1:]
			if text == "" {
				return "", errors.New("one of the texts is empty")
			}
			if !utf8.ValidString(text) {
				return "", errors.New("one of the texts is not valid UTF-8")
			}
			return text, nil
		}
	}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, utf8.UTFMax*commandMaxChars+1)
	number := 0
	return func() (string, error) {
		for scanner.Scan() {
			number++
			text := strings.TrimRight(scanner.Text(), "\r")
			if strings.TrimSpace(text) == "" {
				continue
			}
			if !utf8.ValidString(text) {
				return "", fmt.Errorf("line %d of the input is not valid UTF-8: convert it first, for instance with iconv", number)
			}
			return text, nil
		}
		if err := scanner.Err(); err != nil {
			return "", fmt.Errorf("reading line %d of the input: %w", number+1, err)
		}
		return "", io.EOF
	}
}

// infer prints what the model says of each text.
func infer(ctx context.Context, m model, next nextText, p printer) error {
	for {
		batch, err := take(next, commandBatch)
		if len(batch) > 0 {
			results, _, predictErr := m.Predict(ctx, batch)
			if predictErr != nil {
				return predictErr
			}
			for i := range results {
				if err := p.print(&results[i]); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return p.end()
		}
		if err != nil {
			return err
		}
	}
}

// take returns up to n texts, together with the error that ended them.
func take(next nextText, n int) ([]string, error) {
	var texts []string
	for len(texts) < n {
		text, err := next()
		if err != nil {
			return texts, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
