// @grpc/grpc-js as a client of `bandy rpc serve`: every kind of call, metadata, errors, deadlines, cancellation.
//
// usage: rpc-serve-grpc-js.cjs HOST:PORT demo.proto    (a server of the built-in services)
const assert = require('node:assert/strict');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, proto] = process.argv.slice(2);
const { demo } = grpc.loadPackageDefinition(loader.loadSync(proto, { longs: Number }));
const client = (service) => new demo[service](address, grpc.credentials.createInsecure());
const reply = (call) => new Promise((done, fail) => call((error, message) => (error ? fail(error) : done(message))));
const messages = (stream) =>
  new Promise((done, fail) => {
    const all = [];
    stream.on('data', (message) => all.push(message)).on('end', () => done(all)).on('error', fail);
  });

(async () => {
  const greeter = client('Greeter');
  assert.deepEqual(await reply((done) => greeter.Hello({ name: 'Ada' }, done)), { message: 'Hello, Ada!' });
  const many = Array.from({ length: 200 }, (_, n) => reply((done) => greeter.Hello({ name: `${n}` }, done)));
  assert.deepEqual((await Promise.all(many)).map((hello) => hello.message), Array.from(many, (_, n) => `Hello, ${n}!`));

  const words = { text: 'ä'.repeat(1000), data: Buffer.alloc(1_000_000, 7) };
  const echoed = await reply((done) => client('Echo').Say(words, done));
  assert.equal(echoed.text, words.text);
  assert.ok(echoed.data.equals(words.data));

  const calc = client('Calc');
  const sum = reply((done) => {
    const call = calc.Sum(done);
    for (let value = 0; value <= 100; value += 1) call.write({ value });
    call.end();
  });
  assert.equal((await sum).sum, 5050);
  const divided = await reply((done) => calc.Divide({ a: 1 }, done)).catch((error) => error);
  assert.equal(divided.code, grpc.status.INVALID_ARGUMENT);
  assert.equal(divided.details, 'cannot divide by zero');

  const clock = client('Clock');
  const ticks = await messages(clock.Ticks({ count: 5, interval_ms: 1 }));
  assert.deepEqual(ticks.map((tick) => tick.number), [1, 2, 3, 4, 5]);
  const late = await messages(clock.Ticks({}, { deadline: Date.now() + 300 })).catch((error) => error);
  assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
  const endless = clock.Ticks({ interval_ms: 1 });
  endless.once('data', () => endless.cancel());
  assert.equal((await messages(endless).catch((error) => error)).code, grpc.status.CANCELLED);

  const talk = client('Chat').Talk();
  const heard = messages(talk);
  talk.write({ text: 'a' });
  talk.write({ text: 'b' });
  talk.end();
  assert.deepEqual((await heard).map((line) => line.text), ['a', 'b']);

  console.log('grpc-js: all as expected');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
