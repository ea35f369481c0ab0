"""A grpcio server of client_demo.proto with reflection and health, for the client's interop tests.

usage: grpcio_server.py [--tls CERT KEY [--client-ca CERT]] [--unix PATH]

Prints its address on stdout when it serves, and ends when stdin closes.
"""

import argparse
import os
import pathlib
import sys
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2, type=pathlib.Path)
    parser.add_argument("--client-ca", type=pathlib.Path)
    parser.add_argument("--unix")
    arguments = parser.parse_args()

    folder = pathlib.Path(__file__).resolve().parent
    sys.path.insert(0, str(folder))
    pb, rpc = grpc.protos_and_services("client_demo.proto")
    wrappers = __import__("google.protobuf.wrappers_pb2", fromlist=["wrappers_pb2"])
    failures = {}

    class Greeter(rpc.GreeterServicer):
        def Hello(self, request, context):
            metadata = dict(context.invocation_metadata())
            peer = (context.auth_context().get("x509_common_name") or [b"none"])[0]
            context.send_initial_metadata((("x-seen", metadata.get("x-test", "none")), ("x-peer", peer.decode())))
            context.set_trailing_metadata((("x-trailer", "end"), ("x-data-bin", b"\x00\xff")))
            return pb.HelloReply(message=f"Hello, {request.name}", big=request.big)

        def Fail(self, request, context):
            seen = failures.get(request.message, 0)
            failures[request.message] = seen + 1
            if request.first_fail and seen >= request.first_fail:
                return pb.HelloReply(message=f"after {seen} failures")
            code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
            context.abort(code, request.message)

        def Slow(self, request, context):
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(30)
            return pb.HelloReply()

        def Upper(self, request, context):
            return wrappers.StringValue(value=request.value.upper())

    class Calc(rpc.CalcServicer):
        def Sum(self, requests, context):
            return pb.Number(value=sum(request.value for request in requests))

        def Count(self, request, context):
            for value in range(1, request.value + 1):
                yield pb.Number(value=value)

        def Double(self, requests, context):
            # Sends no headers before the first message, as grpcio does.
            for request in requests:
                yield pb.Number(value=2 * request.value)

    class Shop(rpc.ShopServicer):
        def Repeat(self, request, context):
            return request

    server = grpc.server(futures.ThreadPoolExecutor(16))
    rpc.add_GreeterServicer_to_server(Greeter(), server)
    rpc.add_CalcServicer_to_server(Calc(), server)
    rpc.add_ShopServicer_to_server(Shop(), server)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    checks.set("demo.Calc", health_pb2.HealthCheckResponse.NOT_SERVING)
    names = [service.full_name for service in pb.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, health.SERVICE_NAME], server)
    if arguments.tls:
        certificate, key = (path.read_bytes() for path in arguments.tls)
        authority = arguments.client_ca and arguments.client_ca.read_bytes()
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, bool(authority))
        address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    elif arguments.unix:
        address = f"unix:{os.path.abspath(arguments.unix)}"
        server.add_insecure_port(address)
    else:
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    print(address, flush=True)
    sys.stdin.read()
    server.stop(0)


main()
