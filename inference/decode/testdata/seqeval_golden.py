"""Writes seqeval.jsonl: what seqeval's default mode reads off random tag sequences.

Usage, with PyPI `seqeval` installed:  python3 seqeval_golden.py

A line is {"t": "B-PER I-PER O", "e": [type, start, end, ...]} with exclusive ends.
"""

import json
import pathlib
import random
import warnings

from seqeval.metrics.sequence_labeling import get_entities

warnings.simplefilter("ignore")
r = random.Random(20261123)


def tags(roles, types, suffix):
    out = ["O"] * 2
    for t in types:
        out += [t + "-" + role if suffix else role + "-" + t for role in roles]
    return out


with open(pathlib.Path(__file__).with_name("seqeval.jsonl"), "w", newline="\n") as out:
    for roles in ("BI", "BIES", "I", "BE", "BIS"):
        for suffix in (False, True):
            for _ in range(60):
                pool = tags(roles, ["PER", "LOC", "org.NAM"][: r.randrange(1, 4)], suffix)
                sequence = [r.choice(pool) for _ in range(r.randrange(1, 14))]
                flat = [v for t, a, b in get_entities(sequence, suffix=suffix) for v in (t, a, b + 1)]
                out.write(json.dumps({"t": " ".join(sequence), "e": flat}, separators=(",", ":")) + "\n")
