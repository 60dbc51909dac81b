"""Records what the reference implementations say of some answers, as reference.json.

    python3 -m venv venv && venv/bin/pip install rouge-score==0.1.2 nltk==3.10.4 sacrebleu==2.6.0 scikit-learn==1.9.1
    venv/bin/python reference.py > reference.json
"""
import importlib.metadata as md
import json
import random
import sys

from nltk.stem import porter
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

hand = [
    ("police kill the gunman", "police killed the gunman"),
    ("the gunman kill police", "police killed the gunman"),
    ("", ""), ("x", ""), ("", "x"), ("same", "same"), ("one two three", "one two three"),
    ("The cat sat on the mat.", "The cat is sitting on the mat!"),
    ("It costs $1,299.50 (net) - about 12-14% less.", "It costs 1,299.50 dollars, net: 12-14 % less."),
    ("Line one.\nLine two is longer.\n\nThree", "Line two is longer.\nLine one!\nFour"),
    ("a b c d e f g", "g f e d c b a"),
    ("&quot;Tom &amp; Jerry&quot; &lt;b&gt; &amp;lt;", "\"Tom & Jerry\" <b> <"),
    ("well-\nknown <skipped>e.g. U.S. 3.14, 2,5 x", "wellknown e.g. U.S. 3.14, 2,5 x."),
    ("Größe XL: 今天 天气 很好 🎉", "Größe L: 今天 天气 不好 🎉"),
    ("tabs\tand\u00a0spaces \u2003 here  ", "tabs and spaces here"),
    ("generalizations of relational operators happily flying", "generalization of relation operator happy flies"),
    ("a a a a b b", "a b a b a"), ("word " * 30, "word " * 17),
    ("Please reset your password; then log in again.", "Reset the password, then log in."),
    ("[x] {y} ~z^ `q` @me #1 50% 7-up 2020-11-24 a/b c\\d", "x y z q me 1 50 % 7 - up 2020 - 11 - 24 a / b c d"),
]
rng = random.Random(11)
vocab = "the mesh node job stage Stages running, runs. model models tuned! (fast) 3.5 12 U.S. re-run slowly failed failing".split()
for _ in range(60):
    text = lambda: "".join(rng.choice(vocab) + rng.choice([" ", " ", " ", "\n"]) for _ in range(rng.randint(1, 25)))
    hand.append((text(), text()))

kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
plain = rouge_scorer.RougeScorer(kinds, use_stemmer=False)
stemmed = rouge_scorer.RougeScorer(kinds, use_stemmer=True)
sentence, corpus = BLEU(effective_order=True), BLEU()
pairs = []
for answer, want in hand:
    pairs.append({
        "answer": answer, "want": want,
        "rouge": [plain.score(want, answer)[k].fmeasure for k in kinds],
        "rouge_stemmed": [stemmed.score(want, answer)[k].fmeasure for k in kinds],
        "bleu": sentence.sentence_score(answer, [want]).score,
        "bleu_all_orders": corpus.sentence_score(answer, [want]).score,
        "tokens_13a": sentence.tokenizer(answer.rstrip()).split(),
    })
corpora = []
for part in [range(0, 20), range(20, 80), range(0, 80), range(0, 3), range(5, 7), range(2, 5)]:
    score = corpus.corpus_score([hand[i][0] for i in part], [[hand[i][1] for i in part]])
    corpora.append({"from": part.start, "to": part.stop, "bleu": score.score, "signature": str(corpus.get_signature())})

words = """caresses ponies ties caress cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned
falling hissing fizzed failing filing happy sky enjoy enjoyment spy relational conditional rational valenci hesitanci digitizer
conformabli radicalli differentli vileli analogousli vietnamization predication operator feudalism decisiveness hopefulness
callousness formaliti sensitiviti sensibiliti triplicate formative formalize electriciti electrical hopeful goodness revival
allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment dependent adoption homologou
communism activate angulariti homologous effective bowdlerize probate rate cease controll roll dies died flies spied skies dying
news innings geology theology archaeology syzygy yyyyyyy toy generalizations oscillators hopefully really fully carefully
international nationalization running runs ran easily studies studying proceed exceeded y by yes 3rd 1990s as is was theology
possibly ably able abli logi ion tion sion bus buses gas gases aeed oed ing bing""".split()
stems = {w: porter.PorterStemmer().stem(w) for w in words}

classes = []
for k, n in [(2, 15), (4, 60), (9, 200)]:
    truth = [rng.randrange(k) for _ in range(n)]
    guess = [t if rng.random() < 0.6 else rng.randrange(k) for t in truth]
    all_ = list(range(k))
    classes.append({
        "labels": k, "truth": truth, "predicted": guess, "accuracy": accuracy_score(truth, guess),
        "macro": f1_score(truth, guess, labels=all_, average="macro", zero_division=0),
        "micro": f1_score(truth, guess, labels=all_, average="micro", zero_division=0),
        "weighted": f1_score(truth, guess, labels=all_, average="weighted", zero_division=0),
        "confusion": confusion_matrix(truth, guess, labels=all_).tolist(),
    })

json.dump({
    "versions": {p: md.version(p) for p in ["rouge-score", "nltk", "sacrebleu", "scikit-learn"]},
    "pairs": pairs, "corpora": corpora, "stems": stems, "classifications": classes,
}, sys.stdout, ensure_ascii=False, indent=1)
print()
