"""Sentences for silver labels, out of freely licensed Chinese text.

    python ner_corpus.py --exclude DEV.iob2 --exclude TEST.iob2 ... \
        --char-map TSCharacters.txt --out sentences.txt SOURCE...

A SOURCE is a SQuAD-style .json (paragraph contexts and questions), an .iob2
(its `# text =` lines) or a text file with one sentence or paragraph a line.
Everything is folded to simplified characters. A sentence that shares 12
consecutive characters with an excluded file is dropped: GSD and most sources
quote the same Wikipedia, and test sentences must stay unseen.
"""

import argparse
import json
import pathlib
import re

import chartext
import ner_data

SHINGLE = 12


def paragraphs(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    if str(path).endswith(".json"):
        for article in json.loads(text)["data"]:
            for p in article["paragraphs"]:
                yield p["context"]
                for qa in p["qas"]:
                    yield qa["question"]
    elif str(path).endswith(".iob2"):
        for t, _ in ner_data.read_iob2(path):
            yield t
    else:
        yield from text.splitlines()


def sentences(paragraph, longest=140):
    """Split after 。！？; and over-long sentences after ；，."""
    for s in re.findall(r"[^。！？!?\n]+[。！？!?]*[”」』）]?", paragraph):
        s = s.strip()
        while len(s) > longest:
            cut = max(s.rfind(c, 0, longest) for c in "；，、,; ")
            cut = cut + 1 if cut > 20 else longest
            yield s[:cut]
            s = s[cut:].strip()
        if s:
            yield s


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--exclude", action="append", default=[])
    a.add_argument("--char-map", action="append", default=[])
    a.add_argument("--out", required=True)
    a.add_argument("sources", nargs="+")
    a = a.parse_args()
    fold = chartext.CharTokenizer([], chartext.read_char_map(*a.char_map))

    def simplified(s):
        return "".join(fold.char_map.get(c, c) for c in s)

    def key(s):
        return "".join(fold.normalize(c) for c in s if not chartext.skipped(c))

    banned = set()
    for path in a.exclude:
        for text, _ in ner_data.read_iob2(path):
            k = key(text)
            banned.update(k[i : i + SHINGLE] for i in range(max(1, len(k) - SHINGLE + 1)))
    seen, kept = set(), []
    for path in a.sources:
        n = dropped = 0
        for p in paragraphs(path):
            for s in sentences(p):
                k = key(s)
                han = sum("\u4e00" <= c <= "\u9fff" for c in k)
                if len(k) < 6 or han < 0.5 * len(k) or k in seen:
                    continue
                seen.add(k)
                if k in banned or any(
                    k[i : i + SHINGLE] in banned for i in range(len(k) - SHINGLE + 1)
                ):
                    dropped += 1
                    continue
                kept.append(simplified(s))
                n += 1
        print(f"{path}: {n} sentences, {dropped} dropped for overlap with the excluded files")
    pathlib.Path(a.out).write_text("".join(s + "\n" for s in kept), encoding="utf-8")
    print(f"{len(kept)} sentences, {sum(map(len, kept))} characters")


if __name__ == "__main__":
    main()
