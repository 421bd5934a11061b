"""Trains builtin/sentiment-zh on generated text; SENTIMENT.md has the commands.

Selection is by generated text whose judging expressions (a tenth of the
lexicon) and two of whose domains training never sees; real reviews are for
sentiment_eval.py alone. `--part all` then trains the chosen setting on the
whole lexicon.
"""

import argparse
import pathlib
import random
import time

import torch
import torch.nn.functional as F

import charcnn
import sentiment_corpus as corpus

LABELS = ["positive", "negative"]


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--char-map", required=True, help="OpenCC's TSCharacters.txt")
    p.add_argument("--out", required=True, help="model directory to write")
    p.add_argument("--part", choices=("train", "all"), default="train")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--minutes", type=float, default=1e9, help="stop the schedule at this wall time")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--hidden", type=int, default=96)
    p.add_argument("--char-dim", type=int, default=48)
    p.add_argument("--bigram-dim", type=int, default=32)
    p.add_argument("--buckets", type=int, default=16384)
    p.add_argument("--dilations", default="1,2,4,8")
    p.add_argument("--dropout", type=float, default=0.2)
    p.add_argument("--unk", type=float, default=0.04, help="share of characters hidden in training")
    p.add_argument("--smooth", type=float, default=0.05)
    p.add_argument("--lr", type=float, default=2e-3)
    # With --part all nothing is held out, so a scale fitted here would make
    # the scores overconfident: take the one that the selection run printed.
    p.add_argument("--temperature", type=float, default=0, help="scale of the scores; 0 fits it")
    p.add_argument("--fixture", help="where to write logits for the Go test")
    return p.parse_args()


def vocabulary(lexicon, char_map):
    """GB 2312's 6,763 characters first, for text of any domain, and what the
    lexicon adds (emoji, punctuation, rarer characters)."""
    gb = "".join(
        bytes([a, b]).decode("gb2312", "ignore") for a in range(0xA1, 0xF8) for b in range(0xA1, 0xFF)
    )
    ascii_ = "".join(map(chr, range(0x21, 0x7F)))
    texts = [t for t, _ in corpus.samples(lexicon, 20000, 7, "all")]
    texts += [t for _, t in lexicon.expressions()]
    return charcnn.CharTokenizer.build(texts, char_map, extra=gb + ascii_)


def batches(lexicon, tok, size, seed, part):
    """Endless batches of like length, so that little is padding."""
    stream = 0
    shuffle = random.Random(seed)
    while True:
        rows = []
        for text, label in corpus.samples(lexicon, size * 48, seed * 100003 + stream, part):
            ids = tok.encode(text)[0][:512]
            if ids:
                rows.append((ids, label))
        stream += 1
        rows.sort(key=lambda r: len(r[0]))
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        shuffle.shuffle(groups)
        for g in groups:
            ids, mask = charcnn.pad([r[0] for r in g])
            yield ids, mask, torch.tensor([r[1] for r in g])


@torch.no_grad()
def logits_of(model, tok, texts, size=64):
    model.eval()
    rows = [(tok.encode(t)[0] or [charcnn.UNK], i) for i, t in enumerate(texts)]
    rows.sort(key=lambda r: len(r[0]))
    out = torch.zeros(len(texts), len(LABELS))
    for i in range(0, len(rows), size):
        part = rows[i : i + size]
        ids, mask = charcnn.pad([r[0] for r in part])
        out[[r[1] for r in part]] = model(ids, mask)
    return out


def report(name, logits, labels):
    y = torch.tensor(labels)
    hit = logits.argmax(1) == y
    loss = F.cross_entropy(logits, y).item()
    print(
        f"  {name}: accuracy {hit.float().mean():.4f} (pos {hit[y == 0].float().mean():.4f},"
        f" neg {hit[y == 1].float().mean():.4f}) loss {loss:.4f}",
        flush=True,
    )
    return loss


def temperature(logits, labels):
    """The scale that makes held-out scores honest."""
    y = torch.tensor(labels)
    grid = [0.3 + 0.05 * i for i in range(40)]
    return min(grid, key=lambda t: F.cross_entropy(logits / t, y).item())


def main():
    a = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    print(vars(a), flush=True)
    lexicon = corpus.load()
    tok = vocabulary(lexicon, charcnn.read_char_map(a.char_map))
    # The fold is needed only where it leads to a known character.
    tok.char_map = {k: v for k, v in tok.char_map.items() if v in tok.ids}
    encoder = charcnn.Encoder(
        len(tok.vocab), a.hidden, a.char_dim, a.bigram_dim, a.buckets,
        dilations=tuple(int(d) for d in a.dilations.split(",")), dropout=a.dropout,
    )
    model = charcnn.SequenceModel(encoder, LABELS)
    print(f"vocabulary {len(tok.vocab)}, {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    held = list(corpus.samples(lexicon, 4000, 99, "held"))
    texts, labels = [t for t, _ in held], [y for _, y in held]

    # Embeddings of rare buckets should shrink back to silence.
    opt = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=0.02)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    began, step, done = time.time(), 0, 0.0
    running = 0.0
    for ids, mask, y in batches(lexicon, tok, a.batch, a.seed, a.part):
        done = max(step / a.steps, (time.time() - began) / 60 / a.minutes)
        if done >= 1:
            break
        for group in opt.param_groups:
            group["lr"] = a.lr * min(1, (step + 1) / 200) * (1 - 0.97 * done)
        model.train()
        hide = (torch.rand(ids.shape) < a.unk) & (mask > 0)
        logits = model(ids.masked_fill(hide, charcnn.UNK), mask)
        loss = F.cross_entropy(logits, y, label_smoothing=a.smooth)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        running += loss.item()
        step += 1
        keep = min(0.998, step / (step + 20))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - keep)
        if step % 500 == 0:
            print(f"step {step} {time.time() - began:.0f}s loss {running / 500:.4f}", flush=True)
            running = 0.0
            report("held out", logits_of(model, tok, texts[:1500]), labels[:1500])
    model.load_state_dict(average)
    print(f"averaged weights after {step} steps, {time.time() - began:.0f}s")
    logits = logits_of(model, tok, texts)
    report("held out", logits, labels)
    t = a.temperature or temperature(logits, labels)
    with torch.no_grad():
        model.head.weight /= t
        model.head.bias /= t
    print(f"temperature {t:.2f}")
    pathlib.Path(a.out).mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), pathlib.Path(a.out).with_suffix(".pt"))
    charcnn.export(model, tok, a.out, a.fixture, [
        "这个产品太棒了!", "太差了", "這家餐廳的服務態度很好，下次還會再來。", "虽然环境不错，但是味道实在难吃。", "👍", "Ｏｋ",
    ])


if __name__ == "__main__":
    main()
