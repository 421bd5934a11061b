#!/usr/bin/env python3
"""Write a BERT with random weights, and what PyTorch computes with it.

    python3 reference.py KIND SIZE DIR

KIND  token      Hugging Face layout: BertForTokenClassification
      sequence   Hugging Face layout: BertForSequenceClassification, weights in half precision
      raner      ModelScope layout of damo/nlp_raner_named-entity-recognition_chinese-base-news:
                 TransformerCRF (encoder, linear, crf) in pytorch_model.bin
      structbert ModelScope layout of damo/nlp_structbert_sentiment-classification_chinese-base
SIZE  tiny, small, or base: 12 layers of 768

DIR/expected.json gets token ids, logits and, for tags, the entities that the
CRF's best path means. The network is Hugging Face's own, so this needs torch
(1.13 or later) and transformers (4.40.2 is the last that runs with 1.13).

The fixtures tiny-token and tiny-sequence beside this script were written by
it; different versions of torch give different random numbers.
"""

import json
import os
import sys

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

TEXTS = [
    "马云在杭州阿里巴巴总部发表演讲。",
    "清华大学与中科院联合发布新研究成果。",
    "好",
    "特朗普访问华盛顿特区白宫，2024年iPhone发布。",
]
SIZES = {  # hidden, layers, heads, intermediate, positions, vocabulary
    "tiny": (32, 2, 4, 64, 48, 100),
    "small": (64, 2, 2, 256, 128, 200),
    "base": (768, 12, 12, 3072, 512, 2000),
}
TAGS = ["O"] + [f"{p}-{t}" for t in ("LOC", "ORG", "PER") for p in "BIES"]
SENTIMENTS = ["负面", "正面"]
ILLEGAL = -50.0  # what training does to transitions that never occur


def vocabulary(size):
    seen = dict.fromkeys("".join(TEXTS).lower())
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *seen, "##p", "##hone", "2024"]
    return words + [f"[unused{i}]" for i in range(size - len(words))]


def randomise(model):
    """Make every parameter matter: activations near 1, attention that is not
    uniform, gains and biases that are not 1 and 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embeddings" in name and p.dim() == 2:
                p.normal_(0, 0.5)
            elif p.dim() == 2:
                p.normal_(0, 1.5 / p.shape[1] ** 0.5)
            elif "LayerNorm.weight" in name:
                p.normal_(1, 0.2)
            else:
                p.normal_(0, 0.2)


class TransformerCRF(nn.Module):
    """RaNER's module names; the CRF is applied by viterbi below."""

    def __init__(self, config):
        super().__init__()
        self.encoder = transformers.BertModel(config)
        self.linear = nn.Linear(config.hidden_size, config.num_labels)
        self.crf = nn.Module()
        self.crf.start_transitions = nn.Parameter(torch.empty(config.num_labels))
        self.crf.end_transitions = nn.Parameter(torch.empty(config.num_labels))
        self.crf.transitions = nn.Parameter(torch.empty(config.num_labels, config.num_labels))

    def forward(self, ids):
        return self.linear(self.encoder(ids)[0])


def constrain(crf):
    """Forbid what is not BIOES, as a trained CRF does, and favour entities of
    several tokens."""

    def follows(a, b):
        if a[0] in "BI":
            return b[0] in "IE" and a[1:] == b[1:]
        return b[0] in "OBS"

    with torch.no_grad():
        for i, a in enumerate(TAGS):
            if a[0] in "IE":
                crf.start_transitions[i] = ILLEGAL
            if a[0] in "BI":
                crf.end_transitions[i] = ILLEGAL
            if a[0] == "S":
                crf.start_transitions[i] -= 3
                crf.transitions[:, i] -= 3
            for j, b in enumerate(TAGS):
                if not follows(a, b):
                    crf.transitions[i, j] = ILLEGAL


def viterbi(logits, crf):
    score, back = crf.start_transitions + logits[0], []
    for row in logits[1:]:
        total = score[:, None] + crf.transitions
        score, best = total.max(dim=0)
        score = score + row
        back.append(best)
    path = [int((score + crf.end_transitions).argmax())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    return path[::-1]


def entities(path):
    """[[type, first token, end token], …] of a legal BIOES path."""
    found, start = [], 0
    for i, tag in enumerate(TAGS[t] for t in path):
        if tag[0] in "BS":
            start = i
        if tag[0] in "ES":
            found.append([tag[2:], start, i + 1])
    return found


def write(directory, name, value):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False)


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in SIZES:
        sys.exit(__doc__)
    kind, size, directory = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    torch.manual_seed(20)
    hidden, layers, heads, intermediate, positions, size = SIZES[size]
    labels = TAGS if kind in ("token", "raner") else SENTIMENTS
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=intermediate, max_position_embeddings=positions, num_labels=len(labels),
        id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)})
    model = {
        "token": transformers.BertForTokenClassification,
        "sequence": transformers.BertForSequenceClassification,
        "structbert": transformers.BertForSequenceClassification,
        "raner": TransformerCRF,
    }[kind](config).eval()
    randomise(model)
    if kind == "sequence":
        model.half().float()  # what half precision keeps is the model
    with open(os.path.join(directory, "vocab.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(vocabulary(size)) + "\n")
    tokenizer = transformers.BertTokenizerFast(os.path.join(directory, "vocab.txt"))
    inputs = [tokenizer(text)["input_ids"] for text in TEXTS]
    if kind == "raner":
        constrain(model.crf)
        with torch.no_grad():  # no tag is likelier than another everywhere
            every = torch.cat([model(torch.tensor([ids]))[0] for ids in inputs])
            model.linear.bias -= every.mean(dim=0)

    settings = config.to_dict()
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    if kind in ("token", "sequence"):
        settings["architectures"] = [type(model).__name__]
        dtype = torch.float16 if kind == "sequence" else torch.float32
        save_file({k: v.to(dtype) for k, v in state.items() if v.is_floating_point()},
                  os.path.join(directory, "model.safetensors"))
    elif kind == "raner":
        torch.save(state, os.path.join(directory, "pytorch_model.bin"))
        write(directory, "configuration.json", {
            "framework": "pytorch", "task": "named-entity-recognition",
            "model": {"type": "transformer-crf"}, "preprocessor": {"type": "sequence-labeling-tokenizer"},
            "pipeline": {"type": "named-entity-recognition"}})
    else:
        torch.save(state, os.path.join(directory, "pytorch_model.bin"))
        settings["model_type"] = "structbert"
        del settings["id2label"], settings["label2id"]
        write(directory, "label_mapping.json", {name: i for i, name in enumerate(labels)})
        write(directory, "configuration.json", {
            "framework": "pytorch", "task": "text-classification",
            "model": {"type": "structbert"}, "preprocessor": {"type": "sen-cls-tokenizer"},
            "pipeline": {"type": "text-classification"}})
    write(directory, "config.json", settings)

    cases = []
    for text, ids in zip(TEXTS, inputs):
        with torch.no_grad():
            out = model(torch.tensor([ids]))
            logits = (out if kind == "raner" else out.logits)[0]
        rows = logits if logits.dim() == 2 else logits[None]
        case = {"text": text, "ids": ids, "logits": [[round(v, 6) for v in row] for row in rows.tolist()]}
        if kind == "raner":
            case["entities"] = entities(viterbi(rows[1:-1], model.crf))
        cases.append(case)
    write(directory, "expected.json", {
        "torch": torch.__version__, "transformers": transformers.__version__, "labels": labels, "cases": cases})


if __name__ == "__main__":
    main()
