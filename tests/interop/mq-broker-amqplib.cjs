// Uses the broker at PORT with amqplib, as programs on Node do. Prints what it saw.
'use strict';
const assert = require('node:assert');
const amqp = require('amqplib');

const url = `amqp://guest:guest@127.0.0.1:${process.argv[2]}`;

/** The next message of a queue. */
async function next(channel, queue) {
  for (const end = Date.now() + 30000; Date.now() < end; await new Promise((done) => setTimeout(done, 10))) {
    const message = await channel.get(queue, { noAck: true });
    if (message) return message;
  }
  throw new Error(`nothing in ${queue}`);
}

const parts = {
  async work(connection) {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue('node-jobs', { durable: true });
    for (let n = 0; n < 200; n++) {
      const options = { persistent: true, headers: { n, deep: [1, 'two', null, { three: true }] } };
      channel.sendToQueue(queue, Buffer.from(String(n)), options);
    }
    await channel.waitForConfirms();
    await channel.prefetch(10);
    const seen = [];
    await new Promise((done, fail) => {
      channel.consume(queue, (message) => {
        try {
          const n = Number(message.content.toString());
          assert.deepStrictEqual(message.properties.headers, { n, deep: [1, 'two', null, { three: true }] });
          if (n === 7 && !message.fields.redelivered) return channel.nack(message);
          seen.push(n);
          channel.ack(message);
          if (seen.length === 200) done();
        } catch (error) { fail(error); }
      });
    });
    assert.deepStrictEqual(seen.sort((a, b) => a - b), [...Array(200).keys()]);
    await channel.deleteQueue(queue);
  },

  async returns(connection) {
    const channel = await connection.createConfirmChannel();
    const returned = new Promise((done) => channel.on('return', done));
    channel.publish('', 'nobody', Buffer.from('back'), { mandatory: true });
    const message = await returned;
    assert.strictEqual(message.fields.replyCode, 312);
    await channel.waitForConfirms();
  },

  async 'dead letters'(connection) {
    const channel = await connection.createChannel();
    const dead = (await channel.assertQueue('', { exclusive: true })).queue;
    const options = { exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: dead };
    const { queue } = await channel.assertQueue('', options);
    channel.sendToQueue(queue, Buffer.from('late'));
    const { properties } = await next(channel, dead);
    assert.strictEqual(properties.headers['x-death'][0].reason, 'expired');
    assert.strictEqual(properties.headers['x-first-death-queue'], queue);
  },

  async errors(connection) {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    await assert.rejects(channel.checkQueue('node-missing'), /404.*no queue 'node-missing' in vhost '\/'/);
    const other = await connection.createChannel();
    other.on('error', () => {});
    await other.assertQueue('node-typed', { exclusive: true, maxLength: 5 });
    await assert.rejects(
      other.assertQueue('node-typed', { exclusive: true, maxLength: 6 }),
      /406.*inequivalent arg 'x-max-length' for queue 'node-typed' in vhost '\/': received '6' but current is '5'/,
    );
    await assert.rejects(amqp.connect(url.replace('guest:guest', 'guest:wrong')), /403.*ACCESS_REFUSED/s);
  },

  // What is sent behind a close is not looked at, and does not keep the answer to the close from coming.
  async 'a close in a hurry'() {
    const connection = await amqp.connect(url);
    connection.on('error', () => {});
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    while (channel.sendToQueue(queue, Buffer.from('a few bytes')));
    await connection.close();
  },
};

(async () => {
  const connection = await amqp.connect(url);
  assert.strictEqual(connection.connection.serverProperties.product, 'RabbitMQ');
  for (const [name, part] of Object.entries(parts)) {
    await part(connection);
    console.log(name);
  }
  await connection.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
