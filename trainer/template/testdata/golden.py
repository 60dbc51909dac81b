"""Renders conversations with Jinja itself; the Go templates have to write the same.

    pip install jinja2 && go run ./testdata/dump | python golden.py > golden.json

reads {"name": jinja} and writes a list of renderings. The environment is the one of
transformers (utils/chat_template_utils.py): trim_blocks and lstrip_blocks.
"""
import json
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment

CONVERSATIONS = [
    [["user", "Hi"]],
    [["system", "You are kind."], ["user", "Hi"], ["assistant", "Hello!"]],
    [["user", "a\nb"], ["assistant", "  c  "], ["user", "d"], ["assistant", "e\n"]],
    [["user", "{{ x }} {% if %} <|im_end|> 'quoted' \"double\" \\n"], ["assistant", "日本語 🎉"]],
    [["user", ""], ["assistant", ""]],
    [["user", "two"], ["user", "in a row"], ["assistant", "yes"]],
]
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
out = []
for name, source in sorted(json.load(sys.stdin).items()):
    t = env.from_string(source)
    for turns in CONVERSATIONS:
        messages = [{"role": r, "content": c} for r, c in turns]
        out.append({
            "template": name, "messages": messages,
            "whole": t.render(messages=messages, eos_token="</s>", bos_token="<s>", add_generation_prompt=False),
            "prompt": t.render(messages=messages, eos_token="</s>", bos_token="<s>", add_generation_prompt=True),
        })
json.dump(out, sys.stdout, ensure_ascii=False, indent=1)
print()
