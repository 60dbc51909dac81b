"""Writes the greeting of the job's config in capitals into a folder."""

import json
import os
import sys
import time

document = json.load(sys.stdin)
text = document["config"]["greeting"].upper() + document["config"]["suffix"]
print(json.dumps({"level": "METRIC", "agent": "ShoutAgent", "progress": {"done": 1, "total": 1, "unit": "words"}}), flush=True)
time.sleep(1)
folder = os.path.join(document["output_dir"], "notes")
os.makedirs(folder)
with open(os.path.join(folder, "loud.txt"), "w") as out:
    out.write(text)
result = {"status": "success", "output": {"letters": len(text)}, "artifacts": {"notes": "notes"}, "metrics": {"letters": len(text)}}
with open(os.environ["TUNEMESH_RESULT"], "w") as out:
    json.dump(result, out)
