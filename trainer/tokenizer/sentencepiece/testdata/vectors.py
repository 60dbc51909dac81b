"""Makes the models and reference vectors of this folder with the original library.

    python3 -m venv v && v/bin/pip install sentencepiece==0.2.3
    v/bin/python vectors.py                       the small models of this folder
    v/bin/python vectors.py FOLDER NAME=path/to/tokenizer.model ...

The second form does the same with whole vocabularies, which are too large to be kept
here (PyPI's mistral-common 1.5.4 has some); TUNEMESH_VECTORS=FOLDER go test reads them.
RULES=1 instead of names trains a model for each normalization that the library has.
"""
import io
import itertools
import json
import os
import random
import sys
import tempfile

import sentencepiece as spm

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = tempfile.TemporaryDirectory()
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

# Texts that a normalization changes: forms for compatibility, marks that combine, what
# looks like a space, what is not seen at all.
NORMALIZED = [
    "\uff21\uff22\uff43 \uff11\uff12\uff0e", "\uff76\uff9e \uff8a\uff9f\uff71", "\ufb01ne \ufb03 \u2160\u2167 \u2460 \u33bf \u3231 \u2122 \u00bd \u00b2", "\ufdfa \ufefb\ufe8e", "\u00aa\u0300 \uff21\u0308 \u00a0\u0308",
    "e\u0301 E\u0301 a\u0306\u0301 s\u0323\u0307 \u1e69 o\u0308\u0304", "A\u030a \u212b \u00c5 \u2126", "\u1112\u1161\u11ab\u1100\u1173\u11af \u1100\u1161", "\u304b\u3099 \u306f\u309a \u3042\u3099", "\u0e33 \u0e40\u0e33",
    "\u0928\u093c \u0915\u094d\u200d\u0937", "\u05d0\u05b7 \ufb2e", "\U0001f468\u200d\U0001f469\u200d\U0001f466 \U0001f44d\U0001f3fd a\U0001f3fd \u2764\ufe0f \U0001f1eb\U0001f1f7", "\U0001d54f\U0001d7d8 \U0001f130",
    "\u00a0\u2003\u3000\u2009x\u202f \u205f", "a\u00ad\u200b\u200c\u200d\ufeffb", "a\x00b\x01\x02 \x1f\x7f\u0080\u009f", "\x01", " \x01 ", "\u200b", "\ufeff", "\r\n\r\n", "a\r\nb\tc\x0bd\x0ce\u0085f\u2028g\u2029h", "\t\n\r", "  \t  a \u3000 b\n\n c  ",
    "STRASSE stra\u00dfe \u1e9e \u0130 I\u0307 \u03a3\u03c2\u03c3 \u01c5 \u13a0", "\uff5e\uffe5\uffe0 \u2026 \u2014 \u301c", "[tool] \uff21[tool]\u3000the", "\ufffd \uffff \ue000 \U000f0000", "\u0344 \u0f73 \u2adc \U0001d15e", "x\u0301\u0302\u0303\u0304\u0305\u0306",
]


def fuzzed(n, seed):
    rng = random.Random(seed)
    alphabet = list("abcst '\"\n\t  0129.,!-_\u00c0\u00e9\u00df\u03a3\u4eca\u6771\ud55c\U0001f600\u0301\u200d\u00a0\u2581\r") + ["the", "mesh", " mesh", "   ", "\n\n", "[tool]"]
    return ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))) for _ in range(n)]


def mixed(n, seed):
    rng = random.Random(seed)
    alphabet = sorted(set("".join(NORMALIZED))) + list("ast \u0301\u0308\u3099\u200d  ") * 4 + ["the", " mesh", "[tool]", "\u2581"]
    return ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 30))) for _ in range(n)]


def train(normalization_rule_name="identity", **kw):
    out = io.BytesIO()
    lines = [line for text in CORPUS for line in text.split("\n") if line]
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, minloglevel=2, hard_vocab_limit=False,
                                   character_coverage=0.98, normalization_rule_name=normalization_rule_name, max_sentence_length=10000, **kw)
    return out.getvalue()


def few_rules(name):
    """Those rules of a normalization that the texts here need, as a table of their own: the
    whole one has 240 kB. Found by asking for single characters, pairs and triples."""
    whole = spm.SentencePieceNormalizer(rule_name=name, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False)
    chars = sorted(set("".join(STRINGS + NORMALIZED)) - {"\x00"})
    table = {c: whole.normalize(c) for c in chars if whole.normalize(c) != c}
    combining = [c for c in chars if ord(c) >= 0x300]
    for a, b in itertools.product(chars, combining):
        if whole.normalize(a + b) != table.get(a, a) + table.get(b, b):
            table[a + b] = whole.normalize(a + b)
    for a, b in itertools.product([k for k in table if len(k) == 2], combining):
        if whole.normalize(a + b) != table[a] + table.get(b, b):
            table[a + b] = whole.normalize(a + b)
    code = lambda text: " ".join("%X" % ord(c) for c in text)
    with open(os.path.join(TABLES.name, name), "w", encoding="utf-8") as f:
        f.writelines("%s\t%s\n" % (code(k), code(v)) for k, v in sorted(table.items()))
    return f.name


if len(sys.argv) > 1:
    models = {}
    for arg in sys.argv[2:]:
        name, path = arg.split("=", 1)
        with open(path, "rb") as f:
            models[name] = f.read()
    if os.environ.get("RULES"):
        for rule in "identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf":
            for kind, size in ("bpe", 900), ("unigram", 650):
                for prefix, remove in itertools.product((False, True), repeat=2):
                    models["-".join((rule, kind, "prefix" if prefix else "bare", "remove" if remove else "keep"))] = train(
                        rule, model_type=kind, vocab_size=size, byte_fallback=True, add_dummy_prefix=prefix, remove_extra_whitespaces=remove)
else:
    cf = few_rules("nmt_nfkc_cf")
    models = {
        # as Llama 2 and Mistral
        "bpe": train(model_type="bpe", vocab_size=900, byte_fallback=True, split_digits=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
        # as Gemma
        "bpe-no-prefix": train(model_type="bpe", vocab_size=900, byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
                               user_defined_symbols=["\n\n", "\t\t", "\u2581\u2581", "\u2581\u2581\u2581", "[tool]"]),
        "bpe-unk": train(model_type="bpe", vocab_size=500),
        "unigram": train(model_type="unigram", vocab_size=400),
        "unigram-bytes": train(model_type="unigram", vocab_size=650, byte_fallback=True, remove_extra_whitespaces=False, split_digits=True, bos_id=-1, pad_id=3),
        # as T5 and mT5, with the whole of the rules
        "unigram-nfkc": train("nmt_nfkc", model_type="unigram", vocab_size=400),
        # as OpenLLaMA
        "bpe-nfkc": train(normalization_rule_tsv=few_rules("nmt_nfkc"), model_type="bpe", vocab_size=900, byte_fallback=True, remove_extra_whitespaces=False),
        "bpe-nfkc-cf": train(normalization_rule_tsv=cf, model_type="bpe", vocab_size=500),
        "bpe-nfkc-cf-no-prefix": train(normalization_rule_tsv=cf, model_type="bpe", vocab_size=900, byte_fallback=True, add_dummy_prefix=False,
                                       remove_extra_whitespaces=False, user_defined_symbols=["[tool]", "\u3000\u3000"]),
        "unigram-nfkc-cf": train(normalization_rule_tsv=cf, model_type="unigram", vocab_size=650, byte_fallback=True, add_dummy_prefix=False),
    }
for name, model in models.items():
    with open(os.path.join(WHERE, name + ".model"), "wb") as f:
        f.write(model)
    sp = spm.SentencePieceProcessor(model_proto=model)
    lines = []
    count = int(os.environ.get("FUZZED", "60"))
    hard = STRINGS + fuzzed(count, name)
    if "nfkc" in name or len(sys.argv) > 1:
        hard = hard + NORMALIZED + mixed(2 * count, name)
    for s in hard:
        ids = sp.encode(s)
        lines.append(json.dumps({"text": s, "ids": ids, "decoded": sp.decode(ids)}, ensure_ascii=True, separators=(",", ":")))
    with open(os.path.join(WHERE, name + ".vectors.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
