#!/bin/sh
# fails until the file named by its argument is there
set -eu
echo '{"level":"INFO","agent":"FlakyAgent","message":"trying the door"}'
if [ -e "$1" ]; then
  printf '{"status":"success","output":{},"artifacts":{},"metrics":{}}' > "$TUNEMESH_RESULT"
  exit 0
fi
printf '{"status":"error","error":{"class":"transient","code":"NOT_YET","message":"the file is not there"}}' > "$TUNEMESH_RESULT"
exit 1
