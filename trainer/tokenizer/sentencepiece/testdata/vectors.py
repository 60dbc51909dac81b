"""Makes the models and reference vectors of this folder with the original library.

    python3 -m venv v && v/bin/pip install sentencepiece==0.2.3
    v/bin/python vectors.py                       the small models of this folder
    v/bin/python vectors.py FOLDER NAME=path/to/tokenizer.model ...

The second form does the same with whole vocabularies, which are too large to be kept
here (PyPI's mistral-common 1.5.4 has some); TUNEMESH_VECTORS=FOLDER go test reads them.
"""
import io
import json
import os
import random
import sys

import sentencepiece as spm

HERE = os.path.dirname(os.path.abspath(__file__))
WHERE = sys.argv[1] if len(sys.argv) > 1 else HERE
with open(os.path.join(HERE, "..", "..", "testdata", "corpus.json"), encoding="utf-8") as f:
    CORPUS = json.load(f)

STRINGS = [
    "", " ", "  ", "   a", "a", " a", "a ", "  a  b   c    ", "\n", "\n\n", " \n ", "\t\t x", "Hello, world!", "HELLO World", "I'm you're he'll we've don't",
    "12345 678 9", "1234567890123456789", "3.14159 1,000,000 0x1F \u00bd \u0663", "func main() {\n\tfmt.Println(\"hi\")\n}\n", "    if x == 1:\n        return y[0]\n\n\n    else:\r\n\tpass",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d,\u6211\u4eec\u53bb\u516c\u56ed", "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac", "\u0639\u0631\u0628\u064a \u0661\u0662\u0663",
    "\U0001f600", "\U0001f600\U0001f603 \U0001f389", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "a\U0001f600b", "e\u0301 \u00e9 \ufb01", "\u00a0nbsp\u00a0", "a\u200bb\ufeff", "\u3000full",
    "trailing   \nnext", "...!!!???", "\u00abquotes\u00bb \u201csmart\u201d", "x" * 40, "ab" * 50, " " * 50, "\n" * 10, "the " * 20, "\u2581\u2581 \u2581x", "the mesh", "[tool]the[tool] mesh", "a\x01b\x7f",
    "https://example.com/path?q=1&r=%20#frag", "{\"key\": [1, 2, 3]}", "stra\u00dfe \u1e9e",
]


def fuzzed(n, seed):
    rng = random.Random(seed)
    alphabet = list("abcst '\"\n\t  0129.,!-_\u00c0\u00e9\u00df\u03a3\u4eca\u6771\ud55c\U0001f600\u0301\u200d\u00a0\u2581\r") + ["the", "mesh", " mesh", "   ", "\n\n", "[tool]"]
    return ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))) for _ in range(n)]


def train(**kw):
    out = io.BytesIO()
    lines = [line for text in CORPUS for line in text.split("\n") if line]
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, minloglevel=2, hard_vocab_limit=False,
                                   character_coverage=0.98, normalization_rule_name="identity", max_sentence_length=10000, **kw)
    return out.getvalue()


if len(sys.argv) > 1:
    models = {}
    for arg in sys.argv[2:]:
        name, path = arg.split("=", 1)
        with open(path, "rb") as f:
            models[name] = f.read()
else:
    models = {
        # as Llama 2 and Mistral
        "bpe": train(model_type="bpe", vocab_size=900, byte_fallback=True, split_digits=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
        # as Gemma
        "bpe-no-prefix": train(model_type="bpe", vocab_size=900, byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
                               user_defined_symbols=["\n\n", "\t\t", "\u2581\u2581", "\u2581\u2581\u2581", "[tool]"]),
        "bpe-unk": train(model_type="bpe", vocab_size=500),
        "unigram": train(model_type="unigram", vocab_size=400),
        "unigram-bytes": train(model_type="unigram", vocab_size=650, byte_fallback=True, remove_extra_whitespaces=False, split_digits=True, bos_id=-1, pad_id=3),
    }
for name, model in models.items():
    with open(os.path.join(WHERE, name + ".model"), "wb") as f:
        f.write(model)
    sp = spm.SentencePieceProcessor(model_proto=model)
    lines = []
    for s in STRINGS + fuzzed(int(os.environ.get("FUZZED", "60")), name):
        ids = sp.encode(s)
        lines.append(json.dumps({"text": s, "ids": ids, "decoded": sp.decode(ids)}, ensure_ascii=True, separators=(",", ":")))
    with open(os.path.join(WHERE, name + ".vectors.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
