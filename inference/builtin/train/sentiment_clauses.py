"""The smaller half of the generator: words, clauses and contrasts of them."""

import random
import re

from sentiment_lexicon import held_out
from sentiment_patterns import (
    ASK_BAD,
    DENY_BAD,
    DENY_GOOD,
    HOW_BAD,
    MEND,
    MINOR,
    MORE,
    RESIGN,
    WHO_BAD,
    WISH_BAD,
    YIELD,
)

OPPOSITE = {"+": "-", "-": "+"}

# Only with a negative word do these say anything: 过于好 is blame.
BLAME_ONLY = {"过于", "极度", "严重", "有点太"}


def syllables(rng):
    """Random common characters: words the lexicon does not know carry no judgement."""
    return "".join(rng.choice(COMMON) for _ in range(rng.choice((1, 2, 2, 3, 4, 6, 9))))


COMMON = "".join(
    bytes([a, b]).decode("gb2312", "ignore") for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)
)
LATIN = "ok vip app wifi logo iphone kfc ktv spa diy cp up ps pro max plus mini bgm 2 3 5 10 15 20 30 50 88 99 100 128 200 2019 2020 2023 2024 18:30 9点 3楼 A座 b1".split()


class Clauses:
    """part: "train" leaves held-out expressions and domains out, "held" uses
    only them for what carries the label, "all" knows no difference."""

    def __init__(self, lexicon, seed, part="train", held_domains=("pets", "beauty")):
        self.lex, self.rng, self.part = lexicon, random.Random(seed), part
        names = list(lexicon.domains)
        if part == "train":
            names = [n for n in names if n not in held_domains]
        self.names, self.held_domains = names, held_domains
        self.weights = [10 if n == "food" else 1 for n in names]
        self.cache = {}

    # ---- choosing words

    def items(self, part, key):
        unseen = self.d["name"] in self.held_domains
        k = (id(part), key, unseen)
        if k not in self.cache:
            items = part.get(key, [])
            if self.part == "train":
                items = [i for i in items if not held_out(i)] or items
            elif self.part == "held" and not key.startswith("mild") and not unseen:
                items = [i for i in items if held_out(i)]
            self.cache[k] = items
        return self.cache[k]

    def pick(self, *places):
        """One item from the first place, in random order, that has any."""
        for part, key in places:
            items = self.items(part, key)
            if items:
                return self.rng.choice(items)
        return None

    def fill(self, text):
        slots = self.d["slots"]
        return re.sub(r"\{(\w+)\}", lambda m: self.rng.choice(slots.get(m.group(1), ["东西"])), text)

    def chance(self, p):
        return self.rng.random() < p

    def adjective(self, sign, aspect=None):
        if aspect and self.chance(0.75):
            return self.pick((aspect, "adj" + sign), (self.lex.general, "adj" + sign))
        return self.pick((self.lex.general, "adj" + sign), (aspect or {}, "adj" + sign))

    def degree(self, sign):
        g = self.lex.general
        if sign == "-" and self.chance(0.2):
            return self.rng.choice(g["degree_weak"])
        while True:
            d = self.rng.choice(g["degree"])
            if sign == "-" or d not in BLAME_ONLY:
                return d

    def topic(self):
        """(what is judged, its aspect or None)."""
        d = self.d
        aspect = self.rng.choice(d["aspects"])
        r = self.rng.random()
        if r < 0.55:
            noun = self.rng.choice(aspect["nouns"])
            if self.chance(0.2):
                noun = self.rng.choice(d["subj"]) + ("的" if self.chance(0.7) else "") + noun
            return noun, aspect
        if r < 0.75:
            return self.rng.choice(d["subj"]), None
        if r < 0.8:
            return self.rng.choice(("", "这个", "那", "这", "它")) + syllables(self.rng), None
        return "", aspect if self.chance(0.5) else None

    # ---- clauses

    def clause(self, sign):
        """A clause that judges; None when the held-out part has no word for it."""
        for _ in range(20):
            kind = self.rng.choices(
                ("adj", "fix", "say", "deny", "more", "ask", "verb", "noun", "resign"),
                (30, 12, 34, 11, 6, 2 if sign == "-" else 0, 4, 3, 1),
            )[0]
            text = getattr(self, "_" + kind)(sign)
            if text:
                return self.fill(text)
        return self.fill(self._say(sign) or self.rng.choice(self.lex.general["say" + sign]))

    def _adj(self, sign):
        noun, aspect = self.topic()
        a = self.adjective(sign, aspect)
        if not a:
            return None
        r = self.rng.random()
        if r < 0.14:
            return f"{noun}{a}{self.rng.choice(self.lex.general['post'])}"
        if r < 0.24:
            return f"{noun}{a}"
        if r < 0.32 and noun:
            return f"{self.degree(sign)}{a}的{noun}"
        if r < 0.4:
            return f"{noun}让人{self.rng.choice(('觉得', '感觉', ''))}{self.degree(sign)}{a}"
        if r < 0.46:
            b = self.adjective(sign, aspect) or a
            return f"{noun}{self.rng.choice(('又{a}又{b}', '{a}又{b}', '{a}、{b}', '既{a}又{b}', '不仅{a}而且{b}', '{a}，也很{b}')).format(a=a, b=b)}"
        d = self.degree(sign)
        tail = "了" if d.startswith(("太", "实在太", "真是太", "简直太")) and self.chance(0.8) else ""
        return f"{noun}{d}{a}{tail}"

    def _fix(self, sign):
        noun, aspect = self.topic()
        f = self.pick((aspect or self.lex.general, "fix" + sign), (self.lex.general, "fix" + sign))
        if f and self.chance(0.3):
            f = self.pick((self.lex.general, "fix" + sign))
        if f and self.chance(0.15):
            f = self.rng.choice(("真的", "简直", "真是", "实在", "太", "完全", "绝对", "可以说是", "")) + f
        return f and noun + f

    def _say(self, sign):
        places = [(self.d, "say" + sign), (self.lex.general, "say" + sign)]
        if self.chance(0.3):
            places.reverse()
        return self.pick(*places)

    def _deny(self, sign):
        noun, aspect = self.topic()
        a = self.adjective(OPPOSITE[sign], aspect)
        if not a or a[0] in "不没无":
            return None
        return noun + self.rng.choice(DENY_GOOD if sign == "-" else DENY_BAD).format(a=a)

    def _more(self, sign):
        noun, aspect = self.topic()
        a = self.adjective(sign, aspect)
        return a and noun + self.rng.choice(MORE).format(a=a)

    def _ask(self, sign):
        noun, aspect = self.topic()
        if self.chance(0.3):
            return self.rng.choice(WISH_BAD).format(
                w=self.rng.choice(WHO_BAD), h=self.rng.choice(HOW_BAD), i=self.rng.choice(MEND), n=noun or "服务"
            )
        a = self.adjective("+", aspect)
        return a and noun + self.rng.choice(ASK_BAD).format(a=a) + self.rng.choice(("", "？", "?", "？？"))

    def _verb(self, sign):
        v = self.pick((self.lex.general, "verb" + sign))
        noun = self.topic()[0] or "这个"
        if not v:
            return None
        r = self.rng.random()
        if r < 0.15:
            w = self.pick((self.lex.general, "verb" + OPPOSITE[sign]))
            if w and not w.startswith("不"):
                return f"我{self.rng.choice(('不', '并不', '一点也不', '从不', '不会'))}{w}{noun}"
        d = self.rng.choice(("", "", "很", "真的很", "非常", "超", "特别", "太", "最", "十分", "越来越"))
        return f"{self.rng.choice(('我', '我们', '', '我们都', '大家都'))}{d}{v}{noun}"

    def _noun(self, sign):
        g, noun = self.lex.general, self.topic()[0]
        good, bad = self.pick((g, "noun+")), self.pick((g, "noun-"))
        if sign == "+":
            if good and self.chance(0.5):
                return noun + self.rng.choice(("很有{n}", "有{n}", "非常有{n}", "{n}满满", "充满{n}", "{n}十足")).format(n=good)
            return bad and noun + self.rng.choice(("没有{n}", "没有任何{n}", "没{n}", "没发现{n}", "没有一点{n}", "不存在{n}", "从来没有{n}", "零{n}", "无{n}", "没出现过{n}", "没有什么{n}")).format(n=bad)
        if bad and self.chance(0.5):
            return noun + self.rng.choice(("有{n}", "有很多{n}", "全是{n}", "都是{n}", "{n}很多", "{n}太多", "经常有{n}", "总是{n}", "居然有{n}", "存在{n}", "还有{n}", "{n}一大堆")).format(n=bad)
        return good and noun + self.rng.choice(("没有{n}", "没{n}", "毫无{n}", "一点{n}都没有", "没有一点{n}", "缺乏{n}", "缺少{n}", "毫无{n}可言", "没什么{n}", "哪有{n}", "看不到{n}")).format(n=good)

    def _resign(self, sign):
        y = self._adj(sign)
        v, w = (self.pick((self.lex.general, "verb+")) or "喜欢" for _ in "12")
        return y and self.rng.choice(RESIGN[sign]).replace("{v+}", w).replace("{v}", v).replace("{y}", y)

    def mild(self, sign):
        d = self.d
        own = [(d, "mild" + sign), (self.lex.general, "mild" + sign)]
        if self.chance(0.3) or not (d.get(own[0][1]) or self.lex.general.get(own[1][1])):
            a = self.rng.choice(self.rng.choice(d["aspects"])["adj" + sign])
            noun = self.rng.choice(self.rng.choice(d["aspects"])["nouns"])
            weak = ("有点", "稍微有点", "有些", "略") if sign == "-" else ("还算", "倒是", "还", "勉强算")
            return self.fill(noun + self.rng.choice(weak) + a)
        return self.fill(self.pick(*own))

    def neutral(self):
        r = self.rng.random()
        if r < 0.35:
            return self.fill(self.rng.choice(self.d["neutral"]))
        if r < 0.65:
            return self.rng.choice(self.lex.general["neutral"])
        if r < 0.72:
            # Two halves that do not belong together: new neighbours, no verdict.
            a, b = self.rng.choice(self.lex.general["neutral"]), self.fill(self.rng.choice(self.d["neutral"]))
            return a[: self.rng.randint(1, len(a))] + b[self.rng.randint(0, len(b) - 1) :]
        if r < 0.82:
            slots = list(self.d["slots"].values()) or [self.d["subj"]]
            words = self.rng.choice(slots)
            return self.rng.choice(("、", "，", "和", " ")).join(
                self.rng.choice(words) for _ in range(self.rng.randint(1, 4))
            )
        if r < 0.9:
            other = self.lex.domains[self.rng.choice(self.names)]
            keep, self.d = self.d, other
            text = self.fill(self.rng.choice(other["neutral"]))
            self.d = keep
            return text
        parts = [syllables(self.rng) for _ in range(self.rng.randint(1, 4))]
        if self.chance(0.4):
            parts.insert(self.rng.randrange(len(parts) + 1), self.rng.choice(LATIN))
        if self.chance(0.3):
            parts.insert(0, self.rng.choice(self.d["subj"]))
        return "".join(parts)

    def contrast(self, sign):
        """Two judgements of which the second is the speaker's."""
        y = self.clause(sign)
        if self.chance(0.45):
            return self.rng.choice(MINOR[sign]).format(m=self.mild(OPPOSITE[sign]), y=y)
        x = self._adj(OPPOSITE[sign]) or self.mild(OPPOSITE[sign])
        frame = self.rng.choice(YIELD)
        if frame.endswith("-"):
            if sign == "+":
                return f"虽然{self.fill(x)}，但{y}"
            frame = frame[:-1]
        return frame.format(x=self.fill(x), x2=self.mild(OPPOSITE[sign]), y=y)
