"""The engine "peft" of Tunemesh: PyTorch, Transformers and PEFT, told what to do.

The training stage, a process of its own, decides what a training consists of:
which sequences each step sees, its learning rate, when to evaluate and to save.
It starts this package as `python -m tunemesh_peft` (or, for several workers,
under torchrun), and sends one request after another over a socket. protocol.py
lists them.
"""
