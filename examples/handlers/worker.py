#!/usr/bin/env python3
"""A worker: started once, answers every call of every method as lines of JSON."""
import json
import sys

for line in sys.stdin:
    call = json.loads(line)
    if "message" in call:
        name = call["message"].get("name", "world")
        print(json.dumps({"id": call["id"], "message": {"message": f"Hello, {name}!"}}), flush=True)
