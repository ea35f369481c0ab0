#!/usr/bin/env python3
"""`rabbitmqctl` and `make` as RabbitMQ's Java client calls them, put to the management API of `bandy mq broker`.

    mq-broker-rabbitmqctl.py [-n NODE] WORD...                 as rabbitmqctl
    mq-broker-rabbitmqctl.py [-C DIR] [VARIABLE=VALUE] TARGET  as make

The API is BANDY_ADMIN (http://127.0.0.1:15672). BANDY_RESTART is a command that stops the broker and starts it again. A memory alarm
is made by what makes one: bodies that are sent in part, until the broker says that it is short. A disk alarm is made by filling
BANDY_FILL, a file on the broker's (small) file system.
"""
import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ADMIN = os.environ.get("BANDY_ADMIN", "http://127.0.0.1:15672")
FILL = os.environ.get("BANDY_FILL", "")
HOLDER = os.environ.get("BANDY_HOLDER", "/tmp/mq-broker-rabbitmqctl.pid")


def api(method, path, body=None):
    headers = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(), "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ADMIN + "/api/" + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read()
    return json.loads(text) if text else None


def quoted(*words):
    return "/".join(urllib.parse.quote(word, safe="") for word in words)


def wait_for(alarm, wanted):
    end = time.monotonic() + 60
    while api("GET", "nodes")[0][alarm] != wanted:
        if time.monotonic() > end:
            sys.exit(f"error: {alarm} is not {wanted} after a minute")
        time.sleep(0.02)


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def short(text):
    return bytes([len(text)]) + text


def publisher():
    """A connection that is in the middle of a body of 128 MiB."""
    peer = socket.create_connection(("127.0.0.1", 5672))
    peer.sendall(b"AMQP\0\0\x09\x01")
    start_ok = struct.pack(">HHI", 10, 11, 0) + short(b"PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short(b"en_US")
    tune_ok = struct.pack(">HHHIH", 10, 31, 2047, 131072, 0)
    opened = struct.pack(">HH", 10, 40) + short(b"/") + short(b"") + b"\0"
    peer.sendall(frame(1, 0, start_ok) + frame(1, 0, tune_ok) + frame(1, 0, opened) + frame(1, 1, struct.pack(">HH", 20, 10) + short(b"")))
    publish = struct.pack(">HHH", 60, 40, 0) + short(b"") + short(b"nowhere") + b"\0"
    peer.sendall(frame(1, 1, publish) + frame(2, 1, struct.pack(">HHQH", 60, 0, 128 << 20, 0)))
    peer.settimeout(0.5)
    return peer


def hold_memory():
    """In a process of its own, until it is ended."""
    body = frame(3, 1, bytes(131064))
    held = []
    while not api("GET", "nodes")[0]["mem_alarm"]:
        peer = publisher()
        held.append(peer)
        try:
            for _ in range(1000):
                peer.sendall(body)
        except TimeoutError:
            pass
    signal.pause()


def set_alarm(source):
    if source == "memory":
        holder = subprocess.Popen([sys.executable, __file__, "hold-memory"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(HOLDER, "w") as file:
            file.write(str(holder.pid))
        wait_for("mem_alarm", True)
    else:
        space = os.statvfs(os.path.dirname(FILL))
        with open(FILL, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - (1 << 20))
        wait_for("disk_free_alarm", True)


def clear_alarm(source):
    if source == "memory":
        try:
            with open(HOLDER) as file:
                os.kill(int(file.read()), signal.SIGKILL)
            os.unlink(HOLDER)
        except (FileNotFoundError, ProcessLookupError):
            pass
        wait_for("mem_alarm", False)
    elif FILL:
        if os.path.exists(FILL):
            os.unlink(FILL)
        wait_for("disk_free_alarm", False)


def rabbitmqctl(words):
    vhost, priority = "/", 0
    verb, *words = [word for word in words if word != "-q"]
    while words and words[0] in ("-p", "--priority"):
        if words[0] == "-p":
            vhost = words[1]
        else:
            priority = int(words[1])
        words = words[2:]
    if verb == "list_connections":
        for connection in api("GET", "connections"):
            print("\t".join(str({"pid": connection["name"]}.get(word, connection.get(word))) for word in words))
    elif verb == "close_connection":
        api("DELETE", "connections/" + quoted(words[0]))
    elif verb == "set_policy":
        value = {"pattern": words[1], "definition": json.loads(words[2]), "priority": priority, "apply-to": "all"}
        api("PUT", "policies/" + quoted(vhost, words[0]), value)
    elif verb == "clear_policy":
        api("DELETE", "policies/" + quoted(vhost, words[0]))
    elif verb == "add_user":
        api("PUT", "users/" + quoted(words[0]), {"password": words[1], "tags": ""})
    elif verb == "delete_user":
        api("DELETE", "users/" + quoted(words[0]))
    elif verb == "set_user_tags":
        [user] = [user for user in api("GET", "users") if user["name"] == words[0]]
        kept = {name: user[name] for name in ("password_hash", "hashing_algorithm") if name in user}
        api("PUT", "users/" + quoted(words[0]), {**kept, "tags": ",".join(words[1:])})
    elif verb == "add_vhost":
        api("PUT", "vhosts/" + quoted(words[0]))
    elif verb == "delete_vhost":
        api("DELETE", "vhosts/" + quoted(words[0]))
    elif verb == "set_permissions":
        value = dict(zip(("configure", "write", "read"), words[1:]))
        api("PUT", "permissions/" + quoted(vhost, words[0]), value)
    elif verb == "clear_permissions":
        api("DELETE", "permissions/" + quoted(vhost, words[0]))
    elif verb == "set_topic_permissions":
        api("PUT", "topic-permissions/" + quoted(vhost, words[0]), dict(zip(("exchange", "write", "read"), words[1:])))
    elif verb == "clear_topic_permissions":
        api("DELETE", "topic-permissions/" + quoted(vhost, words[0]))
    elif verb in ("trace_on", "trace_off"):
        api("PUT", "vhosts/" + quoted(vhost), {"tracing": verb == "trace_on"})
    elif verb == "set_vm_memory_high_watermark":
        set_alarm("memory") if float(words[0]) < 0.01 else clear_alarm("memory")
    else:
        sys.exit(f"error: nothing at {ADMIN} does what rabbitmqctl {verb} {' '.join(words)} does")


def make(words):
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for target in (word for word in words if "=" not in word):
        if target == "set-resource-alarm":
            set_alarm(given["SOURCE"])
        elif target == "clear-resource-alarm":
            clear_alarm(given["SOURCE"])
        elif target == "stop-rabbit-on-node":
            subprocess.run(os.environ["BANDY_RESTART"], shell=True, check=True)
        elif target != "start-rabbit-on-node":
            sys.exit(f"error: no target {target}")


def main(words):
    if words == ["hold-memory"]:
        return hold_memory()
    if words == ["--version"]:
        return print("GNU Make (in the place of it)")
    tool = make if words[:1] == ["-C"] else rabbitmqctl
    if words[:1] in (["-n"], ["-C"]):
        words = words[2:]
    if not words:
        # The suite looks for the words there are in what is said to nobody.
        with open(__file__) as source:
            print("\n".join(re.findall(r'"([a-z_]+)"', source.read())), file=sys.stderr)
        sys.exit(1)
    try:
        tool(words)
    except urllib.error.HTTPError as error:
        sys.exit(f"error: {error.code}: {error.read().decode(errors='replace')}")


main(sys.argv[1:])
