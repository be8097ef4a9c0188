#!/usr/bin/env python3
"""Prints the digest of each artifact file named: the definition of docs/artifact.md, independent of the Rust."""
import hashlib, json, sys, tomllib

def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(canonical(key) + ":" + canonical(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(canonical, value), key=str.encode)) + "]"
    return json.dumps(value, ensure_ascii=False)

for path in sys.argv[1:]:
    with open(path, "rb") as file:
        document = tomllib.load(file)
    document["envelope"].pop("digest", None)
    for executable in document["artifact"]["executable"]:
        executable.setdefault("verify", "pinned")
    for capability in document["envelope"]["capability"]:
        capability.setdefault("mandatory", True)
        if capability["name"] == "process:exec":
            capability.setdefault("transition", "inherit")
    text = "cartouche-artifact-v1\n" + canonical(document)
    print("sha256:" + hashlib.sha256(text.encode()).hexdigest())
