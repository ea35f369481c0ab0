"""Random messages of every type, as JSON and as bytes, against Google's own json_format.

usage: schema-json.py SET MESSAGES SEED [OUT IN]

Without OUT and IN, writes a line per message to stdout: type, bytes as base64, json_format's JSON.
With them, reads the lines of OUT (written before) and of IN (ours: JSON of the bytes, bytes as base64 of the JSON,
or an error of either behind a !) and says where they differ.
"""
import base64
import json
import random
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as F

set_file, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pool = descriptor_pool.DescriptorPool()
types = []
for file in descriptor_pb2.FileDescriptorSet.FromString(open(set_file, "rb").read()).file:
    pool.Add(file)
    if not file.package.startswith("compare"):
        continue
    todo = [(file.package, message) for message in file.message_type]
    while todo:
        scope, message = todo.pop()
        name = f"{scope}.{message.name}"
        if not message.options.map_entry:
            types.append(name)
            todo += [(name, nested) for nested in message.nested_type]
types.sort()
chance = random.Random(seed)

INTS = {
    F.CPPTYPE_INT32: (-(2**31), 2**31 - 1), F.CPPTYPE_UINT32: (0, 2**32 - 1),
    F.CPPTYPE_INT64: (-(2**63), 2**63 - 1), F.CPPTYPE_UINT64: (0, 2**64 - 1),
}
TEXTS = ["", "x", "é", "\U0001F600", "a\"b\\c\n\t\u2028", "\x00\x01\x7f", "</script>", "1", "true", "NaN"]
DOUBLES = [0.0, -0.0, 1.0, -1.5, 1e-7, 1e21, 1.7976931348623157e308, 5e-324, float("inf"), float("-inf"), float("nan"), 0.1]


def scalar(field):
    kind = field.cpp_type
    if kind in INTS:
        low, high = INTS[kind]
        return chance.choice([0, 1, low, high, chance.randint(low, high), chance.randint(max(low, -9), 9)])
    if kind == F.CPPTYPE_DOUBLE:
        return chance.choice(DOUBLES + [struct.unpack("d", chance.randbytes(8))[0], chance.uniform(-1e6, 1e6)])
    if kind == F.CPPTYPE_FLOAT:
        number = chance.choice(DOUBLES + [struct.unpack("f", chance.randbytes(4))[0]])
        return struct.unpack("f", struct.pack("f", number))[0] if abs(number) < 3e38 else 1.0
    if kind == F.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == F.CPPTYPE_ENUM:
        return chance.choice(field.enum_type.values).number
    if field.type == F.TYPE_BYTES:
        return chance.randbytes(chance.randint(0, 7))
    return chance.choice(TEXTS) * chance.randint(0, 2)


def fill(message, depth=0):
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        message.seconds = chance.choice([0, -62135596800, 253402300799, chance.randint(-(10**10), 10**11)])
        message.nanos = chance.choice([0, 999999999, 1000, 500000000, chance.randint(0, 999999999)])
        return
    if name == "google.protobuf.Duration":
        sign = chance.choice([1, -1])
        message.seconds = sign * chance.choice([0, 315576000000, chance.randint(0, 10**9)])
        message.nanos = sign * chance.choice([0, 1, 999999999, 120000000])
        return
    if name == "google.protobuf.FieldMask":
        message.paths.extend(chance.sample(["a", "a_b", "c.d_e.f", "long_name"], chance.randint(0, 3)))
        return
    if name == "google.protobuf.Value":
        value(message, depth)
        return
    if name == "google.protobuf.Struct":
        for _ in range(chance.randint(0, 2)):
            value(message.fields[chance.choice(TEXTS)], depth + 1)
        return
    if name == "google.protobuf.ListValue":
        for _ in range(chance.randint(0, 3)):
            value(message.values.add(), depth + 1)
        return
    if name == "google.protobuf.Any":
        inner = chance.choice(["compare.p3.Scalars", "compare.e23.Encoding", "google.protobuf.Duration",
                               "google.protobuf.Int64Value", "google.protobuf.Struct", "google.protobuf.Empty"])
        packed = message_factory.GetMessageClass(pool.FindMessageTypeByName(inner))()
        fill(packed, depth + 2)
        message.Pack(packed, deterministic=True)
        return
    extensions = [] if depth else list(pool.FindAllExtensions(message.DESCRIPTOR))
    for field in list(message.DESCRIPTOR.fields) + extensions:
        if field.name == "nulls":  # json_format does not read the nulls that it writes here
            continue
        if not field.is_required and chance.random() < (0.5 if depth < 2 else 0.8):
            continue
        put(message, field, depth)


def put(message, field, depth):
    is_message = field.cpp_type == F.CPPTYPE_MESSAGE
    if is_message and depth >= 3 and not field.is_required:
        return
    if field.is_extension:
        if field.is_repeated:
            for _ in range(2):
                if is_message:
                    fill(message.Extensions[field].add(), depth + 1)
                else:
                    message.Extensions[field].append(scalar(field))
        elif is_message:
            message.Extensions[field].SetInParent()
            fill(message.Extensions[field], depth + 1)
        else:
            message.Extensions[field] = scalar(field)
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, item = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        for _ in range(chance.randint(0, 3)):
            if item.message_type is not None:
                fill(getattr(message, field.name)[scalar(key)], depth + 1)
            else:
                getattr(message, field.name)[scalar(key)] = scalar(item)
    elif field.is_repeated:
        for _ in range(chance.randint(0, 3)):
            if is_message:
                fill(getattr(message, field.name).add(), depth + 1)
            else:
                getattr(message, field.name).append(scalar(field))
    elif is_message:
        getattr(message, field.name).SetInParent()
        fill(getattr(message, field.name), depth + 1)
    else:
        setattr(message, field.name, scalar(field))


def value(message, depth):
    kind = chance.randint(0, 5 if depth < 3 else 3)
    if kind == 0:
        message.null_value = 0
    elif kind == 1:
        message.number_value = chance.choice([0, 1.5, -2, 1e300, 123456789])
    elif kind == 2:
        message.string_value = chance.choice(TEXTS)
    elif kind == 3:
        message.bool_value = chance.random() < 0.5
    elif kind == 4:
        message.struct_value.SetInParent()
        fill(message.struct_value, depth + 1)
    else:
        message.list_value.SetInParent()
        fill(message.list_value, depth + 1)


def message_class(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def same_json(a, b):
    """Numbers as numbers: 1.0 and 1, and floats in as many digits as each likes."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or abs(a - b) <= 1e-6 * abs(a)
    return type(a) is type(b) and a == b


def same(a, b):
    """Equal, but for the order of maps within an Any, which is bytes."""
    if a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True):
        return True
    a, b = (json_format.MessageToDict(message, descriptor_pool=pool) for message in (a, b))
    return a == b and ("any" in b or "anys" in b)


def write():
    for number in range(count):
        name = types[number % len(types)]
        message = message_class(name)()
        fill(message)
        data = message.SerializeToString(deterministic=True)
        text = json.dumps(json.loads(json_format.MessageToJson(message, descriptor_pool=pool)))
        print(name, base64.b64encode(data).decode(), text, sep="\t")


def compare(written, read):
    differences = 0
    lines = list(zip(open(written), open(read), strict=True))
    for theirs, ours in lines:
        name, data, text = theirs.rstrip("\n").split("\t")
        our_text, our_data = ours.rstrip("\n").split("\t")
        data = base64.b64decode(data)
        message = message_class(name)()
        message.ParseFromString(data)
        problems = []
        wanted = json_format.Parse(text, message_class(name)(), descriptor_pool=pool)
        if our_text.startswith("!"):
            problems.append(("to JSON", our_text))
        else:
            if not same_json(json.loads(our_text), json.loads(text)):
                problems.append(("to JSON", our_text))
            try:
                back = json_format.Parse(our_text, message_class(name)(), descriptor_pool=pool)
                if not same(back, wanted):
                    problems.append(("our JSON read by json_format", our_text))
            except json_format.ParseError as error:
                problems.append((f"our JSON read by json_format: {error}", our_text))
        if our_data.startswith("!"):
            problems.append(("from JSON", our_data))
        else:
            mine = message_class(name)()
            mine.ParseFromString(base64.b64decode(our_data))
            if not same(mine, wanted):
                problems.append(("from JSON", str(mine)))
        for what, shown in problems:
            differences += 1
            if differences < 20:
                print(f"{name}: {what}: {shown}\n   json_format: {text}")
    print(f"{len(lines)} messages of {len(types)} types, {differences} differences")
    sys.exit(1 if differences or not lines else 0)


if len(sys.argv) > 4:
    compare(*sys.argv[4:])
else:
    write()
