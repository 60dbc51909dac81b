"""Writes reference.json: what PyTorch, transformers and PEFT compute for tiny
models of every architecture, as the measure for the engine. Weights come from a hash of their
name and index, so both sides make the same ones and none need to be stored.

    python reference.py > reference.json

Made with torch 2.15.0, transformers 5.24.0 and peft 0.21.2, in float32 on a CPU. The
configs are recorded as that release of transformers writes them.
"""

import json

import torch
from peft import LoraConfig, get_peft_model
import transformers
from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

torch.set_num_threads(1)
M32 = 0xFFFFFFFF


def fnv(name):
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 & M32
    return h


def hashed(name, i):
    x = (i * 2654435761 + fnv(name)) & M32
    x ^= x >> 15
    x = x * 2246822519 & M32
    return x ^ (x >> 13)


def values(name, n, gain):
    if gain:
        return [1 + ((hashed(name, i) & 7) - 4) / 16 for i in range(n)]
    return [(2 * (hashed(name, i) & 255) - 255) / 512 for i in range(n)]


def fill(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.tensor(values(name, p.numel(), p.dim() == 1)).view_as(p))


def batch(step, vocab):
    rows = []
    for r, n in enumerate([13, 6, 21]):
        tokens = [hashed(f"tokens {step} {r}", i) % vocab for i in range(n)]
        rows.append((tokens, [int(i >= n // 3) for i in range(n)]))
    return rows


def mean_loss(model, rows):
    width = max(len(t) for t, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for r, (tokens, weights) in enumerate(rows):
        n = len(tokens)
        ids[r, :n], mask[r, :n] = torch.tensor(tokens), 1
        labels[r, :n] = torch.tensor([t if w else -100 for t, w in zip(tokens, weights)])
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def short(v):
    return float(f"{v:.8g}")


def digest(t):
    flat = t.detach().double().flatten()
    at = [hashed("sample", i) % flat.numel() for i in range(4)]
    return {"norm": short(flat.norm().item()), "sample": [[i, short(flat[i].item())] for i in at]}


def train(model, vocab, steps):
    params = [(n.replace(".default", ""), p) for n, p in model.named_parameters() if p.requires_grad]
    opt = torch.optim.AdamW([p for _, p in params], lr=0.02, weight_decay=0.01)
    sched = get_linear_schedule_with_warmup(opt, 2, steps)
    losses, norms, grads = [], [], {}
    for step in range(steps):
        opt.zero_grad()
        loss = mean_loss(model, batch(step % 2, vocab))
        loss.backward()
        if step == 0:
            grads = {n: digest(p.grad) for n, p in params}
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0).item())
        opt.step()
        sched.step()
    return {"losses": losses, "norms": norms, "grads": grads, "final": {n: digest(p) for n, p in params}}


def main():
    base = dict(hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                vocab_size=61, max_position_embeddings=256, rms_norm_eps=1e-5, hidden_act="silu")
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 200, "rope_theta": 10000.0}
    gemma = dict(num_hidden_layers=3, head_dim=10, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=14, sliding_window=5,
                 layer_types=["sliding_attention", "full_attention", "sliding_attention"], hidden_act=None)
    local = {"rope_type": "default", "rope_theta": 10000.0}
    cases = {
        "tied": ("Llama", dict(tie_word_embeddings=True)),
        "untied-linear": ("Llama", dict(tie_word_embeddings=False, num_key_value_heads=4,
                                        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})),
        "llama3": ("Llama", dict(tie_word_embeddings=True, num_key_value_heads=1, rope_parameters=llama3)),
        "mistral": ("Mistral", dict(tie_word_embeddings=False, head_dim=10, sliding_window=None)),
        "mistral-window": ("Mistral", dict(tie_word_embeddings=True, head_dim=8, sliding_window=5)),
        "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
        "qwen3": ("Qwen3", dict(tie_word_embeddings=False, head_dim=12)),
        "gemma3": ("Gemma3", dict(gemma, rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": local})),
        "gemma3-linear": ("Gemma3", dict(gemma, rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": local})),
    }
    out = []
    for name, (family, change) in cases.items():
        kind = getattr(transformers, family + ("TextConfig" if family == "Gemma3" else "Config"))
        settings = {k: v for k, v in {**base, **change}.items() if v is not None or k == "sliding_window"}
        cfg = kind(**settings, architectures=[family + "ForCausalLM"])
        vocab = cfg.vocab_size

        def fresh():
            m = AutoModelForCausalLM.from_config(cfg, attn_implementation="eager", dtype=torch.float32)
            fill(m)
            return m.float()

        model = fresh().eval()
        tokens = batch(0, vocab)[2][0]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
            logprobs = torch.log_softmax(logits.double(), -1)
            said, ids = [], list(tokens[:5])
            for _ in range(12):
                ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
                said.append(ids[-1])
        case = {
            "name": name,
            "config": json.loads(cfg.to_json_string(use_diff=True)),
            "logits": [round(v, 6) for v in logits[-1].tolist()],
            "logprobs": [logprobs[i - 1, tokens[i]].item() for i in range(1, len(tokens))],
            "greedy": said,
            "full": train(fresh().train(), vocab, 4),
        }
        lora = get_peft_model(fresh(), LoraConfig(
            r=4, lora_alpha=8, lora_dropout=0.0, task_type="CAUSAL_LM",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
        with torch.no_grad():
            for n, p in lora.named_parameters():
                if "lora_" in n:
                    n = n.replace(".default", "")
                    p.copy_(torch.tensor(values(n, p.numel(), False)).view_as(p) / 4)
        case["lora"] = train(lora.train(), vocab, 6)
        with torch.no_grad():
            merged = lora.merge_and_unload()
            case["merged"] = {n: digest(p) for n, p in merged.named_parameters() if "layers.1" in n}
        out.append(case)
    print("[" + ",\n".join(json.dumps(c) for c in out) + "]")


main()
