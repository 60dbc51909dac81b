"""Makes reference.safetensors with the reference implementation.

    pip install safetensors==0.8.0 numpy && python reference.py
"""
import numpy as np
from safetensors.numpy import save_file

values = [[0.0, 1.0, -2.5], [65504.0, 0.000030517578125, float("inf")]]
save_file({
    "f32": np.array(values, np.float32),
    "f16": np.array(values, np.float16),
    "i64": np.array([1 << 40], np.int64),
    "scalar": np.array(7.0, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "bool": np.array([True, False, True]),
}, "reference.safetensors", {"format": "pt", "made": "elsewhere"})
