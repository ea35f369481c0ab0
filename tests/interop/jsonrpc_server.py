"""jsonrpcserver over HTTP and UDP, for the client's interop tests.

Prints two lines of HOST:PORT in that order, and ends when stdin closes.
"""

import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jsonrpcserver import Error, Success, dispatch, method


@method
def add(a, b):
    return Success(a + b)


@method
def hello(name):
    return Success({"message": f"Hello, {name}"})


@method
def buy():
    return Error(-32000, "out of stock", {"left": 0})


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = self.rfile.read(int(self.headers["content-length"])).decode()
        reply = dispatch(request).encode()
        self.send_response(200 if reply else 204)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        request, socket = self.request
        reply = dispatch(request.decode())
        if reply:
            socket.sendto(reply.encode(), self.client_address)


for kind, handler in ((ThreadingHTTPServer, Http), (socketserver.ThreadingUDPServer, Datagrams)):
    server = kind(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"127.0.0.1:{server.server_address[1]}", flush=True)
sys.stdin.read()
