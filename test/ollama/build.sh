#!/bin/bash
# Builds the Ollama server of one version into .cache/ollama/bin, once. It needs Go, a
# C++ compiler and the headers of nlohmann-json and stb (Debian: nlohmann-json3-dev,
# libstb-dev). The Go module has no copy of miniaudio, which reads sound files; a header
# in its place answers each call with an error.
set -euo pipefail
version=v0.17.4
cd "$(dirname "$0")/../.."
target=$PWD/.cache/ollama
if [[ -x $target/bin/ollama ]]; then exit 0; fi
mkdir -p "$target/bin" "$target/stub/miniaudio"
cat > "$target/stub/miniaudio/miniaudio.h" <<'HEADER'
/* In place of miniaudio: sound input is off. */
#ifndef NO_MINIAUDIO_H
#define NO_MINIAUDIO_H
#include <stddef.h>
#include <stdint.h>
typedef int ma_result;
typedef int ma_format;
typedef int ma_encoding_format;
typedef uint32_t ma_uint32;
typedef uint64_t ma_uint64;
typedef struct { int encodingFormat; } ma_decoder_config;
typedef struct { int unused; } ma_decoder;
enum { MA_SUCCESS = 0, MA_ERROR = -1, ma_format_unknown = 0, ma_format_f32 = 5, ma_encoding_format_unknown = 0 };
static inline ma_decoder_config ma_decoder_config_init(ma_format f, ma_uint32 c, ma_uint32 r) { ma_decoder_config k = {0}; (void)f; (void)c; (void)r; return k; }
static inline ma_result ma_decoder_init_memory(const void *p, size_t n, const ma_decoder_config *c, ma_decoder *d) { (void)p; (void)n; (void)c; (void)d; return MA_ERROR; }
static inline ma_result ma_decoder_get_length_in_pcm_frames(ma_decoder *d, ma_uint64 *n) { (void)d; *n = 0; return MA_ERROR; }
static inline ma_result ma_decoder_read_pcm_frames(ma_decoder *d, void *p, ma_uint64 n, ma_uint64 *r) { (void)d; (void)p; (void)n; if (r) *r = 0; return MA_ERROR; }
static inline ma_result ma_decoder_uninit(ma_decoder *d) { (void)d; return MA_ERROR; }
#endif
HEADER
GOBIN=$target/bin GOFLAGS=-mod=mod CGO_CFLAGS="-O2 -I$target/stub" CGO_CXXFLAGS="-O2 -I$target/stub" \
  go install -ldflags "-s -w" "github.com/ollama/ollama@$version"
