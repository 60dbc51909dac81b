#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: test/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Up to Go 1.26 the end of -fuzztime can be reported as a failure, "context deadline
# exceeded", where a worker is still busy (go.dev/issue/75804, mended in 1.27). No
# input is written then, and nothing else is said.
fuzz() {
  go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" -fuzzminimizetime 10x "$2" 2>&1 | tee "$log" && return 0
  local said
  said=$(grep -A1 -- '^--- FAIL' "$log" | tail -n +2 | tr -d ' \n')
  [[ $said == contextdeadlineexceeded ]] && ! grep -qiE 'failing input|panic|fuzzing process' "$log"
}

targets=$(grep -rlE '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' --include='*_test.go' . | sort)
count=0
for file in $targets; do
  dir=$(dirname "$file")
  for target in $(grep -ohE '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | sort -u); do
    printf -- '-- %s %s\n' "$dir" "$target"
    fuzz "$target" "$dir"
    count=$((count + 1))
  done
done
[[ $count -gt 0 ]] || { echo "no fuzz targets found"; exit 1; }
echo "$count fuzz targets, $time each"
