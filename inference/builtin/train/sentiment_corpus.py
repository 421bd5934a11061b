"""Generates Chinese sentiment text with labels, from the project's own lexicon.

No sentence of any review corpus is in here or was looked at for it. Irony is
left out: without knowledge of the world a label for it would be arbitrary.
Neutral texts are left out; faint verdicts ("一般般", "还行") mostly occur as
concessions, and seldom as a text of their own, leaning to their side.

    python sentiment_corpus.py --n 20 --seed 1          prints label<TAB>text
    python sentiment_corpus.py --stats                  sizes of the lexicon
"""

import argparse
import pathlib
import re

from sentiment_clauses import OPPOSITE, Clauses, syllables
from sentiment_lexicon import Lexicon
from sentiment_patterns import FILLER, HEADS

HERE = pathlib.Path(__file__).resolve().parent

# Shape, share of it that is favourable, share among the texts. People who
# write at length about a shop or product mostly liked it, so a long text
# without a clear verdict is rather a favourable one.
SHAPES = (("utterance", 0.5, 25), ("sentence", 0.5, 28), ("short", 0.6, 25), ("long", 0.8, 22))


class Generator(Clauses):
    """Joins clauses to utterances, sentences and reviews."""

    def sample(self):
        """(text, sign)."""
        self.d = self.lex.domains[self.rng.choices(self.names, self.weights)[0]]
        shape, favour = self.rng.choices(SHAPES, [s[2] for s in SHAPES])[0][:2]
        sign = "+" if self.chance(favour) else "-"
        return self.noise(getattr(self, shape)(sign)), sign

    def end(self, sign):
        g, r = self.lex.general, self.rng.random()
        if r < 0.12:
            return self.rng.choice(g["emoji" + sign])
        if r < 0.75:
            return self.rng.choice(g["end"])
        return ""

    def utterance(self, sign):
        g, r = self.lex.general, self.rng.random()
        if r < 0.03:
            return self.rng.choice(g["emoji" + sign])
        if r < 0.06:
            return self.mild(sign) + self.end(sign)
        if r < 0.2:
            a = self.adjective(sign)
            if a:
                return self.rng.choice(("", "", "真", "太", "好", "很")) + a + self.end(sign)
        return self.clause(sign) + self.end(sign)

    def sentence(self, sign):
        first = self.contrast(sign) if self.chance(0.4) else self.clause(sign)
        parts = [first]
        if self.chance(0.5):
            parts.insert(0, self.neutral())
        if self.chance(0.45):
            parts.append(self.clause(sign))
        if self.chance(0.2):
            parts.append(self.neutral())
        return self.join(parts, sign)

    def short(self, sign):
        n = self.rng.randint(2, 5)
        return self.review(sign, n, self.rng.uniform(0, 0.33), self.rng.uniform(0, 0.6))

    def long(self, sign):
        n = self.rng.randint(5, 24)
        most = 0.48 if sign == "+" else 0.36
        return self.review(sign, n, self.rng.uniform(0, most), self.rng.uniform(0.1, 0.9))

    def review(self, sign, n, against, silent):
        """n clauses; of those that judge, `against` speak for the other side."""
        parts, mine, other = [], 0, 0
        for _ in range(n):
            if self.chance(silent):
                parts.append(self.neutral())
            elif self.chance(against) and other < max(1, 0.45 * n):
                weak = self.chance(0.65)
                parts.append(self.mild(OPPOSITE[sign]) if weak else self.clause(OPPOSITE[sign]))
                other += 0.5 if weak else 1
            elif self.chance(0.18):
                parts.append(self.contrast(sign))
                mine += 1
            elif self.chance(0.15 if sign == "+" else 0.06):
                # Faint blame is mostly what content customers add, but
                # faint words lean to their own side too; else "还行" would be
                # known only as what precedes blame.
                parts.append(self.mild(sign))
                mine += 0.5
            else:
                c = self.clause(sign)
                parts.append(self.rng.choice(self.lex.general["head"]) + c if self.chance(0.15) else c)
                mine += 1
        # Praise and blame in equal parts is what a content customer writes.
        while mine < max(1, (1 if sign == "+" else 1.6) * other):
            parts.insert(self.rng.randrange(len(parts) + 1), self.clause(sign))
            mine += 1
        # Reviewers tend to end on their verdict.
        if self.chance(0.55):
            parts.append(self._say(sign) and self.fill(self._say(sign) or "") or self.clause(sign))
        if self.d["name"] == "food" and self.chance(0.15):
            self.label(parts)
        return self.join(parts, sign)

    def label(self, parts):
        """口味：… 环境：… as reviewers of restaurants write."""
        left, right = self.rng.choice((("", "："), ("【", "】"), ("", ":"), ("[", "]"), ("", "方面"), ("#", "#")))
        for i, name in zip(sorted(self.rng.sample(range(len(parts)), min(len(parts), 4))), HEADS.values()):
            parts[i] = f"{left}{name}{right}{parts[i]}"

    def join(self, parts, sign):
        style = self.rng.choice(("，。", "，。", "，！", "，", "。", " ", "\n", "~", "！", ",.", "，", "；，"))
        out = []
        for i, p in enumerate(parts):
            if self.chance(0.06):
                p = self.rng.choice(FILLER) + p
            if i:
                mark = self.rng.choice(style)
                if self.chance(0.04):
                    mark = self.rng.choice(self.lex.general["emoji" + sign])
                out.append("" if p and out[-1][-1:] in "，。！？；" else mark)
            out.append(p)
        return "".join(out) + self.end(sign)

    def noise(self, text):
        """Typing habits and unknown words, none of which changes the verdict."""
        if self.chance(0.1):
            text = re.sub("[，。！？；]", lambda m: {"，": ",", "。": ".", "！": "!", "？": "?", "；": ";"}[m.group()], text)
        if self.chance(0.06):
            text = re.sub("[，。！？；,.!?]", "", text)
        if self.chance(0.05):
            text = re.sub("(太|好|超|真)", lambda m: m.group() * self.rng.randint(1, 3), text, count=1)
        if self.chance(0.12) and len(text) > 12:
            i = self.rng.randrange(len(text))
            # Only beside a mark, so that no negation is cut from its word.
            at = [m.end() for m in re.finditer("[，。！；\n ]", text)] or [0]
            i = self.rng.choice(at)
            text = text[:i] + syllables(self.rng) + self.rng.choice("，。 ") + text[i:]
        return text


def samples(lexicon, n, seed, part="train"):
    """n (text, label) pairs, label 0 = positive, 1 = negative."""
    g = Generator(lexicon, seed, part)
    for _ in range(n):
        text, sign = g.sample()
        yield text, int(sign == "-")


def load():
    return Lexicon(HERE / "sentiment_lexicon").prune()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int, default=20)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--part", choices=("train", "held", "all"), default="all")
    p.add_argument("--stats", action="store_true")
    a = p.parse_args()
    lexicon = load()
    if a.stats:
        found = lexicon.expressions()
        print(f"domains {len(lexicon.domains)}: {' '.join(lexicon.domains)}")
        both = {t for s, t in found if s == "+"} & {t for s, t in found if s == "-"}
        print(f"positive {sum(s == '+' for s, _ in found)} negative {sum(s == '-' for s, _ in found)} in both: {sorted(both)}")
        print(f"neutral {sum(len(set(part.get('neutral', ()))) for part in lexicon.parts())}")
        return
    for text, label in samples(lexicon, a.n, a.seed, a.part):
        print(("positive", "negative")[label], text.replace("\n", "\\n"), sep="\t")


if __name__ == "__main__":
    main()
