"""Reads the hand-written lexicon under sentiment_lexicon/.

A file is lines of "key: item item ..."; items hold no white space.

    == name          starts a domain (food.txt and general.txt are named by file)
    @name noun ...   starts an aspect of the domain: what is judged
    =name: ...       a slot, filled wherever an item says {name}
    adj+ / adj-      gradable: takes degree adverbs, negation, comparison
    fix+ / fix-      predicates and exclamations that take no adverb
    say+ / say-      whole clauses
    mild+ / mild-    faint praise and faint blame, for concessions
    verb, noun       general only: "我很{verb}这家店", "有/没有{noun}"
    neutral          narration without a judgement
    subj             what a review of this domain is about
"""

import pathlib
import zlib

SIGNED = ("adj", "fix", "say", "mild", "verb", "noun", "emoji")


class Lexicon:
    def __init__(self, folder):
        self.general, self.domains = {}, {}
        for path in sorted(pathlib.Path(folder).glob("*.txt")):
            self._read(path)

    def _read(self, path):
        domain = self.general if path.stem == "general" else self._domain(path.stem, path)
        part = domain
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("== "):
                domain = part = self._domain(line[3:], path)
            elif line.startswith("@"):
                words = line[1:].split()
                part = {"name": words[0], "nouns": words[1:]}
                domain["aspects"].append(part)
            else:
                key, found, items = line.partition(": ")
                if not found:
                    raise ValueError(f"reading {path.name}:{n}: no 'key: items' here")
                if key.startswith("="):
                    domain["slots"][key[1:]] = items.split()
                else:
                    part.setdefault(key, []).extend(items.split())

    def _domain(self, name, path):
        if path.stem == name or name not in self.domains:
            self.domains.setdefault(name, {"name": name, "aspects": [], "slots": {}})
        return self.domains[name]

    def prune(self):
        """Drop the file-named domains that hold nothing themselves."""
        self.domains = {n: d for n, d in self.domains.items() if d.get("subj")}
        return self

    def expressions(self):
        """Every distinct signed item, as (sign, text)."""
        found = set()
        for part in self.parts():
            for key, items in part.items():
                if key[:-1] in SIGNED and key[-1] in "+-":
                    found.update((key[-1], i) for i in items)
        return found

    def parts(self):
        yield self.general
        for d in self.domains.values():
            yield d
            yield from d["aspects"]


def held_out(text, one_in=10):
    """A fixed tenth of the expressions, kept from training for selection."""
    return zlib.crc32(text.encode()) % one_in == 0
