"""pika over TLS: who it is, by its certificate or by a password.

usage: mq-broker-external.py PORT CA CERT KEY
"""
import ssl
import sys

import pika

port, authority, certificate, key = sys.argv[1:]


def attempt(name, has_certificate, credentials):
    context = ssl.create_default_context(cafile=authority)
    if has_certificate:
        context.load_cert_chain(certificate, key)
    options = pika.SSLOptions(context, "localhost")
    where = pika.ConnectionParameters("localhost", int(port), ssl_options=options, credentials=credentials)
    try:
        connection = pika.BlockingConnection(where)
    except pika.exceptions.AMQPConnectionError:
        print(f"{name}: refused")
        return
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"hello")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"hello"
    connection.close()
    print(f"{name}: ok")


external, guest = pika.credentials.ExternalCredentials(), pika.PlainCredentials("guest", "guest")
attempt("EXTERNAL", True, external)
attempt("EXTERNAL without a certificate", False, external)
attempt("PLAIN", True, guest)
attempt("PLAIN without a certificate", False, guest)
