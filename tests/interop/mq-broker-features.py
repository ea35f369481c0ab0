"""Asks the broker at PORT for RabbitMQ's extensions one by one, as its documentation has them. Prints what it saw.

The same against RabbitMQ: python3 mq-broker-features.py 5672. FOREIGN, a second word, leaves out what needs the users of
tests/it/interop/mq_broker.rs.
"""

import sys
import threading
import time

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError, UnroutableError

PORT = int(sys.argv[1])
USERS = "FOREIGN" not in sys.argv[2:]
DEADLINE = 30


def connect(user="guest", password="guest", **more):
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters("localhost", PORT, credentials=credentials, **more))


connection = connect()
channel = connection.channel()
names = 0


def queue(on=None, **arguments):
    """A new queue of this connection, with arguments without their x- and with underscores."""
    arguments = {"x-" + name.replace("_", "-"): value for name, value in arguments.items()}
    return (on or channel).queue_declare("", exclusive=True, arguments=arguments).method.queue


def exchange(kind, **more):
    global names
    names += 1
    name = f"features-{names}"
    channel.exchange_delete(name)
    channel.exchange_declare(name, kind, auto_delete=False, **more)
    return name


def publish(to, key="", body="m", on=None, **properties):
    (on or channel).basic_publish(to, key, body.encode(), pika.BasicProperties(**properties))


def get(name, on=None, auto_ack=True):
    """The next message; waits for it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        method, properties, body = (on or channel).basic_get(name, auto_ack=auto_ack)
        if method is not None:
            return method, properties, body.decode()
        time.sleep(0.01)
    raise AssertionError(f"nothing in {name}")


def bodies(name):
    found = []
    while True:
        method, _, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            return found
        found.append(body.decode())


def refused(code, text, ask, *words, **more):
    """Asks on a channel of its own, which ends with that."""
    own = connection.channel()
    try:
        ask(own, *words, **more)
        own.queue_declare("", exclusive=True)
    except ChannelClosedByBroker as error:
        assert (error.reply_code, text in error.reply_text) == (code, True), error
        return
    raise AssertionError(f"not refused: {text}")


def alternate_exchanges():
    lost = exchange("fanout")
    first = exchange("direct", arguments={"alternate-exchange": lost})
    q, known = queue(), queue()
    channel.queue_bind(q, lost)
    channel.queue_bind(known, first, "known")
    publish(first, "known", "a")
    publish(first, "unknown", "b")
    assert (bodies(known), bodies(q)) == (["a"], ["b"])
    # What an alternate exchange takes is routed: no return of a mandatory message.
    confirmed = connection.channel()
    confirmed.confirm_delivery()
    confirmed.basic_publish(first, "unknown", b"c", mandatory=True)


def bindings_between_exchanges():
    a, b = exchange("topic"), exchange("fanout")
    q = queue()
    channel.exchange_bind(b, a, "#.eu")
    channel.exchange_bind(a, b)
    channel.queue_bind(q, b)
    publish(a, "news.eu", "once")
    publish(a, "news.us", "never")
    assert bodies(q) == ["once"], "a circle of exchanges ends"
    channel.exchange_unbind(b, a, "#.eu")
    publish(a, "news.eu", "never")
    assert bodies(q) == []


def internal_exchanges():
    inner = exchange("fanout", internal=True)
    outer = exchange("fanout")
    q = queue()
    channel.exchange_bind(inner, outer)
    channel.queue_bind(q, inner)
    publish(outer, body="through")
    assert bodies(q) == ["through"]
    refused(403, f"cannot publish to internal exchange '{inner}'", lambda own: publish(inner, on=own))


def headers_exchanges():
    h = exchange("headers")
    pairs = {"type": "news", "x-trace": 1}
    by = {}
    for match in ["all", "any", "all-with-x", "any-with-x"]:
        by[match] = queue()
        channel.queue_bind(by[match], h, arguments={"x-match": match, **pairs})
    for n, headers in enumerate([{"type": "news"}, {"x-trace": 1}, {"type": "x", "x-trace": 1}, {**pairs}, {}]):
        publish(h, body=str(n), headers=headers)
    seen = {match: "".join(bodies(q)) for match, q in by.items()}
    assert seen == {"all": "03", "any": "03", "all-with-x": "3", "any-with-x": "0123"}, seen


def copies():
    one, two, three = queue(), queue(), queue()
    publish("", one, "m", headers={"CC": [two, "nobody"], "BCC": [three]})
    for name in [one, two, three]:
        headers = get(name)[1].headers
        assert headers.get("CC") == [two, "nobody"] and "BCC" not in headers, headers
    refused(406, "CC", lambda own: publish("", one, on=own, headers={"CC": "no array"}))


def priorities():
    q = queue(max_priority=5)
    for priority in [0, 1, 9, 5, None, 3]:
        publish("", q, str(priority), priority=priority)
    assert bodies(q) == ["9", "5", "3", "1", "0", "None"]


def single_active_consumers():
    q = queue(single_active_consumer=True)
    taken = {"one": [], "two": []}
    one, two = connection.channel(), connection.channel()
    for own, name in [(one, "one"), (two, "two")]:
        own.basic_consume(q, lambda c, m, p, body, name=name: taken[name].append(body.decode()), auto_ack=True,
                          consumer_tag=name)
    for n in range(4):
        publish("", q, str(n))
    until(lambda: len(taken["one"]) == 4)
    assert taken["two"] == []
    one.basic_cancel("one")
    publish("", q, "after")
    until(lambda: taken["two"] == ["after"])
    two.close()


def until(done):
    end = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < end, "not in time"
        connection.process_data_events(0.02)


def consumer_priorities():
    q = queue()
    own = connection.channel()
    own.basic_qos(prefetch_count=2)
    taken = []
    for name, priority in [("low", -1), ("high", 10)]:
        own.basic_consume(q, lambda c, m, p, body, name=name: taken.append(name), consumer_tag=name,
                          arguments={"x-priority": priority})
    for _ in range(4):
        publish("", q)
    until(lambda: len(taken) == 4)
    assert sorted(taken[:2]) == ["high", "high"] and taken[2:] == ["low", "low"], taken
    own.close()


def limits_of_deliveries():
    name = "features-quorum"
    channel.queue_delete(name)
    dead = queue()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "",
                 "x-dead-letter-routing-key": dead}
    channel.queue_declare(name, durable=True, arguments=arguments)
    publish("", name, "again", delivery_mode=2)
    counts = []
    for _ in range(3):
        method, properties, _ = get(name, auto_ack=False)
        counts.append((properties.headers or {}).get("x-delivery-count", 0))
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert counts == [0, 1, 2], counts
    death = get(dead)[1].headers["x-death"][0]
    assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", name, 1), death
    channel.queue_delete(name)


def full_queues():
    dropping = queue(max_length=2)
    for n in range(4):
        publish("", dropping, str(n))
    assert bodies(dropping) == ["2", "3"]
    dead = queue()
    own = connection.channel()
    own.confirm_delivery()
    for overflow, letters in [("reject-publish", []), ("reject-publish-dlx", ["1"])]:
        q = queue(max_length=1, overflow=overflow, dead_letter_exchange="", dead_letter_routing_key=dead)
        publish("", q, "0", on=own)
        try:
            publish("", q, "1", on=own)
            raise AssertionError(f"{overflow} took it")
        except NackError:
            pass
        assert bodies(q) == ["0"]
        found = []
        if letters:
            _, properties, body = get(dead)
            found = [body]
            assert properties.headers["x-death"][0]["reason"] == "maxlen"
        assert (found, bodies(dead)) == (letters, []), overflow
    by_bytes = queue(max_length_bytes=10)
    for body in ["12345", "123456", "1234"]:
        publish("", by_bytes, body)
    assert bodies(by_bytes) == ["123456", "1234"]


def returns_to_full_queues():
    q = queue(max_length=2, overflow="reject-publish")
    own = connection.channel()
    own.confirm_delivery()
    publish("", q, "0", on=own)
    publish("", q, "1", on=own)
    method, _, _ = channel.basic_get(q)
    publish("", q, "2", on=own)
    channel.basic_nack(method.delivery_tag)
    end = time.monotonic() + DEADLINE
    while channel.queue_declare(q, passive=True).method.message_count < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert bodies(q) == ["0", "1", "2"], "what comes back stays"


def hidden_copies_of_dead_letters():
    e = exchange("direct")
    q, one, hidden = queue(dead_letter_exchange=e), queue(), queue()
    channel.queue_bind(one, e, q)
    channel.queue_bind(hidden, e, "blind")
    publish("", q, "m", headers={"BCC": ["blind"]})
    method, _, _ = get(q, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    for name in [one, hidden]:
        headers = get(name)[1].headers
        assert "BCC" not in headers and headers["x-death"][0]["routing-keys"] == [q], headers


def the_next_single_active_consumer():
    q = queue(single_active_consumer=True)
    taken = []
    consumers = [connection.channel() for _ in range(3)]
    for number, own in enumerate(consumers):
        own.basic_consume(q, lambda c, m, p, body, number=number: taken.append(number), auto_ack=True,
                          consumer_tag=str(number), arguments={"x-priority": number})
    publish("", q)
    until(lambda: taken == [0])
    consumers[0].close()
    publish("", q)
    until(lambda: taken == [0, 2])


def limits_of_channels_at_quorum_queues():
    name = "features-quorum-limit"
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    other = connect()
    own = other.channel()
    own.basic_qos(prefetch_count=5, global_qos=True)
    try:
        own.basic_consume(name, print)
        raise AssertionError("not refused")
    except ConnectionClosedByBroker as error:
        assert (error.reply_code, "does not support global qos" in error.reply_text) == (540, True), error
    channel.queue_delete(name)


def circles_of_dead_letters():
    # A message that only expired does not come to the same queue again; one that was rejected does.
    q = queue(message_ttl=50, dead_letter_exchange="")
    publish("", q, "gone")
    end = time.monotonic() + DEADLINE
    while channel.queue_declare(q, passive=True).method.message_count and time.monotonic() < end:
        time.sleep(0.02)
    assert bodies(q) == []
    q = queue(dead_letter_exchange="")
    publish("", q, "round")
    for count in range(3):
        method, properties, _ = get(q, auto_ack=False)
        if count:
            assert properties.headers["x-death"][0]["count"] == count
        channel.basic_reject(method.delivery_tag, requeue=False)
    assert get(q)[2] == "round"


def times_to_live():
    dead = queue()
    q = queue(message_ttl=60000, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish("", q, "own", expiration="40")
    _, properties, _ = get(dead)
    assert properties.expiration is None and properties.headers["x-death"][0]["original-expiration"] == "40"
    channel.queue_declare("features-short", arguments={"x-expires": 200})
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        time.sleep(0.3)
        own = connection.channel()
        try:
            own.queue_declare("features-short", passive=True)
            own.close()
        except ChannelClosedByBroker as error:
            assert error.reply_code == 404
            return
    raise AssertionError("it did not expire")


def direct_replies():
    requests = queue()
    replies = []
    own = connection.channel()
    own.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: replies.append((p.correlation_id, body)),
                      auto_ack=True)
    publish("", requests, "ask", on=own, reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    address = get(requests)[1].reply_to
    assert address.startswith("amq.rabbitmq.reply-to."), address
    other = connect()
    server = other.channel()
    server.queue_declare(address, passive=True)
    publish("", address, "answer", on=server, correlation_id="7")
    until(lambda: replies == [("7", b"answer")])
    # As documented for RabbitMQ 3: that address is no queue, and a mandatory message comes back although it arrives.
    server.confirm_delivery()
    try:
        server.basic_publish("", address, b"again", pika.BasicProperties(correlation_id="7"), mandatory=True)
        raise AssertionError("not returned")
    except UnroutableError:
        pass
    until(lambda: replies[1:] == [("7", b"again")])
    other.close()
    refused(406, "reply consumer cannot acknowledge",
            lambda own: own.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=False))


def users_in_messages():
    q = queue()
    publish("", q, user_id="guest")
    assert get(q)[1].user_id == "guest"
    refused(406, "user_id property set to 'eve' but authenticated user was 'guest'",
            lambda own: publish("", q, on=own, user_id="eve"))


def new_secrets():
    own = connect()
    own.update_secret("guest", "because")
    assert own.channel().queue_declare("", exclusive=True).method.queue
    own.close()


def limits_agreed_on():
    own = connect(channel_max=3, frame_max=4096)
    channels = [own.channel() for _ in range(3)]
    q = channels[0].queue_declare("", exclusive=True).method.queue
    publish("", q, "x" * 100_000, on=channels[1])
    assert len(get(q, on=channels[2])[2]) == 100_000
    own.close()


def heartbeats():
    # Two seconds in which nothing but heartbeats goes either way.
    own = connect(heartbeat=1)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        own.process_data_events(0.1)
    assert own.channel().queue_declare("", exclusive=True).method.queue
    own.close()


def names_of_all_kinds():
    for name in ["a/b", "..", "a\0b", "%2F", "\u00fc\u4e2d", "n" * 255]:
        name = name if len(name.encode()) == 255 else "features-" + name
        channel.queue_delete(name)
        channel.exchange_delete(name)
        channel.queue_declare(name)
        channel.exchange_declare(name, "direct")
        channel.queue_bind(name, name, name)
        publish(name, name, "through")
        assert bodies(name) == ["through"], repr(name)
        channel.queue_delete(name)
        channel.exchange_delete(name)


def cancel_notifications():
    gone = []
    own = connection.channel()
    own.queue_declare("features-gone")
    own.add_on_cancel_callback(lambda frame: gone.append(frame.method.consumer_tag))
    own.basic_consume("features-gone", print, consumer_tag="left")
    channel.queue_delete("features-gone")
    until(lambda: gone == ["left"])
    own.close()


def hashed_exchanges():
    h = exchange("x-consistent-hash")
    queues = [queue() for _ in range(3)]
    for name in queues:
        channel.queue_bind(name, h, "1")
    for n in range(300):
        publish(h, str(n), str(n))
        publish(h, str(n), str(n))
    found = [bodies(name) for name in queues]
    assert sum(map(len, found)) == 600 and all(len(some) > 60 for some in found), list(map(len, found))
    assert all(some.count(body) == 2 for some in found for body in some), "one key, one queue"


def permissions_by_topic():
    eve = connect("eve", "secret")
    own = eve.channel()
    publish("amq.topic", "eve.news", on=own)
    assert own.queue_declare("eve-q", exclusive=True).method.queue == "eve-q"
    eve.close()
    for key, text in [("other", "write access to topic 'other' in exchange 'amq.topic' in vhost '/' refused for user 'eve'")]:
        eve = connect("eve", "secret")
        own = eve.channel()
        publish("amq.topic", key, on=own)
        try:
            own.queue_declare("eve-q", exclusive=True)
            raise AssertionError("not refused")
        except ChannelClosedByBroker as error:
            assert (error.reply_code, text in error.reply_text) == (403, True), error
        eve.close()


for feature in [
    alternate_exchanges, bindings_between_exchanges, internal_exchanges, headers_exchanges, copies, priorities,
    single_active_consumers, consumer_priorities, limits_of_deliveries, full_queues, returns_to_full_queues,
    hidden_copies_of_dead_letters, the_next_single_active_consumer, limits_of_channels_at_quorum_queues, circles_of_dead_letters,
    times_to_live, direct_replies, users_in_messages, new_secrets, limits_agreed_on, heartbeats, names_of_all_kinds,
    cancel_notifications, hashed_exchanges,
] + [permissions_by_topic] * USERS:
    feature()
    print(feature.__name__.replace("_", " "), flush=True)
for n in range(1, names + 1):
    channel.exchange_delete(f"features-{n}")
connection.close()
