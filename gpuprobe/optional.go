package gpuprobe

import "encoding/json"

// Optional is a value that may be missing, which is not the same as zero. Its
// zero value is missing. It is null in JSON, and left out with `omitzero`.
type Optional[T any] struct {
	value T
	known bool
}

// Some returns a value that is known.
func Some[T any](v T) Optional[T] { return Optional[T]{v, true} }

// Get returns the value and whether it is known.
func (o Optional[T]) Get() (T, bool) { return o.value, o.known }

// Known tells whether there is a value.
func (o Optional[T]) Known() bool { return o.known }

// Or returns the value, or the fallback where it is missing.
func (o Optional[T]) Or(fallback T) T {
	if o.known {
		return o.value
	}
	return fallback
}

// IsZero makes encoding/json leave a missing value out, but not a known zero.
func (o Optional[T]) IsZero() bool { return !o.known }

// MarshalJSON implements json.Marshaler.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.known {
		return []byte("null"), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	*o = Optional[T]{}
	if string(data) == "null" {
		return nil
	}
	if err := json.Unmarshal(data, &o.value); err != nil {
		return err
	}
	o.known = true
	return nil
}
