"""Makes dequantized.json with llama.cpp's own Python package: for each format, blocks
of random bits (scales of all magnitudes, subnormal and negative ones among them) and
what they decode to.

    pip install gguf==0.19.0 numpy && python dequantize.py
"""
import json

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

BLOCKS = 6
# Bytes at which a block has a half-precision scale.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [0], "BF16": [], "F32": []}

rng = np.random.default_rng(11)
out = {}
for name, places in SCALES.items():
    elems, size = gguf.GGML_QUANT_SIZES[T[name]]
    n = BLOCKS if elems > 1 else 64
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in places:
        scale = (rng.standard_normal(n) * 10.0 ** rng.integers(-7, 4, n)).astype(np.float16)
        raw[:, at:at + 2] = scale.view(np.uint8).reshape(n, 2)
    if name in ("F32", "BF16"):  # no infinities, no NaN
        raw[:, -1] &= 0xBF
    values = gguf.quants.dequantize(raw.reshape(1, -1), T[name]).astype("<f4").flatten()
    assert np.isfinite(values).all() and len(values) == n * elems
    out[name] = {"blocks": raw.tobytes().hex(), "values": values.tobytes().hex()}
with open("dequantized.json", "w") as f:
    json.dump(out, f, indent=0)
    f.write("\n")
