package template

// builtins are the four templates. Sources: ChatML as OpenAI described it
// (chatml.md) and as Qwen and SmolLM use it; Llama 3's model card ("Prompt
// format"); Stanford Alpaca's prompt without input; HuggingFaceH4's zephyr.
func builtins() []builtin {
	always := func(s string) func(string) string { return func(string) string { return s } }
	return []builtin{
		{
			name:       "alpaca",
			header:     alpacaHeader,
			end:        alpacaEnd,
			learnedEnd: "{eos}",
			needsEOS:   true,
			jinja: "{% for message in messages %}" +
				"{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}" +
				"{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}" +
				"{% else %}{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}{% endif %}{% endfor %}" +
				"{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
			ollama: `{{ range .Messages }}{{ if eq .Role "system" }}{{ .Content }}` + "\n\n" +
				`{{ else if eq .Role "user" }}### Instruction:` + "\n{{ .Content }}\n\n" +
				`{{ else if eq .Role "assistant" }}### Response:` + "\n{{ .Content }}{eos}\n\n{{ end }}{{ end }}### Response:\n",
		},
		{
			name:       "chatml",
			header:     func(role string) string { return "<|im_start|>" + role + "\n" },
			end:        always("<|im_end|>\n"),
			learnedEnd: "<|im_end|>",
			jinja: "{% for message in messages %}" +
				"{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
				"{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
			ollama: "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
		},
		{
			name:       "llama",
			header:     func(role string) string { return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" },
			end:        always("<|eot_id|>"),
			learnedEnd: "<|eot_id|>",
			trim:       true,
			jinja: "{% for message in messages %}" +
				"{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}" +
				"{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
			ollama: "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}" +
				"<|start_header_id|>assistant<|end_header_id|>\n\n",
		},
		{
			name:       "zephyr",
			header:     func(role string) string { return "<|" + role + "|>\n" },
			end:        always("{eos}\n"),
			learnedEnd: "{eos}",
			needsEOS:   true,
			jinja: "{% for message in messages %}" +
				"{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}" +
				"{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
			ollama: "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}{eos}\n{{ end }}<|assistant|>\n",
		},
	}
}

func alpacaHeader(role string) string {
	switch role {
	case RoleUser:
		return "### Instruction:\n"
	case RoleAssistant:
		return "### Response:\n"
	}
	return "" // the system message stands bare at the top
}

func alpacaEnd(role string) string {
	if role == RoleAssistant {
		return "{eos}\n\n"
	}
	return "\n\n"
}
