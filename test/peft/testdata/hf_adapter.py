"""What the Hugging Face libraries make of an adapter, alone.

    hf_adapter.py make BASE FOLDER     writes an adapter by save_pretrained
    hf_adapter.py loss BASE FOLDER     prints the mean loss of the samples on standard
                                       input, {"tokens": [...], "loss": [[from, to]]}
                                       a line, with that adapter; a warning of theirs is an error
"""

import json
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def make(base: str, folder: str) -> None:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.3)
    model.save_pretrained(folder)


def loss(base: str, folder: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = PeftModel.from_pretrained(model, folder)
    total, targets = 0.0, 0
    for line in sys.stdin:
        sample = json.loads(line)
        tokens = torch.tensor([sample["tokens"]])
        with torch.no_grad():
            logs = torch.log_softmax(model(input_ids=tokens).logits[0].double(), -1)
        for first, end in sample["loss"]:
            for i in range(first, end):
                total -= logs[i - 1, tokens[0, i]].item()
                targets += 1
    print(json.dumps(total / targets))


if __name__ == "__main__":
    {"make": make, "loss": loss}[sys.argv[1]](*sys.argv[2:])
