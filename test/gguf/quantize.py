"""Quantizes a GGUF file with llama.cpp's own llama_model_quantize.

    python3 quantize.py FOLDER-OF-LIBRARIES in.gguf out.gguf FTYPE

FTYPE is a number of llama_ftype: 7 is Q8_0, 15 is Q4_K_M. The header of the
parameters has stood for years: threads, then the type.
"""
import ctypes
import glob
import sys

folder, source, target, ftype = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def load(pattern):
    return ctypes.CDLL(sorted(glob.glob(f"{folder}/{pattern}"))[0], mode=ctypes.RTLD_GLOBAL)


class Params(ctypes.Structure):
    # Longer than the real one in any version, so that the call cannot write past it.
    _fields_ = [("threads", ctypes.c_int32), ("ftype", ctypes.c_int32), ("rest", ctypes.c_uint8 * 1016)]


load("libggml-base.so")
ggml = load("libggml.v*.so")
llama = load("libllama.v*.so")
ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
ggml.ggml_backend_load_all_from_path(folder.encode())
llama.llama_backend_init()
llama.llama_model_quantize_default_params.restype = Params
params = llama.llama_model_quantize_default_params()
params.threads, params.ftype = 2, ftype
llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
llama.llama_model_quantize.restype = ctypes.c_uint32
sys.exit(llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
