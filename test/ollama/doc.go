// Package ollama asks an Ollama server what it makes of an export: whether `ollama
// create` takes our Modelfile with each GGUF file and with the adapter over its base
// model, whether it writes the prompts that the model was trained on, and whether it
// answers as our engine does. It is a witness from outside.
//
// It needs TUNEMESH_OLLAMA=1 and a program: TUNEMESH_OLLAMA_BIN, `ollama` in PATH, or
// .cache/ollama/bin/ollama at the repository's root, which build.sh makes of Ollama's
// sources (2 to 9 minutes, a C++ compiler). The server of a test has a folder and a
// port of its own and ends with it.
package ollama
