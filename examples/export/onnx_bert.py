#!/usr/bin/env python3
"""Write model.onnx, and an INT8 copy of it, beside a BERT's model.safetensors.

    python3 onnx_bert.py [--int8] [--reduce-range] MODEL_DIR

MODEL_DIR is a model directory in Hugging Face or ModelScope layout:
config.json and the model.safetensors of a BERT (StructBERT, RaNER) with a
head for tokens or for the text. CRF transitions stay in model.safetensors,
where caddy-infer looks for them. The graph is built from the weights with
numpy and onnx alone, so no PyTorch is needed:

    pip install numpy onnx onnxruntime

--int8 also writes model.int8.onnx with onnxruntime's dynamic quantisation:
weights in 8 bits per output channel, activations in 8 bits per call. Files
are four times smaller and passes two to three times faster on processors with
VNNI; the labels of borderline tokens can change. On an x86 processor without
VNNI, --reduce-range (7-bit weights) avoids the saturation of its 16-bit sums;
otherwise set session.x64quantprecision, as caddy-infer does.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Opset 17 is the first with LayerNormalization.
OPSET = 17
IR_VERSION = 8

# Added to the scores of padding before the softmax: large enough that they
# become exactly 0, small enough that nothing overflows.
MASKED = -1e9


def read_safetensors(path):
    """Return {name: float32 array} of a .safetensors file."""
    plain = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start = f.tell()
        tensors = {}
        for name, t in header.items():
            if name == "__metadata__":
                continue
            begin, end = t["data_offsets"]
            f.seek(start + begin)
            raw = f.read(end - begin)
            if t["dtype"] in plain:
                a = np.frombuffer(raw, plain[t["dtype"]]).astype(np.float32)
            elif t["dtype"] == "BF16":  # the upper half of a float32
                a = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                continue  # position_ids and other integer buffers
            tensors[name] = a.reshape(t["shape"])
    return tensors


class Weights:
    """The checkpoint under its spellings: a prefix before the encoder
    ("bert." in Hugging Face's classes, "encoder." in RaNER), the head's name,
    LayerNorm weight/bias or TensorFlow's gamma/beta."""

    HEADS = ["classifier", "linear", "head.classifier", "model.classifier", "model.linear"]

    def __init__(self, tensors, path):
        self.tensors, self.path = tensors, path
        suffix = "embeddings.word_embeddings.weight"
        names = [n for n in tensors if n.endswith(suffix)]
        if len(names) != 1:
            sys.exit(f"{path}: {len(names)} tensors named *{suffix}, want one: is this a BERT?")
        self.prefix = names[0][: -len(suffix)]

    def __call__(self, *names):
        for n in names:
            if n in self.tensors:
                return self.tensors[n]
        sys.exit(f"{self.path}: no tensor named {' or '.join(names)}")

    def head(self, part):
        return self(*(f"{name}.{part}" for name in self.HEADS))

    def body(self, name):
        return self(self.prefix + name)

    def norm(self, name):
        p = self.prefix + name
        return self(p + ".weight", p + ".gamma"), self(p + ".bias", p + ".beta")


class Graph:
    """A list of nodes under construction; every method returns the name of
    the value that it adds."""

    def __init__(self):
        self.nodes, self.initializers, self.n = [], [], 0

    def const(self, array, name=None):
        if name is None:
            self.n += 1
            name = f"const_{self.n}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def op(self, kind, *inputs, out=None, **attributes):
        if out is None:
            self.n += 1
            out = f"{kind}_{self.n}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"node_{out}", **attributes))
        return out

    def linear(self, x, weight, bias, name, out=None):
        # MatMul with the weight transposed rather than Gemm: batches have
        # three dimensions and the quantiser knows MatMul best.
        y = self.op("MatMul", x, self.const(weight.T, name + ".weight"))
        return self.op("Add", y, self.const(bias, name + ".bias"), out=out)

    def norm(self, x, weight_bias, eps, name):
        w, b = weight_bias
        return self.op("LayerNormalization", x, self.const(w, name + ".weight"),
                       self.const(b, name + ".bias"), axis=-1, epsilon=eps)


def gelu(g, x):
    erf = g.op("Erf", g.op("Div", x, g.const(np.float32(math.sqrt(2)))))
    one = g.op("Add", erf, g.const(np.float32(1)))
    return g.op("Mul", g.op("Mul", x, one), g.const(np.float32(0.5)))


def gelu_tanh(g, x):
    cube = g.op("Mul", g.op("Mul", x, x), x)
    inner = g.op("Add", x, g.op("Mul", cube, g.const(np.float32(0.044715))))
    tanh = g.op("Tanh", g.op("Mul", inner, g.const(np.float32(math.sqrt(2 / math.pi)))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", tanh, g.const(np.float32(1)))), g.const(np.float32(0.5)))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": lambda g, x: g.op("Relu", x),
}


def embeddings(g, w, eps):
    words = g.op("Gather", g.const(w.body("embeddings.word_embeddings.weight"), "word_embeddings"), "input_ids")
    types = g.op("Gather", g.const(w.body("embeddings.token_type_embeddings.weight"), "token_type_embeddings"),
                 "token_type_ids")
    length = g.op("Slice", g.op("Shape", "input_ids"), g.const(np.array([1], np.int64)), g.const(np.array([2], np.int64)))
    positions = g.op("Slice", g.const(w.body("embeddings.position_embeddings.weight"), "position_embeddings"),
                     g.const(np.array([0], np.int64)), length, g.const(np.array([0], np.int64)))
    x = g.op("Add", g.op("Add", words, types), positions)
    return g.norm(x, w.norm("embeddings.LayerNorm"), eps, "embeddings.LayerNorm")


def mask_bias(g):
    """[batch, 1, 1, tokens]: 0 at tokens, MASKED at padding."""
    wide = g.op("Unsqueeze", "attention_mask", g.const(np.array([1, 2], np.int64)))
    padding = g.op("Sub", g.const(np.float32(1)), g.op("Cast", wide, to=TensorProto.FLOAT))
    return g.op("Mul", padding, g.const(np.float32(MASKED)))


def attention(g, w, x, bias, layer, heads, width):
    def project(kind, perm):
        p = f"{layer}.attention.self.{kind}"
        y = g.linear(x, w.body(p + ".weight"), w.body(p + ".bias"), p)
        y = g.op("Reshape", y, g.const(np.array([0, 0, heads, width // heads], np.int64)))
        return g.op("Transpose", y, perm=perm)

    q, k, v = project("query", [0, 2, 1, 3]), project("key", [0, 2, 3, 1]), project("value", [0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", q, k), g.const(np.float32(math.sqrt(width // heads))))
    probs = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    y = g.op("Transpose", g.op("MatMul", probs, v), perm=[0, 2, 1, 3])
    return g.op("Reshape", y, g.const(np.array([0, 0, width], np.int64)))


def encoder_layer(g, w, x, bias, i, config):
    layer, eps = f"encoder.layer.{i}", config.get("layer_norm_eps", 1e-12)

    def dense(x, name):
        return g.linear(x, w.body(f"{layer}.{name}.weight"), w.body(f"{layer}.{name}.bias"), f"{layer}.{name}")

    def residual(x, y, name):
        return g.norm(g.op("Add", y, x), w.norm(f"{layer}.{name}.LayerNorm"), eps, f"{layer}.{name}.LayerNorm")

    y = attention(g, w, x, bias, layer, config["num_attention_heads"], config["hidden_size"])
    x = residual(x, dense(y, "attention.output.dense"), "attention.output")
    y = ACTIVATIONS[config.get("hidden_act", "gelu")](g, dense(x, "intermediate.dense"))
    return residual(x, dense(y, "output.dense"), "output")


TOKEN_TASKS = ["token-classification", "named-entity-recognition", "word-segmentation", "part-of-speech"]
SEQUENCE_TASKS = ["text-classification", "sentiment-classification"]


def labels_tokens(directory, config):
    """Whether the head labels tokens rather than texts. ModelScope's
    configuration.json wins over the architecture in config.json, which in
    RaNER is the one that the encoder was trained as."""
    path = os.path.join(directory, "configuration.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            task = json.load(f).get("task")
        if task in TOKEN_TASKS + SEQUENCE_TASKS:
            return task in TOKEN_TASKS
    architecture = (config.get("architectures") or ["none"])[0]
    if not architecture.endswith(("ForTokenClassification", "ForSequenceClassification")):
        sys.exit(f"config.json: architecture {architecture} has no head that labels tokens or texts")
    return architecture.endswith("ForTokenClassification")


def build(config, w, per_token):
    """Return the ModelProto of the network."""
    if config.get("position_embedding_type", "absolute") != "absolute":
        sys.exit("config.json: only absolute position embeddings can be exported")
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        sys.exit(f"config.json: hidden_act {config['hidden_act']} is not one of {', '.join(ACTIVATIONS)}")

    g = Graph()
    x = embeddings(g, w, config.get("layer_norm_eps", 1e-12))
    bias = mask_bias(g)
    for i in range(config["num_hidden_layers"]):
        x = encoder_layer(g, w, x, bias, i, config)
    head_w, head_b = w.head("weight"), w.head("bias")
    shape = ["batch", "tokens", len(head_b)]
    if not per_token:
        first = g.op("Gather", x, g.const(np.array(0, np.int64)), axis=1)
        x = g.op("Tanh", g.linear(first, w.body("pooler.dense.weight"), w.body("pooler.dense.bias"), "pooler.dense"))
        shape = ["batch", len(head_b)]
    g.linear(x, head_w, head_b, "classifier", out="logits")

    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(g.nodes, "bert", inputs, outputs, g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="onnx_bert.py")
    model.ir_version = IR_VERSION
    return model


def quantize(source, target, reduce_range):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It advises, at the level of a warning, a preparation that changes
    # nothing here: all shapes that matter are known.
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(source, target, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8)


def write(path, make):
    """Let make write a file beside path, then rename it: a server that looks
    meanwhile sees the old file or the whole new one."""
    fd, tmp = tempfile.mkstemp(suffix=".onnx", dir=os.path.dirname(path) or ".")
    os.close(fd)
    try:
        make(tmp)
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    finally:
        if os.path.exists(tmp):
            os.remove(tmp)
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="MODEL_DIR")
    parser.add_argument("--int8", action="store_true", help="also write model.int8.onnx")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for x86 without VNNI")
    args = parser.parse_args()

    with open(os.path.join(args.directory, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    weights = os.path.join(args.directory, "model.safetensors")
    if not os.path.exists(weights):
        sys.exit(f"{weights}: no such file; convert pytorch_model.bin to it first")
    model = build(config, Weights(read_safetensors(weights), weights), labels_tokens(args.directory, config))
    fp32 = os.path.join(args.directory, "model.onnx")
    write(fp32, lambda tmp: onnx.save(model, tmp))
    if args.int8:
        write(os.path.join(args.directory, "model.int8.onnx"), lambda tmp: quantize(fp32, tmp, args.reduce_range))


if __name__ == "__main__":
    main()
