#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: test/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

targets=$(grep -rlE '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' --include='*_test.go' . | sort)
count=0
for file in $targets; do
  dir=$(dirname "$file")
  for target in $(grep -ohE '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | sort -u); do
    printf -- '-- %s %s\n' "$dir" "$target"
    go test -run '^$' -fuzz "^${target}\$" -fuzztime "$time" -fuzzminimizetime 10x "$dir"
    count=$((count + 1))
  done
done
[[ $count -gt 0 ]] || { echo "no fuzz targets found"; exit 1; }
echo "$count fuzz targets, $time each"
