"""grpcio as a client of `bandy rpc serve`: every kind of call, metadata, errors, deadlines, cancellation.

usage: rpc-serve-grpcio.py HOST:PORT    (a server of the built-in services)
"""
import sys
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(timeout=20)

# The schema comes from the server: reflection is the first thing that is tested.
database = ProtoReflectionDescriptorDatabase(channel)
services = set(database.get_services())
assert {"demo.Greeter", "demo.Calc", "demo.Clock", "demo.Chat", "grpc.health.v1.Health"} <= services, services
pool = descriptor_pool.DescriptorPool(database)


def method(path):
    service, name = path.split("/")
    found = pool.FindServiceByName(service).FindMethodByName(name)
    request = message_factory.GetMessageClass(found.input_type)
    reply = message_factory.GetMessageClass(found.output_type)
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    proto = descriptor_pb2.MethodDescriptorProto()
    found.CopyToProto(proto)
    kind = kinds[proto.client_streaming, proto.server_streaming]
    return kind(f"/{path}", request.SerializeToString, reply.FromString), request


checks = 0


def check(condition, text=""):
    global checks
    assert condition, text
    checks += 1


hello, HelloRequest = method("demo.Greeter/Hello")
check(hello(HelloRequest(name="Ada")).message == "Hello, Ada!")

say, Words = method("demo.Echo/Say")
words = Words(text="ä" * 1000, data=bytes(range(256)) * 4000)
check(say(words) == words, "an echo of a megabyte")
for reply in [future.result() for future in [say.future(Words(text=str(n))) for n in range(200)]]:
    check(reply.text.isdigit())

total, Number = method("demo.Calc/Sum")
check(total(Number(value=n) for n in range(101)).sum == 5050)

ticks, TicksRequest = method("demo.Clock/Ticks")
check([tick.number for tick in ticks(TicksRequest(count=5, interval_ms=1))] == [1, 2, 3, 4, 5])

talk, Line = method("demo.Chat/Talk")
check([line.text for line in talk(iter([Line(text="a"), Line(text="b")]))] == ["a", "b"])

divide, Operands = method("demo.Calc/Divide")
try:
    divide(Operands(a=1))
    check(False, "divided by zero")
except grpc.RpcError as error:
    check(error.code() == grpc.StatusCode.INVALID_ARGUMENT and error.details() == "cannot divide by zero")

try:
    list(ticks(TicksRequest(), timeout=0.3))
    check(False, "an endless stream ended")
except grpc.RpcError as error:
    check(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error.code())

endless = ticks(TicksRequest(interval_ms=1))
next(endless)
endless.cancel()
check(endless.code() == grpc.StatusCode.CANCELLED)

unknown = channel.unary_unary("/demo.Greeter/Nobody")
try:
    unknown(b"")
    check(False, "an unknown method answered")
except grpc.RpcError as error:
    check(error.code() == grpc.StatusCode.UNIMPLEMENTED)

health = health_pb2_grpc.HealthStub(channel)
check(health.Check(health_pb2.HealthCheckRequest(service="demo.Calc")).status == 1)
watch = health.Watch(health_pb2.HealthCheckRequest())
check(next(watch).status == 1)
watch.cancel()

print(f"{checks} checks passed")
