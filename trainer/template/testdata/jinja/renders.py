#!/usr/bin/env python3
"""Records what Hugging Face's apply_chat_template makes of the templates in this folder.

    pip install transformers==5.24.0 jinja2==3.1.6
    python renders.py [FOLDER]      writes FOLDER/renders.json

strftime_now is held at the date that template/own.go passes. The templates are those of
the models; where they were taken from stands in SOURCES.md.
"""
import datetime
import glob
import json
import os
import sys

import transformers.utils.chat_template_utils as hf

DAY = datetime.datetime(2024, 7, 26)


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DAY


hf.datetime = Frozen


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


S, U, A = "system", "user", "assistant"
CONVERSATIONS = [
    turns((U, "Hello")),
    turns((S, "Be brief."), (U, "Hello")),
    turns((U, "Hello"), (A, "Hi there.")),
    turns((S, "Be brief."), (U, "Hello"), (A, "Hi there.")),
    turns((U, "One"), (A, "1"), (U, "Two")),
    turns((S, "Count."), (U, "One"), (A, "1"), (U, "Two"), (A, "2")),
    turns((U, "One"), (A, "1"), (U, "Two"), (A, "2"), (U, "Three"), (A, "3")),
    turns((S, "  spaces \n"), (U, "\n around "), (A, " the text\t\n")),
    turns((U, "日本語 🎉 {{ x }} {% if %} 'quotes' \"double\" \\n <b>&amp;</b>"), (A, "e\u0301\u00e9\n\n  code:\n    x = 1")),
    turns((U, "think"), (A, "<think>\nwell\n</think>\n\nanswer")),
    turns((U, "think"), (A, "<think>a</think>b"), (U, "more"), (A, "<think>c</think>d")),
    turns((S, ""), (U, ""), (A, "")),
    turns((U, "one"), (U, "two")),
    turns((A, "first")),
    turns((U, "a"), (A, "b"), (S, "late"), (U, "c")),
]


def main(folder):
    out = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            source = f.read()
        for i, conversation in enumerate(CONVERSATIONS):
            for prompt in (False, True):
                case = {"template": os.path.basename(path), "messages": conversation, "prompt": prompt}
                try:
                    rendered, _ = hf.render_jinja_template(
                        [conversation], chat_template=source, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
                    case["text"] = rendered[0]
                except Exception as e:  # the template refuses the conversation
                    case["error"] = f"{type(e).__name__}: {e}"[:200]
                out.append(case)
    with open(os.path.join(folder, "renders.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=0)
        f.write("\n")
    print(len(out), "renders,", sum("error" in c for c in out), "refused")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
