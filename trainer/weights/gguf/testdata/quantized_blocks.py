"""Records what ggml's own quantizers make of some values, as quantized_blocks.json.

    python3 quantized_blocks.py .../libggml-base.so > quantized_blocks.json

The library is llama.cpp's; the one recorded from is in npm's
@node-llama-cpp/linux-x64 3.22.1 (bins/linux-x64). Needs Python alone.
"""
import ctypes
import json
import random
import struct
import sys

lib = ctypes.CDLL(sys.argv[1])
rng = random.Random(5)
f32 = lambda v: struct.unpack("<f", struct.pack("<f", v))[0]

normal = lambda s=1.0: [rng.gauss(0, s) for _ in range(256)]
cases = {
    "normal": normal(), "small": normal(0.02), "tiny": normal(1e-6), "vanishing": normal(1e-20), "large": normal(3000),
    "uniform": [rng.uniform(-1, 1) for _ in range(256)],
    "heavy tails": [rng.gauss(0, 1) ** 5 for _ in range(256)],
    "one outlier": [50.0 if i == 77 else rng.gauss(0, 0.1) for i in range(256)],
    "positive": [abs(rng.gauss(0, 1)) for _ in range(256)], "negative": [-abs(rng.gauss(0, 1)) for _ in range(256)],
    "far from zero": [10 + rng.gauss(0, 0.5) for _ in range(256)],
    "zeros": [0.0] * 256, "constant": [0.7] * 256, "constant negative": [-0.7] * 256,
    "half zero": [0.0] * 128 + normal()[:128], "signs": [rng.choice([-1.0, 1.0]) for _ in range(256)],
    "integers": [float(rng.randint(-8, 8)) for _ in range(256)], "ramp": [i / 128 - 1 for i in range(256)],
    "scales differ": [rng.gauss(0, 10.0 ** -(i // 32)) for i in range(256)],
}
values = [f32(v) for c in cases.values() for v in c]
x = (ctypes.c_float * len(values))(*values)
out = {"cases": list(cases), "values": struct.pack(f"<{len(values)}f", *values).hex()}
for name, elems, size in [("Q5_0", 32, 22), ("Q8_0", 32, 34), ("Q4_K", 256, 144), ("Q6_K", 256, 210)]:
    n = len(values) // elems * size
    y = (ctypes.c_uint8 * n)()
    f = getattr(lib, f"quantize_row_{name[0].lower() + name[1:]}_ref")
    f.argtypes, f.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    f(x, y, len(values))
    out[name] = bytes(y).hex()
json.dump(out, sys.stdout, indent=1)
print()
