// Package models_test takes models that people really use through import, forward
// pass, generation and training, and compares with llama.cpp. It has to download and
// takes minutes, so it runs by TUNEMESH_MODELS=1 only (make test-models).
package models_test
