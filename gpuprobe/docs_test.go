package gpuprobe

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestDocumentationNamesEveryKindFieldAndKey(t *testing.T) {
	data, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for _, k := range Kinds() {
		if !strings.Contains(doc, "| `"+k.Name+"` |") {
			t.Errorf("kind %s is not in the table", k.Name)
		}
	}
	for _, f := range slices.Concat(deviceFields, nodeFields) {
		if f != FieldInfo && f != FieldXIDTime && !strings.Contains(doc, "`"+string(f)+"`") {
			t.Errorf("field %s is not named", f)
		}
	}
	_, rest, _ := strings.Cut(doc, "```json\n")
	example, _, _ := strings.Cut(rest, "```")
	s, err := parseJSON([]byte(example), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.GPUUtilization() != some(0.45) || s.GPUMemoryUtilization() != some(0.25) || s.Running != some(2.) ||
		s.Model != "ner-zh" || len(s.Devices) != 1 || s.Devices[0].Throttle != some(ThrottlePowerCap) {
		t.Errorf("the example reads as %+v", s)
	}
}
