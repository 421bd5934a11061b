"""Entity replacement and noise for NER training sentences."""

import collections
import pathlib

# Shown after training and kept as the Go test's fixture; never trained on.
FIXTURE_TEXTS = (
    "马云在杭州阿里巴巴总部发表演讲。",
    "清华大学与中科院联合发布新研究成果。",
    "特朗普访问华盛顿特区白宫。",
    "馬雲在杭州阿里巴巴總部發表演講。",
    "清華大學與中科院聯合發布新研究成果。",
    "特朗普訪問華盛頓特區白宮。",
    "马云在杭州阿里巴巴总部发表演讲．",
    "ＩＢＭ 公司 的 约翰·史密斯 住在 New York！",
)

WIDE = {chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)}
MARKS = {"，": ",", "。": ".", "：": ":", "；": ";", "（": "(", "）": ")", "？": "?", "！": "!"}


class Augmenter:
    """Replaces entities by others of their type, and disturbs punctuation.

    Half of the replacements come from the training entities themselves, half
    from the gazetteers (lines "TYPE<TAB>name", repeated names weigh more).
    """

    def __init__(self, sentences, gazetteers, replace, noise, rng):
        self.replace, self.noise, self.rng = replace, noise, rng
        self.own = collections.defaultdict(list)
        for text, spans in sentences:
            for s, e, kind in spans:
                self.own[kind].append(text[s:e])
        self.more = collections.defaultdict(list)
        for path in gazetteers:
            for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
                kind, name = line.split("\t")
                self.more[kind].append(name)

    def pick(self, kind, old):
        pool = self.own[kind]
        if self.more[kind] and self.rng.random() < 0.5:
            pool = self.more[kind]
        # Like for like: a two-character name rarely stands where a long
        # transliteration did.
        for _ in range(8):
            new = self.rng.choice(pool)
            if abs(len(new) - len(old)) <= 2 and ("·" in new) == ("·" in old):
                return new
        return old

    def __call__(self, text, spans):
        r = self.rng
        if self.replace:
            out, moved, at = [], [], 0
            pos = 0
            for s, e, kind in sorted(spans):
                out.append(text[at:s])
                pos += s - at
                name = text[s:e]
                if r.random() < self.replace:
                    name = self.pick(kind, name)
                out.append(name)
                moved.append((pos, pos + len(name), kind))
                pos += len(name)
                at = e
            out.append(text[at:])
            text, spans = "".join(out), moved
        if self.noise and r.random() < self.noise:
            chars = list(text)
            how = r.randrange(4)
            if how == 0:
                chars = [WIDE.get(c, c) for c in chars]
            elif how == 1:
                chars = [MARKS.get(c, c) for c in chars]
            elif how == 2:
                chars = [c for c in chars]
                if (
                    chars
                    and chars[-1] in "。！？.!?"
                    and not any(e == len(chars) for _, e, _ in spans)
                ):
                    chars.pop()
            else:
                chars = [{"“": "「", "”": "」", "·": "・"}.get(c, c) for c in chars]
            text = "".join(chars)
        return text, spans
