"""Uses the broker at PORT as programs with aiokafka do: unchanged. Prints what it saw."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

AT = f"127.0.0.1:{sys.argv[1]}"


async def main():
    producer = AIOKafkaProducer(bootstrap_servers=AT, enable_idempotence=True)
    await producer.start()
    for n in range(100):
        await producer.send_and_wait("numbers", b"%d" % n)
    await producer.stop()
    print("records")
    consumer = AIOKafkaConsumer("numbers", bootstrap_servers=AT, group_id="g", auto_offset_reset="earliest")
    await consumer.start()
    values = [int((await consumer.getone()).value) for _ in range(100)]
    assert values == list(range(100)), values
    await consumer.commit()
    await consumer.stop()
    print("groups")
    async with AIOKafkaProducer(bootstrap_servers=AT, transactional_id="t") as writer:
        async with writer.transaction():
            await writer.send_and_wait("numbers", b"100")
    consumer = AIOKafkaConsumer(
        "numbers", bootstrap_servers=AT, group_id="g", isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with consumer:
        assert (await consumer.getone()).value == b"100"
    print("transactions")


asyncio.run(asyncio.wait_for(main(), 50))
