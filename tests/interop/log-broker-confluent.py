"""Uses the broker at PORT as programs with librdkafka do, transactions included. Prints what it saw."""

import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

AT = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}"}

admin = AdminClient(AT)
for future in admin.create_topics([NewTopic(name, 2, 1) for name in ["from", "to"]]).values():
    future.result(20)
resource = ConfigResource(ConfigResource.Type.TOPIC, "from")
assert admin.describe_configs([resource])[resource].result(20)["cleanup.policy"].value == "delete"
admin.create_partitions([NewPartitions("from", 4)])["from"].result(20)
assert len(admin.list_topics("from", 20).topics["from"].partitions) == 4
print("administration")

refused = []
producer = Producer({**AT, "enable.idempotence": True, "compression.type": "lz4"})
for n in range(1000):
    producer.produce("from", str(n), key=str(n), on_delivery=lambda error, _: error and refused.append(error))
producer.flush(20)
assert not refused, refused
print("idempotence")


def read(iso, group, topics, count):
    consumer = Consumer({**AT, "group.id": group, "auto.offset.reset": "earliest", "isolation.level": iso})
    consumer.subscribe(topics)
    values = []
    while len(values) < count:
        record = consumer.poll(20)
        assert record is not None, f"{len(values)} of {count}"
        assert not record.error(), record.error()
        values.append(int(record.value()))
    consumer.close()
    return values


# From one topic to another, exactly once: every third transaction is given up, and done again.
mover = Producer({**AT, "transactional.id": "mover"})
mover.init_transactions(20)
source = Consumer({**AT, "group.id": "mover", "auto.offset.reset": "earliest", "enable.auto.commit": False})
source.subscribe(["from"])
moved, rounds = 0, 0
while moved < 1000:
    records = source.consume(100, 1)
    if not records:
        continue
    rounds += 1
    mover.begin_transaction()
    for record in records:
        mover.produce("to", record.value(), partition=record.partition() % 2)
    places = source.position(source.assignment())
    mover.send_offsets_to_transaction(places, source.consumer_group_metadata(), 20)
    if rounds % 3 == 0:
        mover.abort_transaction(20)
        for place in source.committed(source.assignment()):
            source.seek(TopicPartition(place.topic, place.partition, max(place.offset, 0)))
    else:
        mover.commit_transaction(20)
        moved += len(records)
source.close()
assert sorted(read("read_committed", "committed", ["to"], 1000)) == list(range(1000))
print("transactions")

late = Producer({**AT, "transactional.id": "mover"})
mover.begin_transaction()
mover.produce("to", "0")
late.init_transactions(20)
try:
    mover.commit_transaction(20)
    raise SystemExit("two producers under one id")
except KafkaException as error:
    assert error.args[0].fatal(), error
print("fences")
