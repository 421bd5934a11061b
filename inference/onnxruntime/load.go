//go:build cgo

package onnxruntime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func open(dir *modeldir.Dir, opts engine.Options) (engine.Engine, error) {
	file, precision, err := chooseFile(dir, opts.Precision)
	if err != nil {
		return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
	}
	if err := process.retain(opts.Library); err != nil {
		return nil, err
	}
	s := &session{config: dir.Config, info: engine.Info{Engine: name, Precision: precision, Device: cmp.Or(opts.Device, engine.CPU), Version: ort.GetVersion()}}
	if err := s.load(dir, file, opts); err != nil {
		process.release()
		return nil, fmt.Errorf("loading model %s: %s: %w", dir.Name, file, err)
	}
	return s, nil
}

func (s *session) load(dir *modeldir.Dir, file string, opts engine.Options) error {
	source, err := newSource(dir, file)
	if err != nil {
		return err
	}
	s.info.WeightBytes = source.size

	inputs, outputs, err := source.ports()
	if err != nil {
		return err
	}
	if s.graph, err = inspect(inputs, outputs, dir.Config); err != nil {
		return err
	}
	options, err := sessionOptions(opts)
	if err != nil {
		return err
	}
	defer free(options)
	s.native, err = source.session(s.graph, options)
	return err
}

// sessionOptions are chosen for a server that runs several passes at a time.
func sessionOptions(opts engine.Options) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(max(1, opts.Threads)),
		o.SetInterOpNumThreads(1),
		// Batches change their shape with every call, so that remembering the
		// memory layout of each shape costs without gain. The arena stays on:
		// without it BERT-base INT8 took 456 MB instead of 329.
		o.SetMemPattern(false),
		// With more than one thread they spin between the parts of a pass,
		// which is worth 30 % of throughput, but not after it.
		o.AddSessionConfigEntry("session.force_spinning_stop", "1"),
		// ONNX Runtime's kOrtSessionOptionsAvx2PrecisionMode. Without VNNI it adds
		// products of unsigned by signed bytes in 16 bits, which overflow: labels
		// of one row in eight were others (TestBothEnginesAgree). This has weights
		// of signed bytes made unsigned on such processors: slower, and right.
		o.AddSessionConfigEntry("session.x64quantprecision", "1"),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if gpu, ok := opts.Device.CUDA(); ok && err == nil {
		err = useCUDA(o, gpu)
	}
	if err != nil {
		free(o)
		return nil, err
	}
	return o, nil
}

// useCUDA has a GPU compute what of a graph it can, the CPU the rest.
func useCUDA(o *ort.SessionOptions, gpu int) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err == nil {
		defer free(cuda)
		err = errors.Join(
			cuda.Update(map[string]string{"device_id": strconv.Itoa(gpu)}),
			o.AppendExecutionProviderCUDA(cuda),
		)
	}
	if err != nil {
		return fmt.Errorf("device cuda:%d: %w (it takes an ONNX Runtime that has CUDA, such as pip's onnxruntime-gpu, with the CUDA and cuDNN it was built for)",
			gpu, err)
	}
	return nil
}

// source is a graph's file: a path, or the bytes of an embedded one.
type source struct {
	path string
	data []byte
	size int64
}

func newSource(dir *modeldir.Dir, file string) (source, error) {
	if dir.Path == "" {
		data, err := fs.ReadFile(dir.FS, file)
		return source{data: data, size: int64(len(data))}, err
	}
	src := source{path: filepath.Join(dir.Path, filepath.FromSlash(file))}
	// Exporters put the weights of large graphs in a file beside them.
	for _, f := range []string{file, file + ".data", file + "_data"} {
		info, err := fs.Stat(dir.FS, f)
		if err != nil && f == file {
			return src, err
		}
		if err == nil {
			src.size += info.Size()
		}
	}
	return src, nil
}

// ports reads the inputs and outputs. The binding can only do so with a
// session of its own, which is made cheap by leaving out all optimisation.
func (src source) ports() (inputs, outputs []port, err error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, nil, err
	}
	defer free(o)
	err = errors.Join(
		o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll),
		o.AddSessionConfigEntry("session.disable_prepacking", "1"),
		o.SetIntraOpNumThreads(1),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if err != nil {
		return nil, nil, err
	}
	var in, out []ort.InputOutputInfo
	if src.data != nil {
		in, out, err = ort.GetInputOutputInfoWithONNXData(src.data)
	} else {
		in, out, err = ort.GetInputOutputInfoWithOptions(src.path, o)
	}
	return toPorts(in), toPorts(out), err
}

func toPorts(infos []ort.InputOutputInfo) []port {
	ports := make([]port, len(infos))
	for i, info := range infos {
		dtype := strings.ToLower(strings.TrimPrefix(info.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
		if info.OrtValueType != ort.ONNXTypeTensor {
			dtype = "no tensor"
		}
		ports[i] = port{info.Name, dtype, info.Dimensions}
	}
	return ports
}

func (src source) session(g graph, o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	if src.data != nil {
		return ort.NewDynamicAdvancedSessionWithONNXData(src.data, g.inputs, []string{g.output}, o)
	}
	return ort.NewDynamicAdvancedSession(src.path, g.inputs, []string{g.output}, o)
}

// free releases what native code holds. The binding's Destroy only fails on a
// value that was never made.
func free(v interface{ Destroy() error }) { _ = v.Destroy() }
