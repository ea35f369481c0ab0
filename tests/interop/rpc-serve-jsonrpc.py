"""jsonrpcclient as a client of `bandy rpc serve`: it writes and reads the documents, HTTP and UDP carry them.

usage: rpc-serve-jsonrpc.py HTTP_PORT UDP_PORT    (a server of the built-in services on 127.0.0.1)
"""
import json
import socket
import sys
import urllib.request

from jsonrpcclient import Error, Ok, notification, parse, request


def http(document):
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{sys.argv[1]}/"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as reply:
        text = reply.read()
        assert reply.status == (200 if text else 204), reply.status
        return json.loads(text) if text else None


def udp(document):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(20)
        peer.connect(("127.0.0.1", int(sys.argv[2])))
        peer.send(json.dumps(document).encode())
        return json.loads(peer.recv(65536))


for ask in (http, udp):
    hello = parse(ask(request("demo.Greeter/Hello", {"name": "Ada"})))
    assert isinstance(hello, Ok) and hello.result == {"message": "Hello, Ada!"}, hello
    divide = parse(ask(request("demo.Calc/Divide", {"a": 1})))
    assert isinstance(divide, Error) and (divide.code, divide.message) == (-32602, "cannot divide by zero"), divide
    nobody = parse(ask(request("demo.Greeter/Nobody")))
    assert isinstance(nobody, Error) and nobody.code == -32601, nobody
    batch = list(parse(ask([request("demo.Greeter/Hello", {"name": name}) for name in "abc"])))
    assert [reply.result["message"] for reply in batch] == ["Hello, a!", "Hello, b!", "Hello, c!"], batch
assert http(notification("demo.Greeter/Hello", {"name": "nobody"})) is None
print("jsonrpcclient: all as expected")
