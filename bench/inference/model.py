#!/usr/bin/env python3
"""Write a BERT-base token classifier with random weights, as a model directory.

    python3 model.py [--layers 12] MODEL_DIR

The shape is RaNER's and bert-base-chinese's: 12 layers, 768 wide, 12 heads,
21,128 tokens, labels of PER, LOC and ORG in BIO. Speed does not depend on the
values of the weights, so none need be downloaded. It needs numpy alone.
"""

import argparse
import json
import os

import numpy as np

LABELS = ["O"] + [f"{p}-{t}" for t in ("PER", "LOC", "ORG") for p in "BI"]


def tensors(config):
    h, inner = config["hidden_size"], config["intermediate_size"]

    def linear(name, rows, columns):
        yield name + ".weight", (rows, columns)
        yield name + ".bias", (rows,)

    def norm(name):
        yield name + ".weight", (h,)
        yield name + ".bias", (h,)

    yield "bert.embeddings.word_embeddings.weight", (config["vocab_size"], h)
    yield "bert.embeddings.position_embeddings.weight", (config["max_position_embeddings"], h)
    yield "bert.embeddings.token_type_embeddings.weight", (config["type_vocab_size"], h)
    yield from norm("bert.embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{part}", h, h)
        yield from linear(f"{layer}.attention.output.dense", h, h)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", inner, h)
        yield from linear(f"{layer}.output.dense", h, inner)
        yield from norm(f"{layer}.output.LayerNorm")
    yield from linear("classifier", len(LABELS), h)


def write_safetensors(path, shapes):
    rng = np.random.default_rng(7)
    header, offset = {}, 0
    for name, shape in shapes:
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes:
            if "LayerNorm" in name:
                values = np.full(shape, float(name.endswith("weight")), np.float32)
            else:
                values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            f.write(values.tobytes())


def vocabulary(size):
    """A vocabulary of bert-base-chinese's size and arrangement."""
    tokens = ["[PAD]"] + [f"[unused{i}]" for i in range(1, 100)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [chr(c) for c in range(0x21, 0x7F) if not chr(c).isupper()] + list("。,、!?:;“”《》")
    tokens += [chr(c) for c in range(0x4E00, 0x4E00 + size)]
    return list(dict.fromkeys(tokens))[:size]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="MODEL_DIR")
    parser.add_argument("--layers", type=int, default=12)
    args = parser.parse_args()
    config = {
        "model_type": "bert", "architectures": ["BertForTokenClassification"],
        "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": args.layers, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "id2label": {str(i): label for i, label in enumerate(LABELS)},
    }
    os.makedirs(args.directory, exist_ok=True)
    with open(os.path.join(args.directory, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    with open(os.path.join(args.directory, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(vocabulary(config["vocab_size"])) + "\n")
    write_safetensors(os.path.join(args.directory, "model.safetensors"), list(tensors(config)))


if __name__ == "__main__":
    main()
