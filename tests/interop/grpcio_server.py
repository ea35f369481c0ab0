"""A grpcio server with reflection and health for the client's interop tests.

Prints its port on stdout when it serves, and ends when stdin closes.
"""

import os
import pathlib
import sys
import tempfile
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

PROTO = """
syntax = "proto3";
package demo;
import "google/protobuf/wrappers.proto";
message HelloRequest { string name = 1; repeated string tags = 2; int64 big = 3; }
message HelloReply { string message = 1; int64 big = 2; }
message Number { int32 value = 1; }
message Fault { int32 code = 1; string message = 2; int32 first_fail = 3; }
service Greeter {
  rpc Hello(HelloRequest) returns (HelloReply);
  rpc Fail(Fault) returns (HelloReply);
  rpc Slow(HelloRequest) returns (HelloReply);
  rpc Upper(google.protobuf.StringValue) returns (google.protobuf.StringValue);
}
service Calc {
  rpc Sum(stream Number) returns (Number);
  rpc Count(Number) returns (stream Number);
  rpc Double(stream Number) returns (stream Number);
}
"""


def main():
    work = tempfile.mkdtemp()
    pathlib.Path(work, "client_demo.proto").write_text(PROTO)
    sys.path.insert(0, work)
    os.chdir(work)
    pb, rpc = grpc.protos_and_services("client_demo.proto")
    wrappers = __import__("google.protobuf.wrappers_pb2", fromlist=["wrappers_pb2"])
    failures = {}

    class Greeter(rpc.GreeterServicer):
        def Hello(self, request, context):
            metadata = dict(context.invocation_metadata())
            context.send_initial_metadata((("x-seen", metadata.get("x-test", "none")),))
            context.set_trailing_metadata((("x-trailer", "end"), ("x-data-bin", b"\x00\xff")))
            return pb.HelloReply(message=f"Hello, {request.name}", big=request.big)

        def Fail(self, request, context):
            seen = failures.get(request.message, 0)
            failures[request.message] = seen + 1
            if request.first_fail and seen >= request.first_fail:
                return pb.HelloReply(message=f"after {seen} failures")
            context.abort(list(grpc.StatusCode)[request.code], request.message)

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

    server = grpc.server(futures.ThreadPoolExecutor(16))
    rpc.add_GreeterServicer_to_server(Greeter(), server)
    rpc.add_CalcServicer_to_server(Calc(), server)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    checks.set("demo.Calc", health_pb2.HealthCheckResponse.NOT_SERVING)
    names = [service.full_name for service in pb.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, health.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


main()
