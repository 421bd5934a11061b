"""Reading, scoring and tagging for the NER model.

Conventions, the same as `caddy infer eval FILE`: the text of a sentence is
its `# text =` line; words are found in it one after another, so a span is a
pair of code point offsets in that text, end exclusive. An entity counts when
span and type are both right. P, R and F1 are micro averages over entities.
"""

import collections
import pathlib

TYPES = ("PER", "LOC", "ORG")


def read_iob2(path):
    """[(text, [(start, end, type)])] of an .iob2 file."""
    out, text, words = [], None, []
    for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n") + [""]:
        if line.startswith("# text = "):
            text = line[len("# text = ") :]
        elif line.startswith("#"):
            continue
        elif line.strip():
            f = line.split("\t")
            words.append((f[1], f[2]))
        elif words:
            out.append(sentence(text, words))
            text, words = None, []
    return out


def sentence(text, words):
    if text is None:
        text = "".join(w for w, _ in words)
    spans, at, open_ = [], 0, None
    for word, tag in words:
        start = text.find(word, at)
        if start < 0:
            raise ValueError(f"word {word!r} is not in {text!r} after {at}")
        end = at = start + len(word)
        kind = tag[2:]
        if tag.startswith("I-") and open_ and open_[2] == kind:
            open_[1] = end
            continue
        if open_:
            spans.append(tuple(open_))
            open_ = None
        if tag != "O":
            open_ = [start, end, kind]
    if open_:
        spans.append(tuple(open_))
    return text, [s for s in spans if s[2] in TYPES]


def score(gold, predicted):
    """Lists of span lists -> {type or "all": (precision, recall, f1, gold)}."""
    tp, g, p = (collections.Counter() for _ in range(3))
    for a, b in zip(gold, predicted):
        a, b = set(a), set(b)
        for s in a:
            g[s[2]] += 1
        for s in b:
            p[s[2]] += 1
        for s in a & b:
            tp[s[2]] += 1
    out = {}
    for kind in TYPES + ("all",):
        kinds = TYPES if kind == "all" else (kind,)
        t, n, m = (sum(c[k] for k in kinds) for c in (tp, g, p))
        prec, rec = t / m if m else 0.0, t / n if n else 0.0
        f1 = 2 * t / (n + m) if n + m else 0.0
        out[kind] = (prec, rec, f1, n)
    return out


def show(name, s):
    cells = [f"{k} P {v[0]:.3f} R {v[1]:.3f} F1 {v[2]:.3f} ({v[3]})" for k, v in s.items()]
    return f"{name}: " + "; ".join(cells)


# ------------------------------------------------------------------- labels

LABELS = ["O"] + [f"{p}-{k}" for k in TYPES for p in "BIES"]
INDEX = {label: i for i, label in enumerate(LABELS)}


def to_tags(spans, starts):
    """BIOES label ids for the tokens that begin at code points `starts`."""
    tags = [0] * len(starts)
    for s, e, kind in spans:
        inside = [i for i, p in enumerate(starts) if s <= p < e]
        if not inside:
            continue
        if len(inside) == 1:
            tags[inside[0]] = INDEX["S-" + kind]
            continue
        for i in inside:
            tags[i] = INDEX["I-" + kind]
        tags[inside[0]] = INDEX["B-" + kind]
        tags[inside[-1]] = INDEX["E-" + kind]
    return tags


def to_spans(tags, starts):
    """Spans of a legal BIOES path."""
    out, begin = [], None
    for i, t in enumerate(tags):
        label = LABELS[t]
        if label[0] == "S":
            out.append((starts[i], starts[i] + 1, label[2:]))
        elif label[0] == "B":
            begin = i
        elif label[0] == "E" and begin is not None:
            out.append((starts[begin], starts[i] + 1, label[2:]))
            begin = None
    return out


def forbidden():
    """CRF tables with -1e4 at transitions that BIOES does not allow."""
    import torch

    n = len(LABELS)
    t, s, e = torch.zeros(n, n), torch.zeros(n), torch.zeros(n)
    for i, a in enumerate(LABELS):
        inside = a[0] in "BI"
        for j, b in enumerate(LABELS):
            follows = b[0] in "IE"
            if inside != follows or (inside and a[2:] != b[2:]):
                t[i, j] = -1e4
        if inside:
            e[i] = -1e4
        if a[0] in "IE":
            s[i] = -1e4
    return t, s, e
