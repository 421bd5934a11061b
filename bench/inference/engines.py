"""Turns the output of BenchmarkGo into a Markdown table.

usage: go -C inference/onnxruntime test -run '^$' -bench Go/base -benchtime 6x . | python3 bench/inference/engines.py
"""
import re
import sys



def number(v):
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}"


rows = {}
for line in sys.stdin:
    m = re.match(r"BenchmarkGo/(\w+)/(\w+)/threads(\d)/(\S+?)(?:-\d+)?\s+\d+\s+(.*)", line)
    if not m:
        continue
    shape, precision, threads, size, rest = m.groups()
    values = dict(reversed(pair) for pair in re.findall(r"(\S+) (\S+)", re.sub(r"\s+", " ", rest)))
    rows.setdefault((shape, size), {})[precision, threads] = values

columns = [("fp32", "1"), ("fp32", "2"), ("int8", "1"), ("int8", "2")]
print("| shape, sentences × tokens | " + " | ".join(f"{p}, {t} thread{'s' if t != '1' else ''}: `go` and `onnxruntime`, sentences/s | ratio" for p, t in columns) + " |")
print("|---|" + "--:|--:|" * len(columns))
for (shape, size), cells in rows.items():
    text = []
    for column in columns:
        v = cells.get(column)
        if not v:
            text += ["", ""]
            continue
        text.append(", ".join(number(float(v[key])) for key in ("go-sentences/s", "ort-sentences/s")))
        text.append(f"{float(v['go/ort']):.2f}" + (f" ({float(v['cpu-go/ort']):.2f})" if "cpu-go/ort" in v else ""))
    size = re.sub(r"(\d)x(\d)", r"\1 × \2", size)
    print(f"| BERT-{shape}, {size} | " + " | ".join(text) + " |")
