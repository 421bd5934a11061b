package modeldir

import (
	"fmt"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// CRF are the trained scores of a linear-chain conditional random field on
// top of the logits. Its fields are those of decode.CRF, so that one converts
// to the other.
type CRF struct {
	// Transitions[i][j] scores label i followed by label j.
	Transitions [][]float32
	// Start and End score a label at the first and the last token.
	Start, End []float32
}

// The names that pytorch-crf, ModelScope's RaNER and AdaSeq give the tensors,
// after whatever the model's own class puts before them.
const (
	crfTransitions = "crf.transitions"
	crfStart       = "crf.start_transitions"
	crfEnd         = "crf.end_transitions"
)

// CRF reads the model's CRF from model.safetensors, or from crf.safetensors
// where only model.onnx holds the network. It returns nil, nil for a model
// that has none.
func (d *Dir) CRF() (*CRF, error) {
	for _, name := range []string{WeightsFile, CRFFile} {
		if !d.Has(name) {
			continue
		}
		file, err := d.tensors(name)
		if err != nil {
			return nil, err
		}
		crf, err := readCRF(file, len(d.Config.Labels))
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("loading model %s: reading %s: %w", d.Name, name, err)
		}
		if crf != nil {
			return crf, nil
		}
	}
	return nil, nil
}

func readCRF(file *safetensors.File, labels int) (*CRF, error) {
	prefix, found := "", false
	for _, name := range file.Names() {
		if p, ok := strings.CutSuffix(name, crfTransitions); ok && (p == "" || strings.HasSuffix(p, ".")) {
			prefix, found = p, true
			break
		}
	}
	if !found {
		return nil, nil
	}
	flat, err := crfTensor(file, prefix+crfTransitions, labels, labels)
	if err != nil {
		return nil, err
	}
	crf := &CRF{Transitions: make([][]float32, labels)}
	for i := range crf.Transitions {
		crf.Transitions[i] = flat[i*labels : (i+1)*labels : (i+1)*labels]
	}
	if crf.Start, err = crfTensor(file, prefix+crfStart, labels); err != nil {
		return nil, err
	}
	if crf.End, err = crfTensor(file, prefix+crfEnd, labels); err != nil {
		return nil, err
	}
	return crf, nil
}

// crfTensor copies a tensor out of a file that is about to be closed.
func crfTensor(file *safetensors.File, name string, shape ...int) ([]float32, error) {
	t, ok := file.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", name)
	}
	if fmt.Sprint(t.Shape) != fmt.Sprint(shape) {
		return nil, fmt.Errorf("tensor %q has the shape %v, expected %v: one row for each label", name, t.Shape, shape)
	}
	values, err := file.Float32s(name)
	if err != nil {
		return nil, err
	}
	return append([]float32(nil), values...), nil
}
