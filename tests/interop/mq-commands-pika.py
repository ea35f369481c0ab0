"""Takes what `bandy mq send` sent to the queue `to-pika`, prints it, and sends to `from-pika` what pika can."""

import calendar
import datetime
import decimal
import sys

import pika

connection = pika.BlockingConnection(pika.ConnectionParameters("localhost", int(sys.argv[1])))
channel = connection.channel()
method, properties, body = channel.basic_get("to-pika", auto_ack=True)
print(body, properties.content_type, properties.priority, properties.delivery_mode, properties.timestamp)
headers = properties.headers
# Versions of pika differ in the time zone.
headers["t"] = calendar.timegm(headers["t"].utctimetuple())
print({name: headers[name] for name in sorted(headers)})

channel.queue_declare("from-pika", durable=True)
headers = {
    "text": "t",
    "bytes": b"\xff",
    "yes": True,
    "int": 5,
    "long": 1 << 40,
    "decimal": decimal.Decimal("1.25"),
    "time": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "none": None,
    "list": [1, "two", {"three": None}],
    "table": {"deep": {"er": [True]}},
}
properties = pika.BasicProperties(headers=headers, message_id="m1", timestamp=1767323045, type="order")
channel.basic_publish("", "from-pika", b"\x00\xff", properties)
channel.basic_publish("", "from-pika", b"last")
connection.close()
