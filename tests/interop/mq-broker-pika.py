"""Uses the broker at PORT as programs with pika do: unchanged, by its documentation. Prints what it saw."""

import ssl
import sys

import pika

PORT = int(sys.argv[1])
TLS = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else None
OPTIONS = pika.SSLOptions(TLS, "localhost") if TLS else None


def connect(**more):
    return pika.BlockingConnection(pika.ConnectionParameters("localhost", PORT, ssl_options=OPTIONS, **more))


connection = connect()
channel = connection.channel()

# Work: confirmed, taken one at a time, given back once, in order.
channel.confirm_delivery()
channel.queue_declare("jobs", durable=True)
for n in range(100):
    headers = {"n": n, "deep": {"list": [1, "two", None, True]}}
    channel.basic_publish(
        "", "jobs", b"%d" % n, pika.BasicProperties(delivery_mode=2, headers=headers), mandatory=True
    )
channel.basic_qos(prefetch_count=1)
seen, again = [], 0
for method, properties, body in channel.consume("jobs", inactivity_timeout=20):
    assert method is not None, "nothing came"
    assert properties.headers["n"] == int(body) and properties.headers["deep"]["list"] == [1, "two", None, True]
    if body == b"7" and not method.redelivered:
        channel.basic_nack(method.delivery_tag)
        continue
    again += method.redelivered
    seen.append(int(body))
    channel.basic_ack(method.delivery_tag)
    if len(seen) == 100:
        break
channel.cancel()
assert seen == list(range(100)) and again == 1, (seen, again)
print("work")

# Topics: each queue gets what it is bound for.
news = connection.channel()
queues = {}
for pattern in ["*.eu", "news.#", "#"]:
    queues[pattern] = news.queue_declare("", exclusive=True).method.queue
    news.queue_bind(queues[pattern], "amq.topic", pattern)
for key in ["sport.eu", "news", "news.us.ny"]:
    news.basic_publish("amq.topic", key, key.encode())
counts = [news.queue_declare(queue, passive=True).method.message_count for queue in queues.values()]
assert counts == [1, 2, 3], counts
print("topics")

# Nobody there: the message comes back.
try:
    channel.basic_publish("", "nobody", b"x", mandatory=True)
    raise SystemExit("not returned")
except pika.exceptions.UnroutableError as error:
    assert error.messages[0].method.reply_code == 312
print("returned")

# Expired and rejected messages go where they are sent, with the reason.
channel.queue_declare("dead", exclusive=True)
arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 50}
channel.queue_declare("short", exclusive=True, arguments=arguments)
channel.basic_publish("", "short", b"late")
for method, properties, body in channel.consume("dead", auto_ack=True, inactivity_timeout=20):
    assert method is not None, "no dead letter"
    death = properties.headers["x-death"][0]
    assert (body, death["reason"], death["queue"]) == (b"late", "expired", "short"), death
    break
channel.cancel()
print("dead letters")

# A transaction happens as a whole, or not at all.
tx = connection.channel()
tx.tx_select()
tx.basic_publish("", "jobs", b"never")
tx.tx_rollback()
tx.basic_publish("", "jobs", b"kept")
tx.tx_commit()
assert tx.basic_get("jobs", auto_ack=True)[2] == b"kept" and tx.basic_get("jobs")[0] is None
print("transactions")

# A question and its answer, without a queue for it.
asker = connection.channel()
answers = []
asker.basic_consume("amq.rabbitmq.reply-to", lambda *args: answers.append(args[3]), auto_ack=True)
asker.queue_declare("questions", exclusive=True)
asker.basic_publish("", "questions", b"6*7", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
_, question, body = channel.basic_get("questions", auto_ack=True)
channel.basic_publish("", question.reply_to, b"%d" % eval(body))
while not answers:
    connection.process_data_events(time_limit=1)
assert answers == [b"42"]
print("replies")

# Errors close what they should, and say what RabbitMQ says.
broken = connection.channel()
try:
    broken.queue_declare("jobs", durable=False)
    raise SystemExit("not refused")
except pika.exceptions.ChannelClosedByBroker as error:
    assert (error.reply_code, "inequivalent arg 'durable'" in error.reply_text) == (406, True), error
try:
    connect(credentials=pika.PlainCredentials("guest", "wrong"))
    raise SystemExit("not refused")
except pika.exceptions.ProbableAuthenticationError:
    pass
print("errors")
connection.close()
