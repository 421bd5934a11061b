"""The network and exporter of the built-in models (family "charcnn").

The Go twin is inference/goengine/charcnn.go. Whoever changes arithmetic here changes it
there; the fixture that `export` writes beside a test keeps the two equal.

    x_t = char[id_t] ++ bigram[h2(id_{t-1}, id_t)] ++ bigram[h2(id_t, id_{t+1})]
          (++ trigram[h3(id_{t-1}, id_t, id_{t+1})])        neighbours outside = 0
    x   = proj(x);  for each block: x = x + gelu(conv3(layernorm(x), dilation))
    y   = layernorm(x)
    token head:    y_t -> labels, with a linear-chain CRF
    sequence head: max over t ++ mean over t -> labels
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

from chartext import PAD, UNK, CharTokenizer, read_char_map, skipped  # noqa: F401 (re-exported)

LAYER_NORM_EPS = 1e-5


# ------------------------------------------------------------------ network


def hash2(a, b, buckets):
    h = ((a * 0x9E3779B1) & 0xFFFFFFFF) ^ ((b * 0x85EBCA77) & 0xFFFFFFFF)
    return (h >> 7) % buckets


def hash3(a, b, c, buckets):
    h = ((a * 0x9E3779B1) & 0xFFFFFFFF) ^ ((b * 0x85EBCA77) & 0xFFFFFFFF)
    h = h ^ ((c * 0xC2B2AE3D) & 0xFFFFFFFF)
    return (h >> 7) % buckets


class Encoder(nn.Module):
    def __init__(
        self,
        vocab_size,
        hidden=192,
        char_dim=128,
        bigram_dim=64,
        bigram_buckets=16384,
        trigram_dim=0,
        trigram_buckets=0,
        dilations=(1, 2, 4, 1, 2),
        dropout=0.2,
    ):
        super().__init__()
        self.shape = dict(
            vocab_size=vocab_size,
            hidden_size=hidden,
            char_dim=char_dim,
            bigram_dim=bigram_dim,
            bigram_buckets=bigram_buckets,
            trigram_dim=trigram_dim if trigram_buckets else 0,
            trigram_buckets=trigram_buckets,
            dilations=list(dilations),
            kernel_size=3,
            layer_norm_eps=LAYER_NORM_EPS,
        )
        self.char = nn.Embedding(vocab_size, char_dim)
        self.bigram = nn.Embedding(bigram_buckets, bigram_dim)
        width = char_dim + 2 * bigram_dim
        self.trigram = None
        if trigram_buckets:
            self.trigram = nn.Embedding(trigram_buckets, trigram_dim)
            width += trigram_dim
        for e in (self.char, self.bigram, self.trigram):
            if e is not None:
                nn.init.normal_(e.weight, std=0.1)
        self.proj = nn.Linear(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=LAYER_NORM_EPS) for _ in dilations)
        self.convs = nn.ModuleList(
            nn.Conv1d(hidden, hidden, 3, padding=d, dilation=d) for d in dilations
        )
        self.norm = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids, mask):
        """ids [B,T] padded with 0, mask [B,T] float -> [B,T,hidden]."""
        # An id of 0 is what a missing neighbour looks like, so padding and
        # the edge of a sequence agree.
        prev = F.pad(ids, (1, 0))[:, :-1]
        nxt = F.pad(ids, (0, 1))[:, 1:]
        n = self.shape["bigram_buckets"]
        parts = [
            self.char(ids),
            self.bigram(hash2(prev, ids, n)),
            self.bigram(hash2(ids, nxt, n)),
        ]
        if self.trigram is not None:
            parts.append(self.trigram(hash3(prev, ids, nxt, self.shape["trigram_buckets"])))
        m = mask.unsqueeze(-1)
        x = self.proj(self.dropout(torch.cat(parts, -1)))
        for norm, conv in zip(self.norms, self.convs):
            y = (norm(x) * m).transpose(1, 2)
            y = F.gelu(conv(y)).transpose(1, 2)
            x = x + self.dropout(y)
        return self.dropout(self.norm(x))


class CRF(nn.Module):
    """Linear-chain CRF; `forbid` pins illegal transitions at -1e4."""

    def __init__(self, labels, forbid=None):
        super().__init__()
        n = len(labels)
        self.transitions = nn.Parameter(torch.zeros(n, n))
        self.start_transitions = nn.Parameter(torch.zeros(n))
        self.end_transitions = nn.Parameter(torch.zeros(n))
        z = torch.zeros(n, n)
        s, e = torch.zeros(n), torch.zeros(n)
        if forbid is not None:
            z, s, e = forbid
        self.register_buffer("forbid_t", z, persistent=False)
        self.register_buffer("forbid_s", s, persistent=False)
        self.register_buffer("forbid_e", e, persistent=False)

    def tables(self):
        return (
            self.transitions + self.forbid_t,
            self.start_transitions + self.forbid_s,
            self.end_transitions + self.forbid_e,
        )

    def log_partition(self, logits, mask):
        t, s, e = self.tables()
        alpha = s + logits[:, 0]
        for i in range(1, logits.shape[1]):
            nxt = torch.logsumexp(alpha.unsqueeze(2) + t, 1) + logits[:, i]
            alpha = torch.where(mask[:, i : i + 1] > 0, nxt, alpha)
        return torch.logsumexp(alpha + e, 1)

    def score(self, logits, tags, mask):
        t, s, e = self.tables()
        emit = (logits.gather(2, tags.unsqueeze(2)).squeeze(2) * mask).sum(1)
        trans = (t[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]).sum(1)
        last = tags.gather(1, (mask.sum(1).long() - 1).unsqueeze(1)).squeeze(1)
        return emit + trans + s[tags[:, 0]] + e[last]

    def loss(self, logits, tags, mask):
        """Negative log likelihood, one value per sequence."""
        return self.log_partition(logits, mask) - self.score(logits, tags, mask)

    @torch.no_grad()
    def decode(self, logits, length):
        """Best path of one sequence, numpy [T,L] -> list of label ids."""
        t, s, e = (v.detach().cpu().numpy() for v in self.tables())
        alpha = s + logits[0]
        back = []
        for i in range(1, length):
            m = alpha[:, None] + t
            back.append(m.argmax(0))
            alpha = m.max(0) + logits[i]
        best = int((alpha + e).argmax())
        path = [best]
        for b in reversed(back):
            path.append(int(b[path[-1]]))
        return path[::-1]


class TokenModel(nn.Module):
    """Token classification; without forbid tables the CRF is unconstrained."""

    def __init__(self, encoder, labels, forbid=None):
        super().__init__()
        self.encoder, self.labels = encoder, list(labels)
        self.head = nn.Linear(encoder.shape["hidden_size"], len(labels))
        self.crf = CRF(labels, forbid)

    def forward(self, ids, mask):
        return self.head(self.encoder(ids, mask))


class SequenceModel(nn.Module):
    """Sequence classification over max and mean pooling."""

    def __init__(self, encoder, labels):
        super().__init__()
        self.encoder, self.labels = encoder, list(labels)
        self.head = nn.Linear(2 * encoder.shape["hidden_size"], len(labels))

    def forward(self, ids, mask):
        y = self.encoder(ids, mask)
        m = mask.unsqueeze(-1)
        top = (y + (m - 1) * 1e9).max(1).values
        mean = (y * m).sum(1) / m.sum(1).clamp(min=1)
        return self.head(torch.cat([top, mean], -1))


def pad(batch):
    """List of id lists -> ids [B,T] int64 and mask [B,T] float."""
    width = max(1, max(len(b) for b in batch))
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width)
    for i, b in enumerate(batch):
        ids[i, : len(b)] = torch.tensor(b, dtype=torch.long)
        mask[i, : len(b)] = 1
    return ids, mask


# ------------------------------------------------------------------- export


def quantize(w):
    """Symmetric INT8 per row (first dimension) and its F32 scales."""
    flat = w.reshape(w.shape[0], -1)
    scale = np.abs(flat).max(1) / 127
    scale[scale == 0] = 1
    q = np.clip(np.rint(flat / scale[:, None]), -127, 127).astype(np.int8)
    return q.reshape(w.shape), scale.astype(np.float32)


def tensors(model):
    """Name -> float32 array, in the layout that the Go engine reads.

    Convolutions become [out, tap, in], so that one output channel is one
    contiguous row.
    """
    e = model.encoder
    out = {
        "embeddings.char.weight": e.char.weight,
        "embeddings.bigram.weight": e.bigram.weight,
        "proj.weight": e.proj.weight,
        "proj.bias": e.proj.bias,
        "norm.weight": e.norm.weight,
        "norm.bias": e.norm.bias,
        "head.weight": model.head.weight,
        "head.bias": model.head.bias,
    }
    if e.trigram is not None:
        out["embeddings.trigram.weight"] = e.trigram.weight
    for i, (norm, conv) in enumerate(zip(e.norms, e.convs)):
        out[f"blocks.{i}.norm.weight"] = norm.weight
        out[f"blocks.{i}.norm.bias"] = norm.bias
        out[f"blocks.{i}.conv.weight"] = conv.weight.permute(0, 2, 1)
        out[f"blocks.{i}.conv.bias"] = conv.bias
    if hasattr(model, "crf"):
        t, s, en = model.crf.tables()
        out["crf.transitions"] = t
        out["crf.start_transitions"] = s
        out["crf.end_transitions"] = en
    return {k: v.detach().cpu().float().contiguous().numpy() for k, v in out.items()}


QUANTIZED = ("embeddings.", "proj.weight", "conv.weight")


def export(model, tokenizer, directory, fixture=None, texts=()):
    """Write the model directory, and a fixture of logits for the Go test.

    The fixture's logits come from the quantised weights, so the Go test's
    tolerance covers rounding in the arithmetic only.
    """
    d = pathlib.Path(directory)
    d.mkdir(parents=True, exist_ok=True)
    files, back = {}, {}
    for name, w in tensors(model).items():
        if w.ndim > 1 and any(q in name for q in QUANTIZED):
            q, scale = quantize(w)
            files[name], files[name + ".scale"] = q, scale
            back[name] = q.astype(np.float32) * scale.reshape([-1] + [1] * (w.ndim - 1))
        else:
            files[name] = back[name] = w
    save_file(files, str(d / "model.safetensors"), metadata={"format": "pt"})
    (d / "model.safetensors").chmod(0o644)

    token = isinstance(model, TokenModel)
    config = {
        "architectures": [f"CharCNNFor{'Token' if token else 'Sequence'}Classification"],
        "model_type": "charcnn",
        **model.encoder.shape,
        "hidden_act": "gelu",
        "id2label": {str(i): l for i, l in enumerate(model.labels)},
        "label2id": {l: i for i, l in enumerate(model.labels)},
    }
    write_json(d / "config.json", config)
    write_json(
        d / "tokenizer_config.json",
        {
            "tokenizer_class": "CharTokenizer",
            "do_lower_case": True,
            "fold_width": True,
            "char_map": "char_map.txt",
        },
    )
    (d / "vocab.txt").write_text("".join(t + "\n" for t in tokenizer.vocab), encoding="utf-8")
    lines = sorted(a + b + "\n" for a, b in tokenizer.char_map.items())
    (d / "char_map.txt").write_text("".join(lines), encoding="utf-8")

    if fixture:
        model = load_arrays(model, back)
        cases = []
        for text in texts:
            ids, starts = tokenizer.encode(text)
            with torch.no_grad():
                logits = model(*pad([ids]))[0]
            rows = logits.tolist() if token else [logits.tolist()]
            rows = [[round(v, 5) for v in r] for r in rows]
            cases.append({"text": text, "ids": ids, "starts": starts, "logits": rows})
        write_json(pathlib.Path(fixture), {"cases": cases}, indent=None)


def load_arrays(model, arrays):
    """Put exported arrays (see tensors) back into a model, in place."""
    model.eval()
    live = {
        "embeddings.char.weight": model.encoder.char.weight,
        "embeddings.bigram.weight": model.encoder.bigram.weight,
        "proj.weight": model.encoder.proj.weight,
    }
    if model.encoder.trigram is not None:
        live["embeddings.trigram.weight"] = model.encoder.trigram.weight
    with torch.no_grad():
        for name, p in live.items():
            p.copy_(torch.from_numpy(arrays[name]))
        for i, conv in enumerate(model.encoder.convs):
            conv.weight.copy_(torch.from_numpy(arrays[f"blocks.{i}.conv.weight"]).permute(0, 2, 1))
    return model


def write_json(path, value, indent=2):
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
