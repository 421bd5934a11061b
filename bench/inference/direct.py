#!/usr/bin/env python3
"""Call ONNX Runtime in a loop, with nothing around it: no HTTP, no tokenizer,
no decoding. What a handler can at best reach with the same graph and threads.

    python3 direct.py --precision int8 --workers 2 --threads 1 --batch 4 MODEL_DIR

Each worker is a thread with a loop of its own over one session; `run` leaves
Python's lock. Prints one JSON line in the format of bench/inference/load.
"""

import argparse
import json
import os
import threading
import time

import numpy as np
import onnxruntime as ort

TEXTS = ["马云在杭州阿里巴巴总部发表演讲。", "清华大学与中科院联合发布新研究成果。", "特朗普访问华盛顿特区白宫。"]


def batches(directory, size):
    """The three sentences in turn, in batches padded to their longest."""
    with open(os.path.join(directory, "vocab.txt"), encoding="utf-8") as f:
        vocab = {line.rstrip("\n"): i for i, line in enumerate(f)}
    rows = [[vocab["[CLS]"], *(vocab.get(c, vocab["[UNK]"]) for c in t), vocab["[SEP]"]] for t in TEXTS]
    result = []
    for first in range(len(rows)):
        chosen = [rows[(first + i) % len(rows)] for i in range(size)]
        width = max(map(len, chosen))
        ids = np.array([r + [0] * (width - len(r)) for r in chosen], np.int64)
        result.append({"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": ids * 0})
    return result


def machine_cpu():
    """Seconds of CPU time that the machine has spent, and that there were."""
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(x) / 100 for x in f.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="MODEL_DIR")
    parser.add_argument("--precision", choices=["fp32", "int8"], default="fp32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    graph = os.path.join(args.directory, "model.int8.onnx" if args.precision == "int8" else "model.onnx")
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feeds = batches(args.directory, args.batch)
    session.run(None, feeds[0])

    done = []
    begin, cpu, machine = time.perf_counter(), time.process_time(), machine_cpu()
    end = begin + args.seconds

    def loop():
        i = 0
        while time.perf_counter() < end:
            t = time.perf_counter()
            session.run(None, feeds[i % len(feeds)])
            done.append(time.perf_counter() - t)  # list.append is atomic
            i += 1

    threads = [threading.Thread(target=loop) for _ in range(args.workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    busy, total = (now - then for now, then in zip(machine_cpu(), machine))
    done.sort()
    with open("/proc/self/status", encoding="ascii") as f:
        status = dict(line.split(":", 1) for line in f)
    rss, anonymous = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    print(json.dumps(ensure_ascii=False, obj={
        "name": f"ONNX Runtime {args.precision} called directly, {args.workers}×{args.threads} threads, batch {args.batch}",
        "concurrency": 0, "per_second": len(done) * args.batch / took, "batch": args.batch,
        "p50_ms": 1000 * done[len(done) // 2], "p95_ms": 1000 * done[int(len(done) * 0.95)],
        "errors": 0, "rss_mb": rss, "anon_mb": anonymous, "cpu_ms": 1000 * cpu / (len(done) * args.batch),
        "others_percent": max(0, 100 * (busy - cpu) / total),
    }))


if __name__ == "__main__":
    main()
