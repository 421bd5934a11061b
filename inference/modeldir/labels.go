package modeldir

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxLabels bounds the label map; the largest public tag sets have hundreds.
const maxLabels = 100_000

// labelMaps are the spellings of a label map.
type labelMaps struct {
	ID2Label json.RawMessage `json:"id2label"`
	IDTo     json.RawMessage `json:"id_to_label"` // AdaSeq's
	Label2ID json.RawMessage `json:"label2id"`
}

func (m labelMaps) empty() bool {
	return isNull(m.ID2Label) && isNull(m.IDTo) && isNull(m.Label2ID)
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// columns returns the labels in the order of the network's outputs.
// id2label wins over label2id, because several columns may share a name.
func (m labelMaps) columns() ([]string, error) {
	byColumn := map[int]string{}
	add := func(column, label string) error {
		id, err := strconv.Atoi(strings.TrimSpace(column))
		if err != nil || id < 0 || id >= maxLabels {
			return fmt.Errorf("label %q has the id %q: ids count from 0", label, column)
		}
		if other, taken := byColumn[id]; taken {
			return fmt.Errorf("labels %q and %q have the same id %d", other, label, id)
		}
		if strings.TrimSpace(label) == "" {
			return fmt.Errorf("the label of id %d is empty", id)
		}
		byColumn[id] = label
		return nil
	}
	byID := m.ID2Label
	if isNull(byID) {
		byID = m.IDTo
	}
	if !isNull(byID) {
		pairs, err := object(byID)
		if err != nil {
			return nil, fmt.Errorf("parsing id2label: %w", err)
		}
		for _, p := range pairs {
			if err := add(p.key, p.value); err != nil {
				return nil, err
			}
		}
	} else {
		pairs, err := object(m.Label2ID)
		if err != nil {
			return nil, fmt.Errorf("parsing the map from labels to ids: %w", err)
		}
		for _, p := range pairs {
			if err := add(p.value, p.key); err != nil {
				return nil, err
			}
		}
	}
	if len(byColumn) == 0 {
		return nil, errors.New("the label map is empty")
	}
	labels := make([]string, len(byColumn))
	for i := range labels {
		label, ok := byColumn[i]
		if !ok {
			return nil, fmt.Errorf("%d labels, but none has the id %d: ids must be 0 to %d without gaps",
				len(labels), i, len(labels)-1)
		}
		labels[i] = label
	}
	return labels, nil
}

type pair struct{ key, value string }

// object reads {"k": v} or, as some tools write id2label, ["v", …], with
// strings and numbers alike as strings.
func object(raw json.RawMessage) ([]pair, error) {
	var list []any
	if json.Unmarshal(raw, &list) == nil {
		pairs := make([]pair, 0, len(list))
		for i, v := range list {
			s, err := scalar(v)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, pair{strconv.Itoa(i), s})
		}
		return pairs, nil
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	pairs := make([]pair, 0, len(m))
	for k, v := range m {
		s, err := scalar(v)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
		pairs = append(pairs, pair{k, s})
	}
	return pairs, nil
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("neither a string nor a number: %v", v)
}
