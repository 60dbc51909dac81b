"""Makes reference.gguf and quantized.json with llama.cpp's own Python package.

    pip install gguf==0.19.0 numpy && python reference.py
"""
import json

import gguf
import numpy as np

w = gguf.GGUFWriter("reference.gguf", "llama")
w.add_uint8("a.u8", 200), w.add_int8("a.i8", -100), w.add_uint16("a.u16", 60000), w.add_int16("a.i16", -30000)
w.add_uint32("a.u32", 4000000000), w.add_int32("a.i32", -2000000000), w.add_uint64("a.u64", 1 << 63), w.add_int64("a.i64", -(1 << 62))
w.add_float32("a.f32", 1.5), w.add_float64("a.f64", 0.1), w.add_bool("a.bool", True), w.add_string("a.string", "Ünïcode 🎉")
w.add_array("a.strings", ["", "a", "bc"]), w.add_array("a.ints", [1, -2, 3]), w.add_array("a.floats", [0.5, -1.0])
rng = np.random.default_rng(5)
w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
w.add_tensor("f16", np.arange(4, dtype=np.float16))
q = rng.standard_normal((2, 64)).astype(np.float32)
w.add_tensor("q8", gguf.quants.quantize(q, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()

values = np.concatenate([rng.standard_normal(32 * 40) * np.repeat(10.0 ** rng.integers(-6, 5, 40), 32), np.zeros(32), np.full(32, -3.0)]).astype(np.float32)
packed = gguf.quants.quantize(values.reshape(1, -1), gguf.GGMLQuantizationType.Q8_0)
json.dump({"values": [float(v) for v in values], "q8_0": packed.tobytes().hex(), "tensor": [float(v) for v in q.flatten()]}, open("quantized.json", "w"))
