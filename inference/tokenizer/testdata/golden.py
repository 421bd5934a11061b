"""Writes what Hugging Face's tokenizers says about hard and random strings.

Usage, with PyPI `tokenizers` installed:
    python3 golden.py                     writes vocab.txt and golden.jsonl beside this file
    python3 golden.py --fresh 20000 SEED DIR
                                          writes DIR/CONFIG/tokenizer.json and DIR/fresh.jsonl for
                                          the vocabulary that is here, with COUNT random strings
                                          and every code point: the large comparison of the Go test

A line of the .jsonl is {"c": configuration, "t": text, "k": [id, start, end, ...]}.
"""

import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).parent
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# clean_text, handle_chinese_chars, strip_accents, lowercase
CONFIGS = {
    "uncased": (True, True, None, True),
    "cased": (True, True, None, False),
    "lower-keep-accents": (True, True, False, True),
    "cased-strip-accents": (True, True, True, False),
    "no-chinese": (True, False, None, True),
    "raw": (False, True, None, True),
    "raw-keep-accents": (False, False, False, False),
}


def span(first, last):
    return [chr(c) for c in range(first, last + 1)]


def vocabulary():
    letters = span(0x61, 0x7A) + span(0x41, 0x5A) + span(0x30, 0x39)
    words = """the of and to in is was for on that with as by at from ca caddy server play un want able runn ing ed er
        est ly tion news Beijing GPU Tesla iPhone Pro max mini www http com cn html 2019 2020 2026 10 20 100 00 99 cafe
        resume naive uber strasse ss istanbul""".split()
    others = (
        span(0x21, 0x2F) + span(0x3A, 0x40) + span(0x5B, 0x60) + span(0x7B, 0x7E)
        + list("，。、；：？！…—·“”‘’（）《》〈〉【】「」『』〔〕～￥％＃＠＆＊＋－＝／｜＜＞")
        + span(0x3041, 0x3096) + span(0x30A1, 0x30FA) + ["ー", "々", "〇"]
        + span(0x3B1, 0x3C9) + span(0x430, 0x45F) + span(0x5D0, 0x5EA) + span(0x621, 0x64A) + span(0xE01, 0xE2E)
        + span(0x905, 0x939) + span(0x1100, 0x1112) + span(0x1161, 0x1175) + span(0x11A8, 0x11C2)
        + span(0xFF10, 0xFF19) + span(0xFF21, 0xFF3A) + span(0xFF41, 0xFF5A)
        + list("ßøđłıæœþð€£¥©®°±²³¼½×÷αβ→←↑↓■□●○★☆♥✓") + list("😀😂🤣❤👍🎉🇨🇳👨👩👧") + ["\u200d", "\ufe0f", "\u0307", "\u0301", "\u302e"]
    )
    # Every other ideograph, so that known and unknown ones both occur.
    ideographs = [chr(c) for c in range(0x4E00, 0x9FA6) if c % 8 in (0, 1, 2, 5)]
    ideographs += list("我爱北京天安门中国人民日报清华大学马云杭州特朗普白宫") + ["𠮷", "㐀"]
    plain = list(dict.fromkeys(SPECIALS + letters + words + others + ideographs))
    inner = letters + words + span(0x3041, 0x3096) + span(0x430, 0x45F) + span(0x1161, 0x1175) + span(0x11A8, 0x11C2)
    inner += span(0xE01, 0xE2E) + span(0x3B1, 0x3C9) + ["\u0307", "\u0301", "\ufe0f", "\u302e", "😀"] + ideographs[::5]
    return list(dict.fromkeys(plain + ["##" + p for p in inner]))


def build(vocab, config):
    clean, chinese, accents, lower = CONFIGS[config]
    ids = {t: i for i, t in enumerate(vocab)}
    tok = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.add_special_tokens(SPECIALS)
    return tok


HARD = [
    "", " ", "   \t\r\n", "我爱北京天安门", "马云在杭州阿里巴巴总部发表演讲。", "我 爱\u3000北京", "ＡＢＣ１２３，全角！", "iPhone 17 Pro卖¥9,999元",
    "café résumé naïve", "cafe\u0301 re\u0301sume\u0301", "Ünïcödé ÀÉÎÕÜ", "👨\u200d👩\u200d👧 family", "❤\ufe0f", "🇨🇳", "👍🏽",
    "𠮷野家", "𠮷", "㐀㐁", "\U0002b820\U0002b91f\U0002b920", "\uf900\ufa0e\ufa0f", "\U0002f800", "がぎぐ", "か\u3099き\u3099", "パピプ", "ハ\u309aヒ\u309a",
    "ｶﾞｷﾞ", "한국어", "\u1112\u1161\u11ab", "İstanbul", "ISTANBUL ıi", "Straße STRASSE ẞ", "ΑΣ Σ ς", "ﬁ ﬂ", "a\u00adb", "soft\u00adhyphen",
    "a\u200bb", "a\u200cb", "\ufeffBOM", "a\x00b", "a\ufffdb", "\x07\x08bell", "a\x0bb\x0cc\x85d", "a\u2028b\u2029c", "a\u00a0b\u202fc\u205fd",
    "[CLS] text [SEP]", "[MASK]", "我[MASK]北京", "a[UNK]b", "[PAD][PAD]", "[cls]", "[ CLS ]", "[[CLS]]", "[CLS", "CLS]", "x[SEP]", "[SEP][SEP]",
    "e[MASK]\u0301", "\u2329x\u232a", "\u037e\u0387\u1fef", "\u061d\u09fd", "\u302e\u302f", "a\u302e\u0301b", "a\u0301\u302eb", "é\u302ec", "가\u302e나",
    "\u0344", "\u0344\u302e", "a\u0323\u0307", "a\u0307\u0323", "ệ e\u0302\u0323", "\u1e9b\u0323", "q\u0307\u0323", "\u0958 क\u093c", "ক\u09be\u09c7",
    "ၵ\u103a", "\u1b44\u1b06\u1b35", "\U0001d15e\U0001d165", "\U0001d1bb", "\U00011938", "\U00011935\U00011930", "\U0001109a",
    "z\u0335\u0321\u0327a\u0300l\u0334g\u0316o\u0301", "\u0301", "\u0301a", " \u0301 ", "中\u0301文", "中\u302e文", "\u3099", "。\u0301",
    "www.example.com/a-b_c?d=e&f=g#h", "user@example.cn", "C++", "don't", "3.14%", "10:30", "2020年10月1日", "（括号）《书名》", "“引号”‘单引’", "……——",
    "unwantable running", "unwantableunwantable", "playing", "caddyserver", "x" * 100, "x" * 101, "中" * 120, "e\u0301" * 100, "e\u0301" * 101,
    "a" * 99 + "é" + "b", "\u1112\u1161\u11ab" * 34, "한" * 50, "ab" * 60 + " ok", "\U000e0041", "\ue000", "\U0010ffff", "\u0378", "\U0001fae8",
    "Ⅷ ⅷ ㎏ ① ㊙", "ǅ ǆ Ǆ", "K Å Ω", "\u212a\u212b\u2126", "ꟊ\ua7cb\ua7dc\u1c89", "\U00010d50\U00016ea0", "\u10a0\u13a0", "ไทย ภาษา", "שלום", "مرحبا",
    "नमस्ते", "\u180e\u1680", "^_`{|}~$+<=>", "$100 <b>bold</b>", "\u00b4\u00a8\u02c6", "\u2060\u2061", "\u3007零", "㍿株式会社", "\u30fb・", "｡｢｣､", "ーー",
    "a\nb\tc\rd", "\r\n\r\n", "end ", " start", "混合mixed文字123abc測試", "特朗普访问华盛顿特区白宫。", "\u4e00\u9fa5\u9fa6\u9fff\ua000", "\u3400\u4dbf\u4dc0",
]

SETS = [
    ("zh", 8, lambda r: chr(r.randrange(0x4E00, 0x9FA6))),
    ("ascii", 6, lambda r: chr(r.randrange(0x20, 0x7F))),
    ("word", 4, lambda r: r.choice(["the", "caddy", "server", "GPU", "running", "Beijing", "café", "unwantable", "2026", "İ", "ﬁ"]) + r.choice(["", " "])),
    ("space", 3, lambda r: r.choice([" ", " ", "\t", "\n", "\u3000", "\u00a0", "\u2009", "\x0b"])),
    ("punct", 3, lambda r: r.choice("，。！？；：、（）《》“”…—.,!?;:'\"()[]-_/")),
    ("latin", 3, lambda r: chr(r.randrange(0xA0, 0x250))),
    ("mark", 2, lambda r: chr(r.randrange(0x300, 0x370))),
    ("kana", 2, lambda r: chr(r.randrange(0x3040, 0x3100))),
    ("wide", 2, lambda r: chr(r.randrange(0xFF01, 0xFFA0))),
    ("hangul", 1, lambda r: chr(r.choice([r.randrange(0xAC00, 0xD7A4), r.randrange(0x1100, 0x1200)]))),
    ("greek", 1, lambda r: chr(r.randrange(0x370, 0x530))),
    ("indic", 1, lambda r: chr(r.randrange(0x900, 0x1100))),
    ("emoji", 2, lambda r: r.choice("😀😂❤👍🎉🇨👨👩\u200d\ufe0f🏽")),
    ("special", 1, lambda r: r.choice(SPECIALS + ["[", "]", "[CLS", "##", "##a"])),
    ("odd", 1, lambda r: r.choice("\u302e\u302f\u0344\u09be\u0bd7\u1b35\u1b44\u3099\u309a\u2329\u232a\u061d\u212a\u1e9b\U0001d165\U0001d16d\U0001d15e\u0334\u0f71\u0f73")),
    ("bmp", 1, lambda r: chr(r.choice([r.randrange(0x20, 0xD800), r.randrange(0xE000, 0x10000)]))),
    ("any", 1, lambda r: chr(r.choice([r.randrange(0x10000, 0x20000), r.randrange(0x20000, 0x33500), r.randrange(0xE0000, 0x110000)]))),
    ("control", 1, lambda r: chr(r.choice([r.randrange(0, 0x20), r.randrange(0x7F, 0xA0), r.randrange(0x200B, 0x2070)]))),
    ("long", 1, lambda r: r.choice(["a", "é", "b1"]) * r.choice([1, 2, 98, 100, 101]) if r.random() < 0.1 else "a"),
]


def random_text(r, longest):
    sets = r.choices(SETS, weights=[w for _, w, _ in SETS], k=r.randrange(1, 7))
    return "".join(r.choice(sets)[2](r) for _ in range(r.randrange(1, longest)))


def line(tok, config, text):
    e = tok.encode(text, add_special_tokens=False)
    flat = [v for i, (a, b) in zip(e.ids, e.offsets) for v in (i, a, b)]
    return json.dumps({"c": config, "t": text, "k": flat}, separators=(",", ":")) + "\n"


def golden():
    vocab = vocabulary()
    (HERE / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8", newline="\n")
    r = random.Random(20261123)
    toks = {c: build(vocab, c) for c in CONFIGS}
    with open(HERE / "golden.jsonl", "w", newline="\n") as out:
        for text in HARD:
            for c in ("uncased", "lower-keep-accents"):
                out.write(line(toks[c], c, text))
        for c in CONFIGS:
            for _ in range(60):
                out.write(line(toks[c], c, random_text(r, 16)))


def fresh(count, seed, folder):
    vocab = (HERE / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    r = random.Random(seed)
    toks = {c: build(vocab, c) for c in CONFIGS}
    folder = pathlib.Path(folder)
    for c, tok in toks.items():
        (folder / c).mkdir()
        tok.save(str(folder / c / "tokenizer.json"))
    with open(folder / "fresh.jsonl", "w", newline="\n") as out:
        for i in range(count):
            c = "uncased" if i % 2 else r.choice(list(CONFIGS))
            out.write(line(toks[c], c, random_text(r, 60)))
        for c in ("uncased", "lower-keep-accents", "raw"):
            for text in every_code_point():
                out.write(line(toks[c], c, text))


def every_code_point():
    for start in range(0, 0x110000, 64):
        if not 0xD800 <= start < 0xE000:
            yield "a" + "a".join(chr(c) for c in range(start, start + 64)) + "a"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fresh"]:
        fresh(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        golden()
    print("tokenizers", tokenizers.__version__)
