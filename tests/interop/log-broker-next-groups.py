"""Consumers of the next generation (KIP-848) and classic ones in one group at PORT, as librdkafka has them. Prints what it saw."""

import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

AT = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}"}
admin = AdminClient(AT)
admin.create_topics([NewTopic("t", 4, 1)])["t"].result(20)


def consumer(protocol):
    classic = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300} if protocol == "classic" else {}
    made = Consumer({**AT, **classic, "group.id": "g", "group.protocol": protocol, "auto.offset.reset": "earliest"})
    made.subscribe(["t"])
    return made


def share(*shares):
    """Polls until each has as many partitions as given, all four together, each once."""
    until = time.monotonic() + 40
    while time.monotonic() < until:
        for one, _ in shares:
            one.poll(0.1)
        parts = [[place.partition for place in one.assignment()] for one, _ in shares]
        if [len(own) for own in parts] == [count for _, count in shares]:
            assert sorted(sum(parts, [])) == [0, 1, 2, 3], parts
            return
    raise SystemExit(f"no division: {parts}")


first = consumer("consumer")
share((first, 4))
second = consumer("consumer")
share((first, 2), (second, 2))
producer = Producer(AT)
for n in range(40):
    producer.produce("t", str(n), partition=n % 4)
producer.flush(20)
seen = set()
while len(seen) < 40:
    for one in (first, second):
        record = one.poll(0.2)
        if record is not None and not record.error():
            seen.add(int(record.value()))
for one in (first, second):
    one.commit(asynchronous=False)
second.close()
share((first, 4))
print("shared")

# A classic consumer comes to them; then the last of the next generation goes.
classic = consumer("classic")
share((first, 2), (classic, 2))
print("moved")
first.close()
share((classic, 4))
assert sum(place.offset for place in classic.committed(classic.assignment(), 20)) == 40
classic.close()
print("back")
