"""Measures builtin/sentiment-zh: probe sentences and real restaurant reviews.

    python sentiment_eval.py --model ../sentiment-zh --probes ../testdata/sentiment/probes.json
    python sentiment_eval.py --model ../sentiment-zh --asap DIR_OF_ASAP_CSV

Of ASAP, stars >= 4 count as positive, <= 2 as negative, 3 is dropped; only
figures are printed, since the reviews must not shape the lexicon.
"""

import argparse
import csv
import json
import pathlib
import random

import numpy as np
import torch
from safetensors.numpy import load_file

import charcnn
from sentiment_train import LABELS, logits_of


def load_model(directory):
    """The model as exported, quantised weights included."""
    d = pathlib.Path(directory)
    config = json.loads((d / "config.json").read_text(encoding="utf-8"))
    vocab = (d / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    tok = charcnn.CharTokenizer(vocab, charcnn.read_char_map(d / "char_map.txt"))
    encoder = charcnn.Encoder(
        config["vocab_size"], config["hidden_size"], config["char_dim"], config["bigram_dim"],
        config["bigram_buckets"], dilations=config["dilations"],
    )
    model = charcnn.SequenceModel(encoder, [config["id2label"][str(i)] for i in range(2)])
    raw = load_file(str(d / "model.safetensors"))
    arrays = {}
    for name, w in raw.items():
        if not name.endswith(".scale"):
            s = raw.get(name + ".scale")
            w = w.astype(np.float32)
            arrays[name] = w if s is None else w * s.astype(np.float32).reshape([-1] + [1] * (w.ndim - 1))
    charcnn.load_arrays(model, arrays)
    with torch.no_grad():
        for name, p in (("head", model.head), ("proj", encoder.proj), ("norm", encoder.norm)):
            p.bias.copy_(torch.from_numpy(arrays[name + ".bias"]))
            if name != "proj":
                p.weight.copy_(torch.from_numpy(arrays[name + ".weight"]))
        for i, (norm, conv) in enumerate(zip(encoder.norms, encoder.convs)):
            norm.weight.copy_(torch.from_numpy(arrays[f"blocks.{i}.norm.weight"]))
            norm.bias.copy_(torch.from_numpy(arrays[f"blocks.{i}.norm.bias"]))
            conv.bias.copy_(torch.from_numpy(arrays[f"blocks.{i}.conv.bias"]))
    return model.eval(), tok


def reviews(folder):
    for path in sorted(pathlib.Path(folder).glob("*.csv")):
        with open(path, encoding="utf-8-sig", newline="") as f:
            for row in csv.DictReader(f):
                try:
                    star = float(row["star"])
                except (TypeError, ValueError, KeyError):
                    continue
                if star != 3:
                    yield row["reviewbody"] if "reviewbody" in row else row["review"], int(star <= 2)


def scores(truth, guess):
    """accuracy, and (precision, recall, F1) of each class."""
    out = []
    for c in (0, 1):
        tp = sum(t == c == g for t, g in zip(truth, guess))
        said, real = sum(g == c for g in guess), sum(t == c for t in truth)
        p, r = tp / said if said else 0.0, tp / real if real else 0.0
        out.append((p, r, 2 * p * r / (p + r) if p + r else 0.0))
    return sum(t == g for t, g in zip(truth, guess)) / len(truth), out


def macro(truth, guess):
    return sum(f for _, _, f in scores(truth, guess)[1]) / 2


def asap(model, tok, folder):
    data = list(reviews(folder))
    truth = [y for _, y in data]
    guess = logits_of(model, tok, [t for t, _ in data], size=16).argmax(1).tolist()
    accuracy, classes = scores(truth, guess)
    print(f"ASAP: {len(truth)} reviews, {truth.count(0)} positive, {truth.count(1)} negative")
    print(f"majority baseline: accuracy {truth.count(0) / len(truth):.3f}, macro-F1 {macro(truth, [0] * len(truth)):.3f}")
    print(f"accuracy {accuracy:.3f}, macro-F1 {macro(truth, guess):.3f}")
    for label, (p, r, f) in zip(LABELS, classes):
        print(f"  {label}: precision {p:.3f} recall {r:.3f} F1 {f:.3f}")
    rng, draws = random.Random(1), []
    for _ in range(2000):
        pick = [rng.randrange(len(truth)) for _ in truth]
        draws.append(macro([truth[i] for i in pick], [guess[i] for i in pick]))
    draws.sort()
    print(f"macro-F1, bootstrap 95 %: {draws[50]:.3f} to {draws[1949]:.3f}")


def probes(model, tok, path):
    cases = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    rows = [(c["text"], label) for label in LABELS for c in cases if c["label"] == label]
    p = torch.softmax(logits_of(model, tok, [t for t, _ in rows]), 1)
    wrong = 0
    for (text, label), row in zip(rows, p):
        if LABELS[int(row.argmax())] != label:
            wrong += 1
            print(f"  not {label} ({row.max():.2f} the other): {text}")
    print(f"probes: {len(rows) - wrong} of {len(rows)}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--asap", help="folder of ASAP's CSV files")
    p.add_argument("--probes", help="JSON list of {text, label, kind}")
    a = p.parse_args()
    torch.set_num_threads(1)
    model, tok = load_model(a.model)
    if a.probes:
        probes(model, tok, a.probes)
    if a.asap:
        asap(model, tok, a.asap)


if __name__ == "__main__":
    main()
