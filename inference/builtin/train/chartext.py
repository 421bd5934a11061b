"""CharTokenizer, the tokenizer of the built-in models, and its character map.

The Go twin is in inference/tokenizer. No dependencies, so that scripts which
only handle text need no PyTorch.
"""

import pathlib
import unicodedata

PAD, UNK = 0, 1


def fold_width(ch):
    """Full-width Latin becomes narrow, half-width kana becomes wide."""
    d = unicodedata.decomposition(ch)
    if d.startswith(("<wide> ", "<narrow> ")):
        parts = d.split()[1:]
        if len(parts) == 1:
            return chr(int(parts[0], 16))
    return ch


def skipped(ch):
    """White space, control and format characters give no token."""
    return ch.isspace() or unicodedata.category(ch) in ("Cc", "Cf", "Zs", "Zl", "Zp")


class CharTokenizer:
    """One token per code point; ids by vocabulary, [UNK] when absent."""

    def __init__(self, vocab, char_map):
        self.vocab = list(vocab)
        self.char_map = dict(char_map)
        self.ids = {c: i for i, c in enumerate(self.vocab)}

    def normalize(self, ch):
        ch = fold_width(ch)
        low = ch.lower()
        if len(low) == 1:
            ch = low
        return self.char_map.get(ch, ch)

    def encode(self, text):
        """Return (ids, starts): token ids and the code point each came from."""
        ids, starts = [], []
        for i, ch in enumerate(text):
            if skipped(ch):
                continue
            ch = self.normalize(ch)
            if skipped(ch):
                continue
            ids.append(self.ids.get(ch, UNK))
            starts.append(i)
        return ids, starts

    @staticmethod
    def build(texts, char_map, min_count=1, extra="", limit=8000):
        """A vocabulary from texts, most frequent first."""
        t = CharTokenizer(["[PAD]", "[UNK]"], char_map)
        counts = {}
        for text in texts:
            for ch in text:
                if not skipped(ch):
                    ch = t.normalize(ch)
                    if not skipped(ch):
                        counts[ch] = counts.get(ch, 0) + 1
        for ch in extra:
            ch = t.normalize(ch)
            counts[ch] = max(counts.get(ch, 0), min_count)
        chars = [c for c, n in counts.items() if n >= min_count]
        chars.sort(key=lambda c: (-counts[c], c))
        return CharTokenizer(["[PAD]", "[UNK]"] + chars[: limit - 2], char_map)


def read_char_map(*paths):
    """Traditional to simplified, one code point to one.

    Reads OpenCC's TSCharacters.txt ("trad<TAB>simp[ simp...]", the first
    candidate wins) and our own two-code-point lines. Later files only add.
    """
    table = {}
    for path in paths:
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            if "\t" in line:
                a, b = line.split("\t", 1)
                b = b.split(" ")[0]
            elif len(line) == 2:
                a, b = line
            else:
                continue
            if len(a) == 1 and len(b) == 1 and a != b:
                table.setdefault(a, b)
    # One step must be enough, because the Go side looks up once.
    for a in list(table):
        seen = {a}
        while table[a] in table and table[a] not in seen:
            seen.add(table[a])
            table[a] = table[table[a]]
    return {a: b for a, b in table.items() if a != b}
