"""Turns the output of BenchmarkGo into a Markdown table.

usage: go -C inference/onnxruntime test -run '^$' -bench Go/base -benchtime 6x . | python3 bench/inference/engines.py
"""
import re
import sys

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
        text.append(f"{float(v['go-sentences/s']):.4g}, {float(v['ort-sentences/s']):.4g}")
        text.append(f"{float(v['go/ort']):.2f}" + (f" ({float(v['cpu-go/ort']):.2f})" if "cpu-go/ort" in v else ""))
    print(f"| BERT-{shape}, {size.replace('x', ' × ')} | " + " | ".join(text) + " |")
