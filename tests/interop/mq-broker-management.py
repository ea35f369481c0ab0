"""The same requests to two brokers' management APIs: what differs in status, members and values, but for what may.

    python3 mq-broker-management.py RABBITMQ_URL OUR_URL

Prints each difference that is not known, and exits with 1 if there is any.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

# Members of one broker's own machinery, whose values cannot be the same.
FREE = {
    "node", "name_of_node", "memory", "connected_at", "uptime", "idle_since", "password_hash", "os_pid", "port", "ports",
    "rate", "cluster_name", "internal_cluster_id", "product_name", "product_version", "properties_key", "cluster_state",
}
# Erlang's insides, RabbitMQ's plugins, and what is not measured: docs/mq.md has the reasons.
MISSING = {
    "backing_queue_status", "garbage_collection", "reductions", "reductions_details", "message_bytes_paged_out",
    "message_bytes_persistent", "message_bytes_ram", "messages_paged_out", "messages_persistent", "messages_ram",
    "messages_ready_ram", "messages_unacknowledged_ram", "user_who_performed_action", "disk_reads", "disk_reads_details",
    "disk_writes", "disk_writes_details",
}

# RabbitMQ has them some seconds later, when its statistics have been gathered.
LATE = {
    "messages", "messages_details", "messages_ready", "messages_ready_details", "messages_unacknowledged",
    "messages_unacknowledged_details", "consumer_capacity", "consumer_utilisation", "consumers", "message_stats",
    "effective_policy_definition", "exclusive_consumer_tag", "head_message_timestamp", "message_bytes",
    "message_bytes_ready", "message_bytes_unacknowledged", "operator_policy", "policy", "recoverable_slaves",
    "single_active_consumer_tag", "state",
}
# Counters of channels that queues have here too, always 0.
EXTRA = {
    "confirm", "confirm_details", "drop_unroutable", "drop_unroutable_details", "return_unroutable",
    "return_unroutable_details",
}

ALL = {"configure": ".*", "write": ".*", "read": ".*"}
MESSAGE = {"properties": {"delivery_mode": 2, "headers": {"a": 1}}, "routing_key": "q", "payload": "hello", "payload_encoding": "string"}


def get(mode, count=1, **more):
    return {"count": count, "ackmode": mode, "encoding": "auto", **more}


STEPS = [
    ("GET", "/whoami", None),
    ("PUT", "/vhosts/v1", {"description": "d", "tags": "a,b"}),
    ("PUT", "/vhosts/v1", {}),
    ("GET", "/vhosts/v1", None),
    ("GET", "/vhosts/nope", None),
    ("PUT", "/users/u1", {"password": "pw", "tags": "monitoring"}),
    ("PUT", "/users/u1", {"password": "pw"}),
    ("PUT", "/users/u1", {"password_hash": "zz", "tags": ""}),
    ("GET", "/users/u1", None),
    ("PUT", "/permissions/v1/u1", ALL),
    ("PUT", "/permissions/v1/u1", {"configure": ""}),
    ("PUT", "/permissions/v1/nobody", ALL),
    ("GET", "/permissions", None),
    ("GET", "/users/u1/permissions", None),
    ("PUT", "/topic-permissions/v1/u1", {"exchange": "amq.topic", "write": "^a", "read": ".*"}),
    ("GET", "/topic-permissions/v1/u1", None),
    ("GET", "/topic-permissions/v1/nobody", None),
    ("PUT", "/queues/v1/q", {"durable": True, "arguments": {"x-max-length": 100}}),
    ("PUT", "/queues/v1/q", {"durable": True, "arguments": {"x-max-length": 100}}),
    ("PUT", "/queues/v1/q", {"durable": False}),
    ("PUT", "/queues/v1/bad", {"auto_delete": "yes"}),
    ("PUT", "/queues/v1/bad", {"arguments": {"x-max-length": "abc"}}),
    ("PUT", "/queues/v1/amq.x", {}),
    ("PUT", "/queues/nope/q", {}),
    ("PUT", "/exchanges/v1/e", {"type": "topic", "durable": True}),
    ("PUT", "/exchanges/v1/e", {"type": "direct"}),
    ("PUT", "/exchanges/v1/bad", {"type": "nope"}),
    ("DELETE", "/exchanges/v1/amq.direct", None),
    ("POST", "/bindings/v1/e/e/q/q", {"routing_key": "a.b/c", "arguments": {}}),
    ("POST", "/bindings/v1/e/e/q/q", {"routing_key": "k", "arguments": {"x": 1}}),
    ("POST", "/bindings/v1/e/e/q/nope", {}),
    ("POST", "/bindings/v1/e/nope/q/q", {}),
    ("GET", "/bindings/v1/e/e/q/q", None),
    ("GET", "/bindings/v1/e/e/q/q/a.b%252Fc", None),
    ("GET", "/bindings/v1/e/e/q/q/zzz", None),
    ("DELETE", "/bindings/v1/e/e/q/q/a.b%252Fc", None),
    ("PUT", "/policies/v1/p", {"pattern": "^q", "definition": {"max-length": 50}, "apply-to": "queues", "priority": 1}),
    ("PUT", "/policies/v1/bad", {}),
    ("PUT", "/policies/v1/bad", {"pattern": "x", "definition": {}}),
    ("PUT", "/policies/v1/bad", {"pattern": "x", "definition": {"nope": 1}}),
    ("PUT", "/policies/v1/bad", {"pattern": "x", "definition": {"max-length": "a"}}),
    ("PUT", "/policies/v1/bad", {"pattern": "x", "definition": {"max-length": 1}, "apply-to": "zz"}),
    ("PUT", "/operator-policies/v1/o", {"pattern": "^q", "definition": {"max-length": 40}}),
    ("GET", "/policies/v1", None),
    ("GET", "/operator-policies/v1", None),
    ("POST", "/exchanges/v1/amq.default/publish", MESSAGE),
    ("POST", "/exchanges/v1/amq.default/publish", {**MESSAGE, "routing_key": "none"}),
    ("POST", "/exchanges/v1/amq.default/publish", {"payload": "x"}),
    ("POST", "/exchanges/v1/amq.default/publish", {**MESSAGE, "payload_encoding": "rot13"}),
    ("POST", "/queues/v1/q/get", get("ack_requeue_true")),
    ("POST", "/queues/v1/q/get", get("ack_requeue_true", truncate=2)),
    ("POST", "/queues/v1/q/get", {"count": 1, "encoding": "auto"}),
    ("POST", "/queues/v1/q/get", get("ack_requeue_true", count="x")),
    ("POST", "/queues/v1/nope/get", get("ack_requeue_true")),
    ("GET", "/queues/v1/q?columns=name,durable,arguments,policy,operator_policy,effective_policy_definition,type,vhost", None),
    ("DELETE", "/queues/v1/q?if-empty=true", None),
    ("DELETE", "/queues/v1/q/contents", None),
    ("POST", "/queues/v1/q/get", get("ack_requeue_false")),
    ("POST", "/queues/v1/q/actions", {"action": "x"}),
    ("GET", "/exchanges/v1?columns=name,type,durable,internal,vhost&sort=name", None),
    ("GET", "/queues/v1?page=1&page_size=1&columns=name", None),
    ("GET", "/queues/v1?page=9", None),
    ("GET", "/queues/v1?page=0", None),
    ("GET", "/queues/v1/q", None),
    ("GET", "/exchanges/v1/e", None),
    ("GET", "/parameters/operator_policy/v1", None),
    ("GET", "/parameters/policy/v1", None),
    ("PUT", "/parameters/policy/v1/p", {"value": {}}),
    ("PUT", "/parameters/operator_policy/v1/o2", {"value": {"pattern": "^z", "priority": 1, "apply-to": "queues", "definition": {"expires": 9000}}}),
    ("GET", "/operator-policies/v1/o2", None),
    ("PUT", "/parameters/operator_policy/v1/o3", {"value": {"pattern": "^z", "definition": {"nope": 1}, "extra": "x"}}),
    ("PUT", "/parameters/operator_policy/v1/o3", {"value": 5}),
    ("PUT", "/parameters/operator_policy/v1/o3", {}),
    ("DELETE", "/parameters/operator_policy/v1/o2", None),
    ("DELETE", "/parameters/operator_policy/v1/o2", None),
    ("PUT", "/parameters/vhost-limits/v1/limits", {"value": {"max-queues": 300}}),
    ("PUT", "/parameters/vhost-limits/v1/limits", {"value": {"max-queues": "x"}}),
    ("PUT", "/vhost-limits/v1/max-connections", {"value": 50}),
    ("PUT", "/vhost-limits/v1/max-nothing", {"value": 50}),
    ("GET", "/vhost-limits/v1", None),
    ("GET", "/parameters/vhost-limits/v1/limits", None),
    ("DELETE", "/parameters/vhost-limits/v1/limits", None),
    ("GET", "/vhost-limits/v1", None),
    ("PUT", "/user-limits/nobody/max-channels", {"value": 50}),
    ("PUT", "/user-limits/u1/max-nothing", {"value": "x"}),
    ("PUT", "/global-parameters/x", {"value": {"a": 1}}),
    ("GET", "/global-parameters/x", None),
    ("DELETE", "/global-parameters/x", None),
    ("PUT", "/vhost-limits/v1/max-queues", {"value": 5}),
    ("GET", "/vhost-limits/v1", None),
    ("GET", "/definitions/v1", None),
    ("POST", "/definitions", {"queues": [{"name": "dq", "vhost": "v1", "durable": True, "auto_delete": False, "arguments": {}}]}),
    ("GET", "/aliveness-test/v1", None),
    ("GET", "/health/checks/alarms", None),
    ("GET", "/health/checks/virtual-hosts", None),
    ("GET", "/health/checks/port-listener/1", None),
    ("GET", "/health/checks/protocol-listener/amqp091", None),
    ("GET", "/nope", None),
    ("PATCH", "/queues/v1/q", {}),
    ("POST", "/queues/v1", {}),
    ("GET", "/queues/nope", None),
    ("GET", "/connections/nope", None),
    ("DELETE", "/queues/v1/q", None),
    ("DELETE", "/queues/v1/q", None),
    ("DELETE", "/exchanges/v1/e", None),
    ("DELETE", "/policies/v1/p", None),
    ("DELETE", "/policies/v1/p", None),
    ("DELETE", "/permissions/v1/u1", None),
    ("DELETE", "/users/u1", None),
    ("DELETE", "/users/u1", None),
    ("DELETE", "/vhosts/v1", None),
    ("DELETE", "/vhosts/v1", None),
]


# RabbitMQ remembers statistics of what had the same name before.
VHOST = f"v{os.getpid()}"


def ask(base, method, path, body):
    path = path.replace("/v1", f"/{VHOST}")
    data = None if body is None else json.dumps(body).replace('"v1"', f'"{VHOST}"').encode()
    request = urllib.request.Request(base + "/api" + path, data=data, method=method)
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def identity(item):
    """What an item of a list is sorted by: no list of the API is in an order that means something, but messages."""
    if not isinstance(item, dict) or "payload" in item:
        return ""
    names = ["vhost", "component", "name", "user", "exchange", "source", "destination_type", "destination", "routing_key"]
    return json.dumps([item.get(name) for name in names] + [item.get("arguments")])


def differences(theirs, ours, at=""):
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(theirs.keys() | ours.keys()):
            if name in FREE or name in MISSING:
                continue
            if name not in ours:
                yield f"{at}/{name}: only RabbitMQ has it: {json.dumps(theirs[name])[:80]}"
            elif name not in theirs:
                if name in LATE or name in EXTRA:
                    continue
                yield f"{at}/{name}: only here: {json.dumps(ours[name])[:80]}"
            else:
                yield from differences(theirs[name], ours[name], f"{at}/{name}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        theirs, ours = sorted(theirs, key=identity), sorted(ours, key=identity)
        if len(theirs) != len(ours):
            yield f"{at}: {len(theirs)} there, {len(ours)} here"
        for number, (one, other) in enumerate(zip(theirs, ours)):
            yield from differences(one, other, f"{at}[{number}]")
    elif theirs != ours:
        yield f"{at}: {json.dumps(theirs)[:120]} there, {json.dumps(ours)[:120]} here"


def main():
    found = 0
    for method, path, body in STEPS:
        (their_status, theirs), (our_status, ours) = (ask(base, method, path, body) for base in sys.argv[1:3])
        lines = []
        if their_status != our_status:
            lines.append(f"status {their_status} there, {our_status} here")
        try:
            lines += differences(json.loads(theirs or b"null"), json.loads(ours or b"null"))
        except ValueError as error:
            lines.append(f"no JSON: {error}")
        for line in lines:
            print(f"{method} {path}: {line}")
        found += len(lines)
    print(f"{len(STEPS)} requests, {found} differences")
    sys.exit(1 if found else 0)


main()
