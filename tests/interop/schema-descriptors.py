"""Descriptors that bandy compiled, compared with protoc's of the same files.

usage: schema-descriptors.py FOLDER OURS FILE...    (OURS: a FileDescriptorSet of all files)
"""
import os
import subprocess
import sys
import tempfile

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import text_format

folder, ours, *files = sys.argv[1:]
well_known = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
with tempfile.TemporaryDirectory() as scratch:
    theirs = os.path.join(scratch, "theirs.binpb")
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", folder, "-I", well_known]
    subprocess.run(protoc + ["--include_imports", "--include_source_info", "-o", theirs, *files], check=True)
    theirs = open(theirs, "rb").read()
ours = open(ours, "rb").read()

# Custom options are compared as what they mean: the order of their bytes is the compiler's choice.
pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(theirs).file:
    pool.Add(file)
Set = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileDescriptorSet"))


def comments(file):
    """What stands beside each declaration."""
    wanted = {}
    for location in file.source_code_info.location:
        texts = (location.leading_comments, location.trailing_comments, tuple(location.leading_detached_comments))
        if any(texts):
            wanted[tuple(location.path)] = texts
    return wanted


def spans(file):
    places = {}
    for location in file.source_code_info.location:
        places.setdefault(tuple(location.path), []).append(tuple(location.span))
    return {path: sorted(found) for path, found in places.items()}


def normalise(message):
    """Without what two compilers may write differently: empty options, and digits of a default value."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            normalise(item)
        if field.name in ("options", "features") and not value.ListFields():
            message.ClearField(field.name)
    if message.DESCRIPTOR.name == "FieldDescriptorProto" and message.type in (1, 2) and message.default_value:
        message.default_value = repr(float(message.default_value))


def files_of(data):
    return {file.name: file for file in Set.FromString(data).file}


mine, peers = files_of(ours), files_of(theirs)
differences = 0
for name in files:
    for what, view in (("comments", comments), ("places", spans)):
        a, b = view(mine[name]), view(peers[name])
        for path in sorted(set(a) | set(b)):
            if what == "places" and (set(a.get(path, ())) <= set(b.get(path, ())) or path not in b or path[-3::2] == (5, 2)):
                # Which parts have a place of their own is the compiler's choice, and what the end of a range
                # of a single number is.
                continue
            if a.get(path) != b.get(path):
                differences += 1
                print(f"{name}: {what} at {path}: ours {a.get(path)}, protoc's {b.get(path)}")
    mine[name].ClearField("source_code_info")
    peers[name].ClearField("source_code_info")
    normalise(mine[name])
    normalise(peers[name])
    if mine[name] != peers[name]:
        differences += 1
        import difflib
        lines = [text_format.MessageToString(side[name]).splitlines() for side in (peers, mine)]
        print(f"{name}: protoc's and ours", *difflib.unified_diff(*lines, lineterm="", n=6), sep="\n")
print(f"{len(files)} files compared")
sys.exit(1 if differences else 0)
