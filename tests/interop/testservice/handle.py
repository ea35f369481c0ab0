#!/usr/bin/env python3
"""grpc.testing.TestService as a handler of `bandy rpc serve --proto test.proto -- ./handle.py`.

It uses nothing but the contract in docs/handlers.md: that the official interop client is content
with it shows that the contract is sufficient.
"""
import base64
import json
import os
import sys
import time


def control(**entry):
    with open(os.environ["BANDY_CONTROL"], "a") as file:
        file.write(json.dumps(entry) + "\n")


def reply(message):
    print(json.dumps(message), flush=True)


def payload(size):
    return {"payload": {"body": base64.b64encode(bytes(size)).decode()}}


def echo_status(request):
    status = request.get("responseStatus")
    if status and status.get("code"):
        control(status={"code": status["code"], "message": status.get("message", "")})
        sys.exit(1)


headers = json.loads(os.environ["BANDY_HEADERS"])
if "x-grpc-test-echo-initial" in headers:
    control(headers={"x-grpc-test-echo-initial": headers["x-grpc-test-echo-initial"]})
if "x-grpc-test-echo-trailing-bin" in headers:
    control(trailers={"x-grpc-test-echo-trailing-bin": headers["x-grpc-test-echo-trailing-bin"]})

method = os.environ["BANDY_METHOD"].split("/")[1]
if method == "EmptyCall":
    pass
elif method == "UnaryCall":
    request = json.load(sys.stdin)
    echo_status(request)
    response = payload(request.get("responseSize", 0))
    if request.get("fillServerId"):
        response["serverId"] = str(os.getppid())
    reply(response)
elif method in ("StreamingOutputCall", "FullDuplexCall"):
    for line in sys.stdin:
        request = json.loads(line)
        echo_status(request)
        for wanted in request.get("responseParameters", []):
            time.sleep(wanted.get("intervalUs", 0) / 1e6)
            reply(payload(wanted.get("size", 0)))
elif method == "StreamingInputCall":
    bodies = (json.loads(line).get("payload", {}).get("body", "") for line in sys.stdin)
    reply({"aggregatedPayloadSize": sum(len(base64.b64decode(body)) for body in bodies)})
else:
    print(f"{method} is not here", file=sys.stderr)
    sys.exit(76)
