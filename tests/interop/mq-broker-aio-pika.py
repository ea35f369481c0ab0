"""Uses the broker at PORT with aio-pika: work, topics, calls by queue, a robust connection. Prints what it saw."""

import asyncio
import sys

import aio_pika
from aio_pika.patterns import RPC

URL = f"amqp://guest:guest@127.0.0.1:{sys.argv[1]}/"


async def work(connection):
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=10)
    queue = await channel.declare_queue("aio-jobs", durable=True)
    message = lambda n: aio_pika.Message(b"%d" % n, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"n": n})
    await asyncio.gather(*(channel.default_exchange.publish(message(n), queue.name) for n in range(200)))
    seen = []
    async with queue.iterator() as messages:
        async for message in messages:
            if message.body == b"7" and not message.redelivered:
                await message.nack(requeue=True)
                continue
            seen.append(int(message.body))
            assert message.headers["n"] == seen[-1]
            await message.ack()
            if len(seen) == 200:
                break
    assert sorted(seen) == list(range(200)), seen
    await queue.delete()


async def topics(connection):
    channel = await connection.channel(on_return_raises=True)
    exchange = await channel.declare_exchange("aio-news", aio_pika.ExchangeType.TOPIC, auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "*.eu")
    for key in ["sport.eu", "sport.us", "news.eu"]:
        await exchange.publish(aio_pika.Message(key.encode()), key, mandatory=False)
    found = [(await queue.get(timeout=30, no_ack=True)).body for _ in range(2)]
    assert found == [b"sport.eu", b"news.eu"], found
    assert await queue.get(fail=False) is None
    try:
        await exchange.publish(aio_pika.Message(b"x"), "nobody.at", mandatory=True)
        raise AssertionError("not returned")
    except aio_pika.exceptions.DeliveryError:
        pass


async def calls(connection):
    rpc = await RPC.create(await connection.channel())

    async def add(*, a, b):
        return a + b

    await rpc.register("aio-add", add, auto_delete=True)
    answers = await asyncio.gather(*(rpc.call("aio-add", {"a": n, "b": 1}) for n in range(20)))
    assert answers == list(range(1, 21)), answers
    await rpc.close()


async def errors(connection):
    channel = await connection.channel()
    try:
        await channel.declare_queue("aio-missing", passive=True)
        raise AssertionError("not refused")
    except aio_pika.exceptions.ChannelNotFoundEntity as error:
        assert "no queue 'aio-missing' in vhost '/'" in str(error), error


async def transactions(connection):
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(exclusive=True)
    async with channel.transaction():
        await channel.default_exchange.publish(aio_pika.Message(b"kept"), queue.name)
    try:
        async with channel.transaction():
            await channel.default_exchange.publish(aio_pika.Message(b"gone"), queue.name)
            raise RuntimeError
    except RuntimeError:
        pass
    assert (await queue.get(timeout=30, no_ack=True)).body == b"kept"
    assert await queue.get(fail=False) is None


async def main():
    connection = await aio_pika.connect_robust(URL)
    async with connection:
        for part in [work, topics, calls, errors, transactions]:
            await part(connection)
            print(part.__name__, flush=True)


asyncio.run(asyncio.wait_for(main(), 120))
