"""The teacher: gold-trained, with free taggers' output among its inputs.

    python ner_teacher.py --simp ... --trad ... --pud ... --char-map ... \
        --tags lac.jsonl --tags jieba.jsonl [--init pretrained.pt] \
        --label sentences.txt --out silver.jsonl --seeds 3

A tagger such as LAC knows far more names than 5,000 gold sentences teach, but
draws the borders of entities differently from UNER. The teacher learns the
difference: it reads the characters and each tagger's words and tags, and is
trained on the gold sentences. It then labels unlabelled sentences for the
small model, which has to do without the taggers. Never reads dev or test for
training; dev chooses the epoch.
"""

import argparse
import copy
import json
import pathlib
import random
import time

import torch
from torch import nn

import charcnn
import ner_data

torch.set_num_threads(1)


class Teacher(nn.Module):
    def __init__(self, encoder, sizes, dim=48, hidden=192):
        super().__init__()
        self.encoder = encoder
        self.features = nn.ModuleList(nn.Embedding(n, dim) for n in sizes)
        width = encoder.shape["hidden_size"] + dim * len(sizes)
        self.drop = nn.Dropout(0.4)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, len(ner_data.LABELS))
        self.crf = charcnn.CRF(ner_data.LABELS, ner_data.forbidden())

    def forward(self, ids, mask, feats):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.encoder(ids, mask)
        x = [y.float()] + [e(f) for e, f in zip(self.features, feats)]
        # Whole taggers drop out, so that the teacher trusts none blindly.
        if self.training:
            for i in range(1, len(x)):
                keep = (torch.rand(x[i].shape[0], 1, 1) > 0.1).float()
                x[i] = x[i] * keep
        x = self.drop(torch.cat(x, -1))
        lengths = mask.sum(1).long()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        y, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        return self.head(self.drop(y))


class Taggers:
    """Feature ids per character, by folded text."""

    def __init__(self, paths, fold):
        self.fold, self.tables, self.names = fold, [], []
        for path in paths:
            rows = {}
            for line in open(path, encoding="utf-8"):
                r = json.loads(line)
                rows[r["text"]] = (r["words"], r["tags"])
            self.tables.append(rows)
            self.names.append({"O": 0})

    def folded(self, text):
        return "".join(self.fold.get(c, c) for c in text)

    def features(self, text, starts, grow):
        folded = self.folded(text)
        out = []
        for rows, names in zip(self.tables, self.names):
            place = {p: i for i, p in enumerate(starts)}
            feats, at = [0] * len(starts), 0
            words, tags = rows.get(folded, ((), ()))
            for w, t in zip(words, tags):
                s = folded.find(w, at)
                if s < 0 or not w:
                    continue
                at = s + len(w)
                inside = [place[p] for p in range(s, at) if p in place]
                for k, i in enumerate(inside):
                    b = (
                        "S"
                        if len(inside) == 1
                        else "B"
                        if k == 0
                        else "E"
                        if k == len(inside) - 1
                        else "I"
                    )
                    key = f"{b}-{t}"
                    if grow:
                        names.setdefault(key, len(names))
                    feats[i] = names.get(key, 0)
            out.append(feats)
        return out


def worth_labelling(args, taggers, gold):
    """Sentences in which the first tagger sees a name, and some others."""
    rng, out = random.Random(5), []
    for text in pathlib.Path(args.label).read_text(encoding="utf-8").splitlines():
        _, tags = taggers.tables[0].get(taggers.folded(text), ((), ()))
        named = any(t in ner_data.TYPES for t in tags)
        if text.strip() and text not in gold and (named or rng.random() < args.plain):
            out.append(text)
    return out


def batch_of(rows, count):
    ids, mask = charcnn.pad([r[0] for r in rows])
    tags = torch.zeros_like(ids)
    feats = [torch.zeros_like(ids) for _ in range(count)]
    for i, r in enumerate(rows):
        tags[i, : len(r[1])] = torch.tensor(r[1])
        for f, v in zip(feats, r[2]):
            f[i, : len(v)] = torch.tensor(v)
    return ids, mask, tags, feats


def logits_of(models, rows, count):
    ids, mask, _, feats = batch_of(rows, count)
    with torch.no_grad():
        return sum(m(ids, mask, feats) for m in models) / len(models)


def decode(models, crf, rows, count):
    """Spans in token positions, one list per row, in order."""
    paths = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    for at in range(0, len(order), 64):
        part = order[at : at + 64]
        z = logits_of(models, [rows[i] for i in part], count).numpy()
        for k, i in enumerate(part):
            paths[i] = crf.decode(z[k], len(rows[i][0]))
    return paths


def train_one(args, seed, rows, dev, dev_gold, taggers, vocab_size):
    torch.manual_seed(seed)
    rng = random.Random(seed)
    encoder = charcnn.Encoder(
        vocab_size,
        bigram_dim=48,
        bigram_buckets=32768,
        dilations=tuple(int(d) for d in args.dilations.split(",")),
        dropout=0.3,
    )
    if args.init:
        state = torch.load(args.init)
        state = {k[len("encoder.") :]: v for k, v in state.items() if k.startswith("encoder.")}
        encoder.load_state_dict(state)
    model = Teacher(encoder, [len(n) for n in taggers.names])
    fast = [p for n, p in model.named_parameters() if not n.startswith("encoder.")]
    groups = [
        {"params": list(encoder.parameters()), "lr": args.lr * (0.3 if args.init else 1)},
        {"params": fast, "lr": args.lr},
    ]
    opt = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    base = [g["lr"] for g in opt.param_groups]
    ema, best, step = copy.deepcopy(model).eval(), (-1, None), 0
    per = (len(rows) + 31) // 32
    total = per * args.epochs
    count, began = len(taggers.names), time.time()
    for epoch in range(args.epochs):
        order = sorted(rows, key=lambda r: len(r[0]) + rng.random() * 6)
        batches = [order[i : i + 32] for i in range(0, len(order), 32)]
        rng.shuffle(batches)
        model.train()
        for part in batches:
            for g, lr in zip(opt.param_groups, base):
                g["lr"] = lr * min(1, step / (0.1 * total)) * max(0.02, 1 - step / total)
            ids, mask, tags, feats = batch_of(part, count)
            hidden = (torch.rand(ids.shape) < 0.06) & (mask > 0)
            z = model(ids.masked_fill(hidden, charcnn.UNK), mask, feats)
            loss = model.crf.loss(z, tags, mask).mean()
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            step += 1
            decay = min(0.995, step / (step + 20))
            with torch.no_grad():
                mine = model.state_dict()
                for k, v in ema.state_dict().items():
                    v.lerp_(mine[k], 1 - decay)
        paths = decode([ema], ema.crf, [d[0] for d in dev], count)
        pred = [ner_data.to_spans(p, d[1]) for p, d in zip(paths, dev)]
        s = ner_data.score(dev_gold, pred)
        if s["all"][2] > best[0]:
            best = (s["all"][2], copy.deepcopy(ema.state_dict()))
        print(
            f"seed {seed} epoch {epoch} loss {loss.item():.2f} {time.time() - began:.0f}s dev "
            + " ".join(f"{k} {v[2]:.3f}" for k, v in s.items()),
            flush=True,
        )
    ema.load_state_dict(best[1])
    return ema


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--simp", required=True)
    a.add_argument("--trad", required=True)
    a.add_argument("--pud")
    a.add_argument("--char-map", required=True)
    a.add_argument("--tags", action="append", required=True, help="ner_tag.py output; LAC's first")
    a.add_argument("--vocab-from", required=True)
    a.add_argument("--init", help="encoder weights, ner_train.py --save-tags")
    a.add_argument("--dilations", default="1,2,4,1,2")
    a.add_argument("--label", help="sentences to label")
    a.add_argument(
        "--plain", type=float, default=0.15, help="share kept of sentences without names"
    )
    a.add_argument("--out")
    a.add_argument("--seeds", type=int, default=1)
    a.add_argument("--epochs", type=int, default=12)
    a.add_argument("--lr", type=float, default=1e-3)
    args = a.parse_args()
    import ner_train

    simp, trad = pathlib.Path(args.simp), pathlib.Path(args.trad)
    fold = charcnn.read_char_map(args.char_map)
    train = ner_data.read_iob2(simp / "train.iob2")
    train_trad = ner_data.read_iob2(trad / "train.iob2")
    pud = ner_data.read_iob2(args.pud) if args.pud else []
    tok = ner_train.vocabulary(train, train_trad, pud, args.vocab_from, fold)
    taggers = Taggers(args.tags, fold)

    def row(text, spans, grow=False):
        ids, starts = tok.encode(text)
        return (
            (ids, ner_data.to_tags(spans, starts), taggers.features(text, starts, grow)),
            starts,
            text,
        )

    rows = [row(t, s, True)[0] for t, s in train + pud]
    rows = [r for r in rows if r[0]]
    dev = ner_data.read_iob2(simp / "dev.iob2")
    dev_rows = [row(t, s) for t, s in dev]
    models = [
        train_one(args, seed + 1, rows, dev_rows, [s for _, s in dev], taggers, len(tok.vocab))
        for seed in range(args.seeds)
    ]
    crf = copy.deepcopy(models[0].crf)
    with torch.no_grad():
        for name in ("transitions", "start_transitions", "end_transitions"):
            getattr(crf, name).copy_(sum(getattr(m.crf, name) for m in models) / len(models))
    for name in ("dev", "test"):
        data = ner_data.read_iob2(simp / f"{name}.iob2")
        some = [row(t, s) for t, s in data]
        paths = decode(models, crf, [r[0] for r in some], len(taggers.names))
        pred = [ner_data.to_spans(p, r[1]) for p, r in zip(paths, some)]
        print(
            ner_data.show(f"teacher {name}", ner_data.score([s for _, s in data], pred)), flush=True
        )
    if args.label:
        lines = worth_labelling(args, taggers, {taggers.folded(t) for t, _ in train + pud})
        with open(args.out, "w", encoding="utf-8") as out:
            for at in range(0, len(lines), 4096):
                some = [row(t, []) for t in lines[at : at + 4096]]
                some = [r for r in some if 0 < len(r[0][0]) <= 200]
                paths = decode(models, crf, [r[0] for r in some], len(taggers.names))
                for p, r in zip(paths, some):
                    spans = ner_data.to_spans(p, r[1])
                    out.write(json.dumps({"text": r[2], "spans": spans}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
