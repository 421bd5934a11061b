"""Words and part-of-speech tags by free Chinese taggers, as teacher's features.

    python ner_tag.py --tagger lac|jieba|thulac|jiagu --out tags.jsonl \
        [--char-map TSCharacters.txt] SENTENCES.txt|FILE.iob2 ...

  lac     PyPI LAC 2.1.2, Apache-2.0, weights inside the wheel; needs
          paddlepaddle 2.6.2 and `paddle.fluid` read as `paddle.base` (README.md)
  jieba   PyPI jieba 0.42.1, MIT
  thulac  PyPI thulac 0.2.2, MIT
  jiagu   PyPI jiagu 0.2.3, MIT (its own named entity tags)

Text is folded to simplified characters, one code point to one. One line out
per sentence: {"text": ..., "words": [...], "tags": [...]}.
"""

import argparse
import json
import pathlib
import random

import chartext
import ner_data


def lac():
    from LAC import LAC

    model = LAC(mode="lac")
    return model.run


def jieba():
    import jieba.posseg

    jieba.posseg.dt.initialize()

    def run(batch):
        for text in batch:
            pairs = [(p.word, p.flag) for p in jieba.posseg.cut(text)]
            yield [w for w, _ in pairs], [t for _, t in pairs]

    return run


def thulac():
    import time

    time.clock = getattr(time, "clock", time.perf_counter)
    import thulac as t

    model = t.thulac()

    def run(batch):
        for text in batch:
            pairs = model.cut(text)
            yield [p[0] for p in pairs], [p[1] for p in pairs]

    return run


def jiagu():
    import jiagu as j

    j.init()

    def run(batch):
        for text in batch:
            yield list(text), j.ner(list(text))

    return run


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--tagger", required=True, choices=["lac", "jieba", "thulac", "jiagu"])
    a.add_argument("--char-map", action="append", default=[])
    a.add_argument("--out", required=True)
    a.add_argument("sources", nargs="+")
    a = a.parse_args()
    fold = chartext.read_char_map(*a.char_map)
    lines = {}
    for path in a.sources:
        if path.endswith(".iob2"):
            texts = [t for t, _ in ner_data.read_iob2(path)]
        else:
            texts = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        for t in texts:
            t = "".join(fold.get(c, c) for c in t)
            if t.strip():
                lines[t] = None
    order = sorted(lines, key=len)
    # Shuffled batches of like lengths: an interrupted run is usable too.
    starts = list(range(0, len(order), 64))
    random.Random(1).shuffle(starts)
    run = {"lac": lac, "jieba": jieba, "thulac": thulac, "jiagu": jiagu}[a.tagger]()
    with open(a.out, "w", encoding="utf-8") as out:
        for at in starts:
            batch = order[at : at + 64]
            for text, (words, tags) in zip(batch, run(batch)):
                row = {"text": text, "words": list(words), "tags": list(tags)}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
