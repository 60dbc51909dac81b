"""LoRA steps as a user of PyTorch and PEFT writes them: the loss of the model's own
forward pass, AdamW. Prints one JSON line: seconds of each step, the peak of the
resident memory, the last loss.

usage: pytorch_bench.py MODEL_DIR BATCH.json DTYPE THREADS WARMUP STEPS ATTENTION COMPILE
"""

import json
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

folder, batch_file, dtype, threads, warmup, steps, attention, compiled = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.manual_seed(1)
kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation=attention)
model.config.use_cache = False
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"))
model.train()
run = torch.compile(model) if compiled == "compile" else model
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
with open(batch_file) as f:
    ids = torch.tensor(json.load(f))
seconds, loss = [], 0.0
for i in range(int(warmup) + int(steps)):
    began = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
        out = run(input_ids=ids, labels=ids)
    out.loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss = out.loss.item()
    if i >= int(warmup):
        seconds.append(time.perf_counter() - began)
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak": peak, "loss": loss}))
