"""grpcio as a client with TLS: calls demo.Greeter/Hello and prints its message, or the status.

usage: tls-grpcio.py HOST:PORT CA [CERT KEY]
"""
import pathlib
import sys

import grpc

address, authority, *identity = sys.argv[1:]
certificate, key = (pathlib.Path(path).read_bytes() for path in identity) if identity else (None, None)
credentials = grpc.ssl_channel_credentials(pathlib.Path(authority).read_bytes(), key, certificate)
with grpc.secure_channel(address, credentials) as channel:
    try:
        # HelloRequest{name: "Ada"}; a HelloReply begins with the tag and the length of its message.
        print(channel.unary_unary("/demo.Greeter/Hello")(b"\x0a\x03Ada", timeout=20)[2:].decode())
    except grpc.RpcError as error:
        print(error.code().name)
