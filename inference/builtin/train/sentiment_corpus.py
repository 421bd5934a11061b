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
import random
import re

from sentiment_lexicon import Lexicon, held_out

HERE = pathlib.Path(__file__).resolve().parent
OPPOSITE = {"+": "-", "-": "+"}

# Only with a negative word do these say anything: 过于好 is blame.
BLAME_ONLY = {"过于", "极度", "严重", "有点太"}

DENY_GOOD = (
    "不{a} 不{a} 不{a} 不太{a} 不怎么{a} 一点也不{a} 一点都不{a} 一点儿也不{a} 并不{a} 根本不{a} 完全不{a} 压根不{a} "
    "没那么{a} 没有那么{a} 没有想象中{a} 没有想象中那么{a} 没有传说中的{a} 没有别人说的那么{a} 没有网上说的{a} "
    "没有照片上{a} 没以前{a} 没有以前{a} 不如以前{a} 没有上次{a} 没有别家{a} 不如别家{a} 谈不上{a} 算不上{a} "
    "称不上{a} 说不上{a} 毫不{a} 不够{a} 越来越不{a} 哪里{a}了 哪儿{a}了 和{a}不沾边 跟{a}二字毫无关系 也不{a} "
    "不是很{a} 不算{a} 不见得{a} 从来没{a}过 没见{a}到哪去 没觉得{a} 不觉得{a} 感觉不{a} 绝对不{a} 远没有宣传的{a} "
    "丝毫不{a} 一点{a}的感觉都没有"
).split()
DENY_BAD = (
    "一点也不{a} 一点都不{a} 一点儿都不{a} 并不{a} 完全不{a} 根本不{a} 丝毫不{a} 毫不{a} 不{a} 不会{a} 不会觉得{a} "
    "从来不{a} 没有想象中{a} 没有一点{a}的感觉 不会让人觉得{a} 绝不{a} 没那么{a} 再也不{a}了 也不{a} 从不{a} 不显得{a} 不算{a}"
).split()
MORE = "比别家{a}多了 比以前{a}多了 比上次更{a} 越来越{a} 比想象中{a} 比想象的还{a} 比隔壁{a} 比同类{a}多了 {a}得多 一次比一次{a} 还是那么{a} 一如既往地{a} 依旧{a} 还是一样{a} 最{a}的一次 是我见过最{a}的 是附近最{a}的 不是一般的{a} 要多{a}有多{a} {a}到没朋友 {a}到想哭 怎么能这么{a} 怎么这么{a} 怎么可以这么{a} {a}{a} 真{a} 真的{a} 好{a}啊 太{a}了 太{a}了 太{a}啦 {a}死了 实在是{a} 确实{a} 的确{a} 又{a} 没有比这更{a}的了 没见过这么{a}的 从没见过这么{a}的 第一次遇到这么{a}的 别提多{a}了 再也找不到更{a}的了 再没有比这更{a}的".split()
ASK_BAD = "能不能{a}一点 能{a}点吗 就不能{a}一点吗 这也叫{a} 这叫{a} 说好的{a}呢 谁说{a}的 哪来的{a} 请问{a}在哪里 {a}在哪 什么时候能{a}一点 希望能{a}一点 希望可以{a}一些 要是{a}点就好了 要是能{a}一点就好了 如果能{a}一点就好了 应该更{a}一些才对 本该{a}的 {a}个屁 {a}个鬼 装什么{a} 太不{a}了 太不{a}了 真不{a} 好不{a}".split()

WISH_BAD = "希望{w}能{h}{i}{n} 希望{w}{h}{i}{n} 希望{n}能{i} 希望{n}能{h}{i} 建议{w}{h}{i}{n} 建议{i}一下{n} 请{w}{h}{i}{n} {n}急需{i} {n}必须{i} {n}需要{h}{i} {n}该{i}了 {w}该{h}{i}{n}了".split()
WHO_BAD = "商家 老板 店家 店里 你们 公司 平台 管理者 领导 厂家 相关部门".split()
HOW_BAD = "好好 尽快 赶紧 认真 早日 真正 彻底 抓紧 好好地 多".split() + [""]
MEND = "改进 改善 整改 提高 提升 加强 管理 反思 重视 管管 解决".split()

YIELD = (
    "之前那家{x}，这家{y} 上次那家{x}，这家{y} 原来那个{x}，现在这个{y} 上一家{x}，这家{y} 说是{x}，结果{y} 号称{x}，结果{y} 看评价{x}，结果{y} 隔壁{x}，这里{y} 前几次{x}，这回{y} "
    "虽然{x}，但是{y} 虽然{x}，但{y} 虽然{x}，不过{y} 虽然{x}但{y} 尽管{x}，但{y} 尽管{x}，{y} 虽说{x}，可是{y} 就算{x}，{y} "
    "即使{x}，{y} {x}，但是{y} {x}，但{y} {x}，可是{y} {x}，不过{y} {x}，然而{y} {x}。但是{y} {x}，可惜{y}- 本来以为{x}，结果{y} "
    "本以为{x}，没想到{y} 原以为{x}，谁知道{y} 以为{x}，其实{y} 都说{x}，我倒觉得{y} 之前听说{x}，实际{y} 一开始觉得{x}，后来发现{y} "
    "以前{x}，现在{y} 上次{x}，这次{y} 别人都说{x}，可我觉得{y} 网上说{x}，去了才知道{y} 别家{x}，这家{y} 除了{x}，其他都{y} "
    "不是{x}，而是{y} 与其说{x}，不如说{y} {x}倒是{x2}，可{y} 看着{x}，实际上{y} 看起来{x}，用起来{y} 宣传得{x}，实际{y}-"
).split()
MINOR = {
    "+": "{y}，就是{m} {y}，只是{m} {y}，唯一的缺点是{m} {y}，唯一不足的是{m} {y}，美中不足的是{m} {y}，除了{m} {y}，{m}也可以理解 {y}，{m}但可以接受 虽然{m}，但{y} {m}，但{y} {m}，不过{y} 除了{m}，其他都很好 {y}，瑕不掩瑜 {m}，但瑕不掩瑜 {y}，如果价格再低一点就完美了 {y}，要是离家近一点就好了 {y}，要是多点优惠就更好了 {y}，希望以后能更好 {y}，小小的遗憾是{m} {y}，扣一分是因为{m}".split(),
    "-": "除了{m}，一无是处 除了{m}，没有任何优点 除了{m}，其他都{y} 也就{m}，{y} {m}，但{y} {m}，可是{y} 虽然{m}，但{y} {y}，也就{m} {y}，唯一的优点是{m} {y}，只有{m} {y}，亏我还觉得{m} {m}，不过{y} {m}，但仅此而已，{y}".split(),
}
RESIGN = {
    "+": "不得不说{y} 不能不说{y} 没有理由不{v} 谁能不{v}呢 怎么会不{v} 没人会不{v} 不可能不{v} 很难不{v} 让人不得不{v}".split(),
    "-": "不得不说{y} 不能不说{y} 怎么会{v+} 谁会{v+}啊 让人怎么{v+} 很难{v+}起来 实在{v+}不起来 无法{v+} 没法{v+} 不{v+} 再也不{v+}了 别想让我{v+}".split(),
}
FILLER = "嗯 哈 唉 话说 那个 然后 就是说 对了 另外 再说说 接着 后来 最后 其次 首先 第一 第二 第三 1. 2. 3. ① ② ps： PS: 总结： 先说 再来说 关于 至于".split()
HEADS = {"taste": "口味", "service": "服务", "place": "环境", "price": "性价比", "speed": "上菜速度"}


# Shape, share of it that is favourable, share among the texts. People who
# write at length about a shop or product mostly liked it, so a long text
# without a clear verdict is rather a favourable one.
SHAPES = (("utterance", 0.5, 25), ("sentence", 0.5, 28), ("short", 0.6, 25), ("long", 0.8, 22))


def syllables(rng):
    """Random common characters: words the lexicon does not know carry no judgement."""
    return "".join(rng.choice(COMMON) for _ in range(rng.choice((1, 2, 2, 3, 4, 6, 9))))


COMMON = "".join(
    bytes([a, b]).decode("gb2312", "ignore") for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)
)
LATIN = "ok vip app wifi logo iphone kfc ktv spa diy cp up ps pro max plus mini bgm 2 3 5 10 15 20 30 50 88 99 100 128 200 2019 2020 2023 2024 18:30 9点 3楼 A座 b1".split()


class Generator:
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

    # ---- texts

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
