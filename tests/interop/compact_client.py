#!/usr/bin/env python3
"""An independent client of the compact protocol: the .proto of docs/compact.md, a socket, nothing of ours.

usage: compact_client.py tcp|udp HOST PORT METHOD_PATH TEXT COUNT
Sends COUNT unary calls with StringValue messages TEXT + number and prints the replies in order.
"""
import importlib, os, pathlib, random, re, select, socket, subprocess, sys, tempfile, time

PREFACE = bytes.fromhex("ba4ed701")


def compile_proto():
    docs = pathlib.Path(__file__).parents[2] / "docs" / "compact.md"
    proto = re.search(r"```proto\n(.*?)```", docs.read_text(), re.S).group(1)
    folder = tempfile.mkdtemp()
    (pathlib.Path(folder) / "compact.proto").write_text(proto)
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}", "compact.proto"],
        check=True,
    )
    sys.path.insert(0, folder)
    return importlib.import_module("compact_pb2")


pb = compile_proto()


def call_id(path):
    value = 0x811C9DC5
    for byte in path.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def string_value(text):
    data = text.encode()
    return (b"\x0a" + varint(len(data)) + data) if data else b""


def text_of(message):
    from google.protobuf import wrappers_pb2
    return wrappers_pb2.StringValue.FromString(message).value


def table_of(pieces):
    description = pb.Description.FromString(pieces)
    return {entry.path: entry for entry in description.methods}


class Stream:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=10)
        self.buffer = b""
        self.write(pb.Frame(kind=pb.HELLO, hello=pb.Hello(message_size_max=1 << 20, window=1 << 16)), PREFACE)
        assert self.exactly(4) == PREFACE
        self.hello = self.read()
        assert self.hello.kind == pb.HELLO

    def write(self, frame, before=b""):
        data = frame.SerializeToString()
        self.socket.sendall(before + varint(len(data)) + data)

    def exactly(self, size):
        while len(self.buffer) < size:
            more = self.socket.recv(65536)
            assert more, "closed"
            self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read(self):
        size = shift = 0
        while True:
            byte = self.exactly(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return pb.Frame.FromString(self.exactly(size))

    def table(self):
        pieces = b""
        while True:
            self.write(pb.Frame(kind=pb.DESCRIBE, piece=pb.Piece(offset=len(pieces))))
            piece = self.read().piece
            pieces += piece.bytes
            if len(pieces) == piece.total:
                assert piece.hash == self.hello.hello.description_hash
                return table_of(pieces)

    def calls(self, method, messages):
        for number, message in enumerate(messages, 1):
            self.write(pb.Frame(kind=pb.CALL, request=number, method=method, message=message, end=True))
        replies = {}
        while len(replies) < len(messages):
            frame = self.read()
            assert frame.kind == pb.REPLY, frame
            assert not frame.HasField("status"), frame.status
            replies[frame.request] = frame.message
        return [replies[number] for number in sorted(replies)]


class Datagrams:
    def __init__(self, host, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, port))
        nonce = random.getrandbits(64)
        hello = pb.Frame(kind=pb.HELLO, hello=pb.Hello(nonce=nonce), padding=bytes(256))
        answer = self.ask(hello, lambda frame: frame.kind == pb.HELLO and frame.hello.nonce == nonce)
        self.session = answer.session

    def ask(self, frame, fits):
        wait, end = 0.1, time.monotonic() + 10
        while time.monotonic() < end:
            self.socket.send(PREFACE + frame.SerializeToString())
            again = time.monotonic() + wait * random.uniform(0.75, 1.25)
            while (left := again - time.monotonic()) > 0:
                if select.select([self.socket], [], [], left)[0]:
                    data = self.socket.recv(65536)
                    assert data[:4] == PREFACE
                    answer = pb.Frame.FromString(data[4:])
                    if fits(answer):
                        return answer
            wait = min(wait * 2, 3)
        raise SystemExit("no answer")

    def table(self):
        pieces = b""
        while True:
            question = pb.Frame(kind=pb.DESCRIBE, piece=pb.Piece(offset=len(pieces)), padding=bytes(1200))
            here = len(pieces)
            piece = self.ask(question, lambda f: f.kind == pb.DESCRIPTION and f.piece.offset == here).piece
            pieces += piece.bytes
            if len(pieces) == piece.total:
                return table_of(pieces)

    def calls(self, method, messages):
        replies = []
        for number, message in enumerate(messages, 1):
            call = pb.Frame(kind=pb.CALL, session=self.session, request=number, oldest=number, method=method,
                            message=message, end=True)
            answer = self.ask(call, lambda f: f.kind in (pb.REPLY, pb.REJECT) and f.request == number)
            assert answer.kind == pb.REPLY and not answer.HasField("status"), answer
            replies.append(answer.message)
        return replies


def main():
    transport, host, port, path, text, count = sys.argv[1:]
    client = {"tcp": Stream, "udp": Datagrams}[transport](host, int(port))
    entry = client.table()[path]
    assert entry.id == call_id(path), "the table and the hash differ"
    messages = [string_value(f"{text}{number}") for number in range(int(count))]
    for reply in client.calls(entry.id, messages):
        print(text_of(reply))


main()
