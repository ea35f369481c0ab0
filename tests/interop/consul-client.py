"""Drives a registry through py-consul: python3 consul-client.py HOST PORT [consul]. Prints "ok" at the end.

The same expectations hold for Consul itself; with "consul", what only we refuse is left out.
"""

import sys
import threading

import consul

client = consul.Consul(host=sys.argv[1], port=int(sys.argv[2]))
peer = consul.Consul(host=sys.argv[1], port=int(sys.argv[2]))


def urls(nodes):
    return sorted(f"{node['Service']['Address']}:{node['Service']['Port']}" for node in nodes)


assert client.status.leader()
for port in (5001, 5002):
    check = {"ttl": "30s", "deregister_critical_service_after": "1m"}
    assert client.agent.service.register(
        "demo.Greeter",
        service_id=f"greeter-{port}",
        address="10.0.0.1",
        port=port,
        tags=["v1", f"p{port}"],
        meta={"scheme": "grpc"},
        check=check,
    )
assert set(client.agent.services()) == {"greeter-5001", "greeter-5002"}
index, nodes = client.health.service("demo.Greeter")
assert urls(nodes) == ["10.0.0.1:5001", "10.0.0.1:5002"], nodes
assert client.health.service("demo.Greeter", passing=True)[1] == [], "no check has passed yet"
assert client.agent.check.ttl_pass("service:greeter-5001", "fine")
assert urls(client.health.service("demo.Greeter", passing=True)[1]) == ["10.0.0.1:5001"]
assert urls(client.health.service("demo.Greeter", tag="p5002")[1]) == ["10.0.0.1:5002"]
# In no order that Consul promises.
assert sorted(client.catalog.services()[1]["demo.Greeter"]) == ["p5001", "p5002", "v1"]
assert {node["ServicePort"] for node in client.catalog.service("demo.Greeter")[1]} == {5001, 5002}
checks = client.health.checks("demo.Greeter")[1]
assert sorted(check["Status"] for check in checks) == ["critical", "passing"]
assert [check["ServiceID"] for check in client.health.state("passing")[1] if check["ServiceID"]] == ["greeter-5001"]

# A blocking query answers when the other one changes something, and only then.
index, _ = client.health.service("demo.Greeter", passing=True)
seen = []
waiter = threading.Thread(
    target=lambda: seen.append(client.health.service("demo.Greeter", passing=True, index=index, wait="30s"))
)
waiter.start()
assert peer.agent.check.ttl_pass("service:greeter-5002")
waiter.join(20)
assert not waiter.is_alive(), "the query was not woken"
assert seen[0][0] != index and urls(seen[0][1]) == ["10.0.0.1:5001", "10.0.0.1:5002"], seen

# One that nothing changes answers when its time is up, with the same index.
index, _ = client.health.service("demo.Greeter", passing=True)
assert client.health.service("demo.Greeter", passing=True, index=index, wait="1s")[0] == index

assert client.agent.check.ttl_fail("service:greeter-5001", "on fire")
assert urls(client.health.service("demo.Greeter", passing=True)[1]) == ["10.0.0.1:5002"]
for port in (5001, 5002):
    assert client.agent.service.deregister(f"greeter-{port}")
assert client.health.service("demo.Greeter")[1] == []
assert not client.agent.check.ttl_pass("service:greeter-5001"), "a check that is gone was renewed"
if sys.argv[3:] != ["consul"]:
    try:
        client.agent.service.register("x", check={"http": "http://127.0.0.1", "interval": "1s"})
        raise SystemExit("an active check was taken")
    except consul.ConsulException as error:
        assert "no checks of its own" in str(error), error
print("ok")
