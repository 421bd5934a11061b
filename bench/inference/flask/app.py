"""The articles' own service: Flask, gunicorn with one worker, PyTorch.

    MODEL_DIR=… gunicorn -w 1 -b 127.0.0.1:5000 app:app

It is meant to be a fast one of its kind: the network is plain torch with fused
attention, without the overhead of a model library, and runs in inference mode.

    MODEL_DIR      a BERT token classifier: config.json, vocab.txt, model.safetensors
    PRECISION      fp32 (default) or int8: torch's dynamic quantisation of the linear layers
    TORCH_THREADS  threads in one forward pass; torch's own default if not set
"""

import json
import os

import torch
import torch.nn.functional as F
from flask import Flask, jsonify, request
from safetensors.torch import load_file
from torch import nn

directory = os.environ["MODEL_DIR"]
with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
    config = json.load(f)
with open(os.path.join(directory, "vocab.txt"), encoding="utf-8") as f:
    vocab = {line.rstrip("\n"): i for i, line in enumerate(f)}
labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
if "TORCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["TORCH_THREADS"]))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c["hidden_size"]
        self.heads = c["num_attention_heads"]
        self.query, self.key, self.value, self.output = (nn.Linear(h, h) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(h, c["layer_norm_eps"]), nn.LayerNorm(h, c["layer_norm_eps"])
        self.up, self.down = nn.Linear(h, c["intermediate_size"]), nn.Linear(c["intermediate_size"], h)

    def forward(self, x):
        b, n, h = x.shape
        q, k, v = (p(x).view(b, n, self.heads, -1).transpose(1, 2) for p in (self.query, self.key, self.value))
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, h)
        x = self.norm1(x + self.output(a))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c["hidden_size"]
        self.words, self.positions = nn.Embedding(c["vocab_size"], h), nn.Embedding(c["max_position_embeddings"], h)
        self.types = nn.Embedding(c["type_vocab_size"], h)
        self.norm = nn.LayerNorm(h, c["layer_norm_eps"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.classifier = nn.Linear(h, len(labels))

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0])
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x)


RENAMES = [
    ("bert.embeddings.word_embeddings", "words"), ("bert.embeddings.position_embeddings", "positions"),
    ("bert.embeddings.token_type_embeddings", "types"), ("bert.embeddings.LayerNorm", "norm"),
    ("bert.encoder.layer.", "layers."), ("attention.self.", ""), ("attention.output.dense", "output"),
    ("attention.output.LayerNorm", "norm1"), ("intermediate.dense", "up"), ("output.dense", "down"),
    ("output.LayerNorm", "norm2"),
]


def load():
    weights = {}
    for name, tensor in load_file(os.path.join(directory, "model.safetensors")).items():
        for old, new in RENAMES:
            name = name.replace(old, new)
        weights[name] = tensor
    with torch.device("meta"):
        network = Bert(config)
    network.load_state_dict(weights, assign=True)
    network.eval()
    if os.environ.get("PRECISION") == "int8":
        from torch.ao.quantization import quantize_dynamic
        network = quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return network


model = load()
app = Flask(__name__)


@torch.inference_mode()
def entities(text):
    ids = [vocab["[CLS]"], *(vocab.get(c.lower(), vocab["[UNK]"]) for c in text), vocab["[SEP]"]]
    probs = model(torch.tensor([ids]))[0, 1:-1].softmax(-1)
    best = probs.max(-1)
    found = []
    for i, (label, prob) in enumerate(zip(best.indices.tolist(), best.values.tolist())):
        prefix, _, kind = labels[label].partition("-")
        if prefix == "B" or prefix == "I" and not (found and found[-1]["end"] == i and found[-1]["type"] == kind):
            found.append({"type": kind, "start": i, "end": i + 1, "prob": prob})
        elif prefix == "I":
            found[-1]["end"] = i + 1
    for e in found:
        e["span"] = text[e["start"]:e["end"]]
    return found


@app.post("/predict")
def predict():
    text = (request.get_json(silent=True) or {}).get("text")
    if not text:
        return jsonify(error="No text provided"), 400
    return jsonify(text=text, output=entities(text))


@app.get("/health")
def health():
    return jsonify(status="healthy", model_loaded=True)


entities("预热")
