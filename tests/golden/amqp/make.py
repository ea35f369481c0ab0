"""Writes methods.txt and contents.txt with pamqp 4.0.0 (PyPI): frames as another implementation writes them."""
import datetime, decimal, pathlib
from pamqp import body, commands, frame, header, heartbeat

VALUES = {'octet': 9, 'short': 513, 'long': 70000, 'longlong': 2**40 + 1, 'bit': True, 'shortstr': 'näme.1', 'longstr': 'PLAIN AMQPLAIN', 'table': {'x-max-length': 5, 'b': True, 't': {'n': -1, 's': 'x'}, 'a': [1, 'two', None], 'd': 1.5}, 'timestamp': None}
NAMES = {'exchange_type': 'topic', 'routing_key': 'a.b', 'exchange': 'amq.topic', 'queue': 'näme.1', 'virtual_host': '/', 'realm': '/data', 'source': 's', 'destination': 'd', 'out_of_band': '0', 'cluster_id': '', 'channel_id': '', 'capabilities': '', 'known_hosts': '', 'insist': False}
here = pathlib.Path(__file__).parent


def methods():
    for name in dir(commands):
        group = getattr(commands, name)
        for method in sorted(vars(group)) if isinstance(group, type) else []:
            command = getattr(group, method)
            if method == 'Properties' or not hasattr(command, 'frame_id'):
                continue
            values = {}
            for attribute in command.attributes():
                kind = command.amqp_type(attribute)
                values[attribute] = NAMES.get(attribute, VALUES[kind])
                if attribute == 'ticket':
                    values[attribute] = 0
            # Reserved fields take other values than the one they should have.
            command.validate = lambda self: None
            built = command(**values)
            yield command.name, frame.marshal(built, 7)


def contents():
    full = dict(content_type='text/plain', content_encoding='gzip', headers=VALUES['table'], delivery_mode=2, priority=7, correlation_id='c', reply_to='r', expiration='60000', message_id='m', timestamp=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), message_type='t', user_id='guest', app_id='a')
    yield 'none', frame.marshal(header.ContentHeader(0, 0, commands.Basic.Properties()), 1)
    yield 'all', frame.marshal(header.ContentHeader(0, 2**33, commands.Basic.Properties(**full)), 1)
    for key, value in full.items():
        yield key, frame.marshal(header.ContentHeader(0, 5, commands.Basic.Properties(**{key: value})), 1)
    yield 'body', frame.marshal(body.ContentBody(b'hello'), 1)
    yield 'heartbeat', frame.marshal(heartbeat.Heartbeat(), 0)


def write(name, lines):
    (here / name).write_text(''.join(f'{name} {data.hex()}\n' for name, data in lines))


write('methods.txt', methods())
write('contents.txt', contents())
