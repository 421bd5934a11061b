"""Train, evaluate and export builtin/ner-zh (see README.md for the recipe).

One run is: vocabulary and character map -> optional pretraining on the words
and part-of-speech tags of a tagger (--tags) -> optional training on a
teacher's entities (--silver) together with the gold sentences -> training on
gold -> export. `--save` keeps the float weights for --init of a later run.
The checkpoint is chosen on GSDSIMP dev; test is printed, never used.
"""

import argparse
import copy
import json
import math
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import charcnn
import ner_augment
import ner_data
import ner_templates

torch.set_num_threads(1)


def arguments():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--simp", required=True, help="folder of UNER GSDSIMP")
    a.add_argument("--trad", required=True, help="folder of UNER GSD")
    a.add_argument("--pud", help="UNER PUD .iob2, 1,000 more gold sentences")
    a.add_argument("--without-pud", action="store_true", help="PUD for the vocabulary only")
    a.add_argument("--char-map", required=True, help="OpenCC's TSCharacters.txt")
    a.add_argument("--tags", help="tagger output (ner_tag.py) for pretraining")
    a.add_argument("--tag-epochs", type=float, default=3)
    a.add_argument("--silver", help="teacher's entities, .jsonl of text and spans")
    a.add_argument("--silver-epochs", type=float, default=3)
    a.add_argument("--gold-epochs", type=float, default=20)
    a.add_argument("--gold-repeat", type=int, default=4, help="gold per silver epoch")
    a.add_argument("--replace", type=float, default=0.0, help="share of entities replaced")
    a.add_argument("--names", action="append", default=[], help="gazetteer .tsv: type, name")
    a.add_argument("--noise", type=float, default=0.0, help="share of noisy sentences")
    a.add_argument("--templates", type=int, default=0, help="filled templates per gold epoch")
    a.add_argument("--unk", type=float, default=0.03, help="share of characters hidden")
    a.add_argument("--dropout", type=float, default=0.25)
    a.add_argument("--lr", type=float, default=1.5e-3)
    a.add_argument("--gold-lr", type=float, default=6e-4)
    a.add_argument("--hidden", type=int, default=192)
    a.add_argument("--char-dim", type=int, default=128)
    a.add_argument("--bigram-dim", type=int, default=48)
    a.add_argument("--buckets", type=int, default=32768)
    a.add_argument("--trigram-dim", type=int, default=0)
    a.add_argument("--trigram-buckets", type=int, default=0)
    a.add_argument("--dilations", default="1,2,4,1,2")
    a.add_argument("--vocab-from", help="more text for the vocabulary")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument(
        "--init", action="append", default=[], help="weights to start from; several are averaged"
    )
    a.add_argument("--save", help="where to keep float weights")
    a.add_argument("--save-tags", help="where to keep them after pretraining")
    a.add_argument("--out", help="model directory to write")
    a.add_argument("--fixture", help="test fixture to write")
    return a.parse_args()


class Data:
    """Sentences as (ids, targets), batched by length."""

    def __init__(self, rows):
        self.rows = rows

    def batches(self, rng, chars):
        order = sorted(self.rows, key=lambda r: len(r[0]) + rng.random() * 4)
        out, at = [], 0
        while at < len(order):
            n = max(8, chars // max(1, len(order[at][0])))
            out.append(order[at : at + n])
            at += n
        rng.shuffle(out)
        return out


def tensor_batch(rows):
    ids, mask = charcnn.pad([r[0] for r in rows])
    tags = torch.zeros_like(ids)
    for i, r in enumerate(rows):
        tags[i, : len(r[1])] = torch.tensor(r[1])
    return ids, mask, tags


def evaluate(model, tok, sentences):
    model.eval()
    enc = [tok.encode(t) for t, _ in sentences]
    pred = [None] * len(sentences)
    order = sorted(range(len(enc)), key=lambda i: len(enc[i][0]))
    with torch.no_grad():
        for at in range(0, len(order), 50):
            part = order[at : at + 50]
            ids, mask = charcnn.pad([enc[i][0] for i in part])
            logits = model(ids, mask).float().numpy()
            for k, i in enumerate(part):
                n = len(enc[i][0])
                path = model.crf.decode(logits[k], n) if n else []
                pred[i] = ner_data.to_spans(path, enc[i][1])
    return ner_data.score([s for _, s in sentences], pred)


class Trainer:
    def __init__(self, model, args):
        self.model, self.args = model, args
        self.rng = random.Random(args.seed)
        self.ema = copy.deepcopy(model).eval()

    def hide(self, ids, mask):
        """Turn some characters into [UNK], so that context has to do."""
        if self.args.unk:
            drop = (torch.rand(ids.shape) < self.args.unk) & (mask > 0)
            ids = ids.masked_fill(drop, charcnn.UNK)
        return ids

    def run(self, make_rows, epochs, lr, loss_of, params, label, check=None, chars=2600):
        """Cosine schedule with warm-up; `check` after each epoch."""
        opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.01, fused=True)
        steps_per = len(Data(make_rows()).batches(self.rng, chars))
        total, step, began = max(1, int(steps_per * epochs)), 0, time.time()
        epoch = 0
        while step < total:
            epoch += 1
            losses = []
            for rows in Data(make_rows()).batches(self.rng, chars):
                if step >= total:
                    break
                warm = min(1.0, (step + 1) / (0.05 * total + 1))
                rate = lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))
                for g in opt.param_groups:
                    g["lr"] = rate
                self.model.train()
                ids, mask, tags = tensor_batch(rows)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    hidden = self.model.encoder(self.hide(ids, mask), mask)
                loss = loss_of(hidden, mask, tags)
                opt.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(params, 5.0)
                opt.step()
                decay = min(0.998, (step + 1) / (step + 20))
                with torch.no_grad():
                    mine = self.model.state_dict()
                    for k, v in self.ema.state_dict().items():
                        v.lerp_(mine[k], 1 - decay) if v.is_floating_point() else v.copy_(mine[k])
                losses.append(loss.item())
                step += 1
            note = check() if check else ""
            if self.args.save:
                torch.save(self.ema.state_dict(), self.args.save + ".part")
            took = time.time() - began
            print(f"{label} {epoch} loss {np.mean(losses):.3f} {took:.0f}s {note}", flush=True)


def tag_rows(path, tok):
    """BIES x part of speech per character, out of a tagger's words."""
    rows, names, data = [], {"O": 0}, []
    for line in open(path, encoding="utf-8"):
        r = json.loads(line)
        text, at, spans = r["text"], 0, []
        for w, t in zip(r["words"], r["tags"]):
            start = text.find(w, at)
            if start < 0 or not w:
                continue
            at = start + len(w)
            spans.append((start, at, t))
        data.append((text, spans))
    for text, spans in data:
        ids, starts = tok.encode(text)
        place = {p: i for i, p in enumerate(starts)}
        tags = [0] * len(ids)
        for s, e, t in spans:
            inside = [place[p] for p in range(s, e) if p in place]
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
                tags[i] = names.setdefault(f"{b}-{t}", len(names))
        if ids:
            rows.append((ids[:160], tags[:160]))
    return rows, len(names)


def vocabulary(train, train_trad, pud, more, char_map):
    """GB 2312's 6,763 characters are always in, so that text of other domains
    meets few unknown ones."""
    cells = ((a, b) for a in range(0xA1, 0xF8) for b in range(0xA1, 0xFF))
    gb = "".join(bytes(c).decode("gb2312", "ignore") for c in cells)
    texts = [t for t, _ in train + train_trad + pud]
    if more:
        texts += pathlib.Path(more).read_text(encoding="utf-8").splitlines()
    return charcnn.CharTokenizer.build(texts, char_map, extra=gb)


def main():
    args = arguments()
    print(vars(args), flush=True)
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    char_map = charcnn.read_char_map(args.char_map)
    simp, trad = pathlib.Path(args.simp), pathlib.Path(args.trad)
    train = ner_data.read_iob2(simp / "train.iob2")
    train_trad = ner_data.read_iob2(trad / "train.iob2")
    pud = ner_data.read_iob2(args.pud) if args.pud else []
    sets = {
        "dev": ner_data.read_iob2(simp / "dev.iob2"),
        "test": ner_data.read_iob2(simp / "test.iob2"),
        "dev-trad": ner_data.read_iob2(trad / "dev.iob2"),
        "test-trad": ner_data.read_iob2(trad / "test.iob2"),
    }

    tok = vocabulary(train, train_trad, pud, args.vocab_from, char_map)
    if args.without_pud:
        pud = []
    encoder = charcnn.Encoder(
        len(tok.vocab),
        hidden=args.hidden,
        char_dim=args.char_dim,
        bigram_dim=args.bigram_dim,
        bigram_buckets=args.buckets,
        trigram_dim=args.trigram_dim,
        trigram_buckets=args.trigram_buckets,
        dilations=tuple(int(d) for d in args.dilations.split(",")),
        dropout=args.dropout,
    )
    model = charcnn.TokenModel(encoder, ner_data.LABELS, ner_data.forbidden())
    if args.init:
        states = [torch.load(p) for p in args.init]
        model.load_state_dict({k: sum(s[k] for s in states) / len(states) for k in states[0]})
    size = sum(p.numel() for p in model.parameters())
    print(f"vocabulary {len(tok.vocab)}, {size} parameters", flush=True)
    trainer = Trainer(model, args)

    def row(text, spans):
        ids, starts = tok.encode(text)
        return ids[:200], ner_data.to_tags(spans, starts)[:200]

    if args.tags:
        rows, n = tag_rows(args.tags, tok)
        head = torch.nn.Linear(args.hidden, n)

        def tag_loss(hidden, mask, tags):
            z = head(hidden.float())
            return F.cross_entropy(z[mask > 0], tags[mask > 0])

        params = list(encoder.parameters()) + list(head.parameters())
        trainer.run(lambda: rows, args.tag_epochs, args.lr, tag_loss, params, "tags")
        model.load_state_dict(trainer.ema.state_dict())
        if args.save_tags:
            torch.save(model.state_dict(), args.save_tags)

    augment = ner_augment.Augmenter(
        train + pud, args.names, args.replace, args.noise, random.Random(args.seed + 1)
    )

    def gold_rows():
        out = []
        for a, b in zip(train, train_trad):
            out.append(row(*augment(*(a if augment.rng.random() < 0.6 else b))))
        out += [row(*augment(t, s)) for t, s in pud]
        for _ in range(args.templates):
            template = augment.rng.choice(ner_templates.TEMPLATES)
            out.append(row(*ner_templates.fill(template, augment.more, augment.rng)))
        return [r for r in out if r[0]]

    def crf_loss(hidden, mask, tags):
        logits = model.head(hidden.float())
        return model.crf.loss(logits, tags, mask).sum() / mask.sum() * 10

    best = {"f1": -1.0}

    def check():
        s = evaluate(trainer.ema, tok, sets["dev"])
        if s["all"][2] > best["f1"]:
            best.update(f1=s["all"][2], state=copy.deepcopy(trainer.ema.state_dict()))
        return " ".join(f"{k} {v[2]:.3f}" for k, v in s.items())

    everything = list(model.parameters())
    if args.silver:
        silver = []
        for line in open(args.silver, encoding="utf-8"):
            r = json.loads(line)
            silver.append(row(r["text"], [tuple(s) for s in r["spans"]]))
        silver = [r for r in silver if r[0]]

        def mixed():
            out = list(silver)
            for _ in range(args.gold_repeat):
                out += gold_rows()
            return out

        trainer.run(mixed, args.silver_epochs, args.lr, crf_loss, everything, "silver", check)
        model.load_state_dict(trainer.ema.state_dict())
    if args.gold_epochs:
        trainer.run(gold_rows, args.gold_epochs, args.gold_lr, crf_loss, everything, "gold", check)
    if best["f1"] >= 0:
        model.load_state_dict(best["state"])
    for name, s in sets.items():
        print(ner_data.show(name, evaluate(model, tok, s)), flush=True)
    if args.save:
        torch.save(model.state_dict(), args.save)
    if args.out:
        charcnn.export(model, tok, args.out, args.fixture, ner_augment.FIXTURE_TEXTS)
        for text in ner_augment.FIXTURE_TEXTS:
            ids, starts = tok.encode(text)
            with torch.no_grad():
                logits = model(*charcnn.pad([ids]))[0].numpy()
            spans = ner_data.to_spans(model.crf.decode(logits, len(ids)), starts)
            print(text, [(text[s:e], k) for s, e, k in spans])


if __name__ == "__main__":
    main()
