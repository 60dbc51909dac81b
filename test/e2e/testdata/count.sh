#!/bin/sh
# counts the lines of the job's dataset
set -eu
folder=$(dirname "$TUNEMESH_INPUT")
echo '{"level":"INFO","agent":"CountAgent","message":"counting"}'
echo 'a plain line of a foreign program'
sleep 1
lines=$(cat "$folder"/in/source/* | wc -l)
printf '{"status":"success","output":{"lines":%d},"artifacts":{},"metrics":{"lines":%d}}' "$lines" "$lines" > "$TUNEMESH_RESULT.tmp"
mv "$TUNEMESH_RESULT.tmp" "$TUNEMESH_RESULT"
