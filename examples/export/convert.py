#!/usr/bin/env python3
"""Turn a downloaded RaNER, StructBERT or other BERT classifier into a model directory.

    python3 convert.py SOURCE [OUT]

SOURCE  a directory as the hubs give it: config.json, vocab.txt and
        pytorch_model.bin or *.safetensors, with ModelScope's configuration.json
        and label_mapping.json where there are; or the name of a model to
        download, modelscope:damo/... or hf:owner/name (which needs
        `pip install modelscope` or `pip install huggingface_hub`)
OUT     a new directory in Hugging Face's layout, complete. Without it, only
        model.safetensors is written, into SOURCE.

Tensors get Hugging Face's names (bert.*, classifier.*), a CRF's crf.*; what
classification does not use, such as a pre-training head, is left out. This
needs numpy, and torch (1.13 or later) to read a pytorch_model.bin:

    pip install torch numpy
"""

import glob
import json
import os
import shutil
import sys

import numpy as np

WORDS = "embeddings.word_embeddings.weight"
HEADS = ("classifier", "linear", "head.classifier", "model.classifier", "model.linear")
CRF = ("crf.transitions", "crf.start_transitions", "crf.end_transitions")
TOKENIZER = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKEN_TASKS = ("token-classification", "named-entity-recognition", "word-segmentation", "part-of-speech")
TEXT_TASKS = ("text-classification", "sentiment-classification")


def fail(text):
    sys.exit(f"convert.py: {text}")


def source_directory(name):
    """Return the directory of SOURCE, downloading it where it names a hub."""
    hub, _, model = name.partition(":")
    if hub == "modelscope" and not os.path.exists(name):
        from modelscope import snapshot_download

        return snapshot_download(model)
    if hub == "hf" and not os.path.exists(name):
        from huggingface_hub import snapshot_download

        return snapshot_download(model)
    if not os.path.isdir(name):
        fail(f"{name}: no such directory")
    return name


def read_json(directory, name):
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def read_tensors(directory):
    """Return {name: float array} of the weights, whichever form they have."""
    shards = sorted(glob.glob(os.path.join(directory, "pytorch_model*.bin")))
    tensors = {}
    if shards:
        import torch

        for path in shards:
            # weights_only: a plain pickle may run any code as it is read.
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as e:  # whatever the unpickler stumbles over
                fail(f"{path}: cannot be read as weights, it may be an unfinished download: {str(e) or type(e).__name__}")
            state = state.get("state_dict", state)
            for name, tensor in state.items():
                if tensor.is_floating_point():
                    half = tensor.dtype == torch.float16
                    tensors[name] = (tensor if half else tensor.float()).numpy()
        return tensors
    shards = sorted(glob.glob(os.path.join(directory, "model*.safetensors")))
    if not shards:
        fail(f"{directory}: neither pytorch_model.bin nor model.safetensors is there")
    for path in shards:
        tensors.update(read_safetensors(path))
    return tensors


def read_safetensors(path):
    plain = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
    tensors = {}
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.tell()
        for name, entry in header.items():
            dtype = entry.get("dtype")
            if dtype not in plain and dtype != "BF16":
                continue  # __metadata__ and integer buffers
            begin, end = entry["data_offsets"]
            f.seek(data + begin)
            raw = f.read(end - begin)
            if dtype == "BF16":  # the upper half of a float32
                values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(raw, plain[dtype])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def renamed(tensors):
    """Return the tensors of encoder, head and CRF under Hugging Face's names."""
    tensors = {name.removeprefix("module."): t for name, t in tensors.items()}
    prefixes = [n[: -len(WORDS)] for n in tensors if n.endswith(WORDS)]
    if len(prefixes) != 1:
        fail(f"{len(prefixes)} tensors are named …{WORDS}, want one: these are not the weights of a BERT")
    head = next((h for h in HEADS if h + ".weight" in tensors), None)
    if head is None:
        fail(f"no tensor named {' or '.join(h + '.weight' for h in HEADS)}: this model has no classification head")
    out, left = {}, []
    for name, tensor in tensors.items():
        body = name[len(prefixes[0]):]
        crf = next((c for c in CRF if name == c or name.endswith("." + c)), None)
        if crf:
            out[crf] = tensor
        elif name in (head + ".weight", head + ".bias"):
            out["classifier" + name[len(head):]] = tensor
        elif name.startswith(prefixes[0]) and body.startswith(("embeddings.", "encoder.layer.", "pooler.")):
            body = body.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            out["bert." + body] = tensor
        else:
            left.append(name)
    if left:
        print(f"left out {len(left)} tensors that classification does not use: {', '.join(sorted(left)[:5])} …")
    return out


def labels_of(directory, config, scope):
    """Return the label names by column, in ModelScope's order of precedence."""
    maps = [read_json(directory, "label_mapping.json")]
    for place in (scope.get("model", {}), scope.get("preprocessor", {})):
        maps.append(place.get("label2id"))
        by_id = place.get("id2label") or place.get("id_to_label")
        maps.append({v: k for k, v in by_id.items()} if by_id else None)
    for found in maps:
        if found:
            by_id = {int(i): label for label, i in found.items()}
            break
    else:
        by_id = {int(i): label for i, label in (config.get("id2label") or {}).items()}
        by_id = by_id or {int(i): label for label, i in (config.get("label2id") or {}).items()}
    if not by_id:
        fail("no label map: add label_mapping.json ({\"O\": 0, \"B-PER\": 1, …}) or id2label in config.json")
    if sorted(by_id) != list(range(len(by_id))):
        fail(f"the label ids {sorted(by_id)} are not 0 to {len(by_id) - 1}")
    return [by_id[i] for i in range(len(by_id))]


def is_token_task(config, scope, tensors):
    if any(c in tensors for c in CRF) or scope.get("task") in TOKEN_TASKS:
        return True
    if scope.get("task") in TEXT_TASKS:
        return False
    architecture = (config.get("architectures") or ["?"])[0]
    if architecture.endswith(("ForTokenClassification", "ForSequenceClassification")):
        return architecture.endswith("ForTokenClassification")
    fail(f"cannot tell whether this classifies tokens or texts: config.json says {architecture}, "
         f"configuration.json says {scope.get('task')}")


def check(config, labels, tensors, token_task, directory):
    rows = tensors["classifier.weight"].shape[0]
    if rows != len(labels):
        fail(f"the label map has {len(labels)} labels, the classification head {rows}")
    if not token_task and "bert.pooler.dense.weight" not in tensors:
        fail("the pooler of a sequence classifier is missing")
    vocab = os.path.join(directory, "vocab.txt")
    if os.path.exists(vocab):
        with open(vocab, encoding="utf-8") as f:
            words = sum(1 for _ in f)
        size = tensors["bert." + WORDS].shape[0]
        if words > size:
            fail(f"vocab.txt has {words} lines, the embedding {size} rows: they do not belong together")
    elif not os.path.exists(os.path.join(directory, "tokenizer.json")):
        fail(f"{directory}: neither vocab.txt nor tokenizer.json is there")


def write_safetensors(path, tensors):
    """Write the format by hand: a length, a JSON header, the data."""
    names = {np.dtype("float32"): "F32", np.dtype("float16"): "F16", np.dtype("float64"): "F64"}
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            f.write(np.ascontiguousarray(tensor).tobytes())
    os.replace(path + ".part", path)  # a server never sees half a file
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB")


def write_layout(source, out, config, labels, token_task):
    """Write config.json in Hugging Face's layout and copy the tokenizer."""
    config = dict(config, model_type="bert")
    config["architectures"] = ["BertForTokenClassification" if token_task else "BertForSequenceClassification"]
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    config["label2id"] = {label: i for i, label in enumerate(labels)}
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, ensure_ascii=False, indent=2)
    for name in TOKENIZER:
        path = os.path.join(source, name)
        if os.path.exists(path):
            shutil.copy(path, os.path.join(out, name))


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    source = source_directory(sys.argv[1])
    out = sys.argv[2] if len(sys.argv) == 3 else source
    config, scope = read_json(source, "config.json"), read_json(source, "configuration.json")
    if not config:
        fail(f"{source}: config.json is missing")
    tensors = renamed(read_tensors(source))
    labels = labels_of(source, config, scope)
    token_task = is_token_task(config, scope, tensors)
    if token_task:
        tensors = {n: t for n, t in tensors.items() if not n.startswith("bert.pooler.")}
    check(config, labels, tensors, token_task, source)

    os.makedirs(out, exist_ok=True)
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    crf = {n: t for n, t in tensors.items() if n in CRF}
    if crf:  # again, so that model.safetensors can go where only model.onnx is used
        write_safetensors(os.path.join(out, "crf.safetensors"), crf)
    if os.path.abspath(out) != os.path.abspath(source):
        write_layout(source, out, config, labels, token_task)
    print(f"{len(labels)} labels: {', '.join(labels[:13])}{' …' if len(labels) > 13 else ''}"
          f"{', with a CRF' if crf else ''}")


if __name__ == "__main__":
    main()
