"""Times the original on one core, for docs/benchmarks.md.

    taskset -c 0 v/bin/python speed.py DOCS.jsonl path/to/tokenizer.json ...

DOCS.jsonl has a text on each line, as a JSON string; the Go side is BenchmarkFiles
in speed_test.go, with the same files. The better of two passes counts.
"""
import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402

with open(sys.argv[1], encoding="utf-8") as f:
    docs = [json.loads(line) for line in f]
size = sum(len(d.encode()) for d in docs)
for path in sys.argv[2:]:
    t = Tokenizer.from_file(path)
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        tokens = sum(len(t.encode(d, add_special_tokens=False).ids) for d in docs)
        best = min(best, time.perf_counter() - begin)
    print(f"{path}: {size / best / 1e6:.1f} MB/s, {tokens} tokens")
