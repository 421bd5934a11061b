package modeldir

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// configFiles are the contents of the files that describe a model; nil where
// a file is missing.
type configFiles struct{ config, modelScope, labelMapping []byte }

// hfConfig is what we read of Hugging Face's config.json.
type hfConfig struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	ProblemType   string   `json:"problem_type"`
	MaxPositions  int      `json:"max_position_embeddings"`
	NumLabels     int      `json:"num_labels"`
	labelMaps
}

// msConfig is what we read of ModelScope's configuration.json. RaNER has
// task "named-entity-recognition" and model.type "transformer-crf",
// StructBERT's classifiers "text-classification" and "structbert".
type msConfig struct {
	Task  string `json:"task"`
	Model struct {
		Type      string `json:"type"`
		ModelType string `json:"model_type"`
		Backbone  struct {
			Type string `json:"type"`
		} `json:"backbone"`
		labelMaps
	} `json:"model"`
	Preprocessor labelMaps `json:"preprocessor"`
}

// families maps the spellings of model_type to the network they mean.
// StructBERT ("sbert", "structbert") differs from BERT in how it was trained,
// not in its network.
var families = map[string]string{
	"bert": "bert", "structbert": "bert", "sbert": "bert", "transformer-crf": "bert",
	"charcnn": "charcnn",
}

// tasks maps ModelScope's task names to ours.
var tasks = map[string]Task{
	"token-classification":     TokenClassification,
	"named-entity-recognition": TokenClassification,
	"word-segmentation":        TokenClassification,
	"part-of-speech":           TokenClassification,
	"text-classification":      SequenceClassification,
	"sentiment-classification": SequenceClassification,
}

func (f configFiles) parse() (Config, error) {
	var hf hfConfig
	if err := json.Unmarshal(f.config, &hf); err != nil {
		return Config{}, fmt.Errorf("parsing %s: %w", ConfigFile, err)
	}
	var ms msConfig
	if f.modelScope != nil {
		if err := json.Unmarshal(f.modelScope, &ms); err != nil {
			return Config{}, fmt.Errorf("parsing %s: %w", ModelScopeFile, err)
		}
	}
	c := Config{
		MultiLabel: hf.ProblemType == "multi_label_classification",
		MaxTokens:  hf.MaxPositions,
		Raw:        json.RawMessage(f.config),
	}
	if c.MaxTokens < 0 {
		return Config{}, fmt.Errorf("%s: max_position_embeddings is %d", ConfigFile, c.MaxTokens)
	}
	var err error
	if c.Architecture, c.Task, err = architecture(hf, ms); err != nil {
		return Config{}, err
	}
	c.ModelType = family(hf, ms, c.Architecture)
	if c.Labels, err = f.labels(hf, ms); err != nil {
		return Config{}, err
	}
	return c, nil
}

// architecture finds the task, and the class name that says it. ModelScope's
// configuration.json wins: RaNER's config.json still names the architecture
// that the encoder was trained as.
func architecture(hf hfConfig, ms msConfig) (string, Task, error) {
	class := ""
	if len(hf.Architectures) > 0 {
		class = hf.Architectures[0]
	}
	classTask := taskOf(class)
	task, known := tasks[ms.Task]
	if !known {
		task = classTask
	}
	switch {
	case task == "" && class == "" && ms.Task == "":
		return "", "", fmt.Errorf("%s has no \"architectures\": add [\"BertForTokenClassification\"] or "+
			"[\"BertForSequenceClassification\"], whichever the model is", ConfigFile)
	case task == "":
		return "", "", fmt.Errorf("architecture %q, task %q: neither classifies tokens (…ForTokenClassification) "+
			"nor texts (…ForSequenceClassification), which is what this program serves", class, ms.Task)
	case ms.Model.Type == "transformer-crf" && task == TokenClassification:
		return "TransformerCRFForNamedEntityRecognition", task, nil
	case classTask == task:
		return class, task, nil
	case task == TokenClassification:
		return "BertForTokenClassification", task, nil
	}
	return "BertForSequenceClassification", task, nil
}

func taskOf(class string) Task {
	switch {
	case strings.HasSuffix(class, "ForTokenClassification"):
		return TokenClassification
	case strings.HasSuffix(class, "ForSequenceClassification"):
		return SequenceClassification
	}
	return ""
}

// family is the network behind the head. An unknown one is passed on as it
// is: onnxruntime runs any graph, and the engine "go" says what it knows.
func family(hf hfConfig, ms msConfig, class string) string {
	if hf.ModelType != "" {
		name := strings.ToLower(hf.ModelType)
		if known, ok := families[name]; ok {
			return known
		}
		return name
	}
	// Early BERT checkpoints have no model_type.
	for _, name := range []string{ms.Model.Backbone.Type, ms.Model.Type, ms.Model.ModelType} {
		if known, ok := families[name]; ok {
			return known
		}
	}
	if strings.HasPrefix(class, "Bert") || strings.HasPrefix(class, "Sbert") {
		return "bert"
	}
	return "unknown"
}

// labels finds the label map, in ModelScope's order of precedence.
func (f configFiles) labels(hf hfConfig, ms msConfig) ([]string, error) {
	maps := []struct {
		where string
		labelMaps
	}{
		{LabelMappingFile, labelMaps{Label2ID: f.labelMapping}},
		{ModelScopeFile + " (model)", ms.Model.labelMaps},
		{ModelScopeFile + " (preprocessor)", ms.Preprocessor},
		{ConfigFile, hf.labelMaps},
	}
	for _, m := range maps {
		if m.empty() {
			continue
		}
		labels, err := m.columns()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.where, err)
		}
		return labels, nil
	}
	if n := hf.NumLabels; n > 0 && n <= maxLabels {
		return defaultLabels(n), nil
	}
	return nil, fmt.Errorf("no label names: %s lacks \"id2label\" "+
		"(and there is neither %s nor a label2id in %s): add for instance \"id2label\": {\"0\": \"O\", \"1\": \"B-PER\", …}",
		ConfigFile, LabelMappingFile, ModelScopeFile)
}

// defaultLabels are Hugging Face's names for n labels without names.
func defaultLabels(n int) []string {
	labels := make([]string, n)
	for i := range labels {
		labels[i] = fmt.Sprintf("LABEL_%d", i)
	}
	return slices.Clip(labels)
}
