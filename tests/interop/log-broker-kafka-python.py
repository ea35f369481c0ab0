"""Uses the broker at PORT as programs with kafka-python do: unchanged, by its documentation. Prints what it saw."""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

AT = f"127.0.0.1:{sys.argv[1]}"

admin = KafkaAdminClient(bootstrap_servers=AT)
admin.create_topics([NewTopic("orders", 3, 1)])
assert "orders" in admin.list_topics()
print("topics")

for codec in [None, "gzip"]:
    producer = KafkaProducer(bootstrap_servers=AT, acks="all", compression_type=codec)
    before = int(time.time() * 1000)
    for n in range(100):
        sent = producer.send("orders", key=b"%d" % n, value=b"v%d" % n, headers=[("h", b"1"), ("h", b"\xff")])
    assert sent.get(20).offset >= 0
    producer.flush()
    producer.close()
print("records")

consumer = KafkaConsumer(
    "orders", bootstrap_servers=AT, group_id="readers", auto_offset_reset="earliest", enable_auto_commit=False
)
seen = []
while len(seen) < 200:
    for records in consumer.poll(20000).values():
        for record in records:
            assert record.headers == [("h", b"1"), ("h", b"\xff")], record.headers
            seen.append(record.value)
assert sorted(seen) == sorted([b"v%d" % n for n in range(100)] * 2)
consumer.commit()
places = [TopicPartition("orders", n) for n in range(3)]
assert sum(consumer.committed(place) for place in places) == 200
assert sum(consumer.end_offsets(places).values()) == 200
found = consumer.offsets_for_times({place: before for place in places})
assert all(at is None or at.timestamp >= before for at in found.values()), found
consumer.close()
print("groups")

admin.delete_topics(["orders"])
assert "orders" not in admin.list_topics()
print("deletions")
