// jayson and vscode-jsonrpc as clients of `bandy rpc serve`: JSON-RPC over HTTP, lines over TCP, Content-Length over TCP.
//
// usage: rpc-serve-jsonrpc.cjs HOST PORT    (a server of the built-in services)
const assert = require('node:assert/strict');
const net = require('node:net');
const jayson = require('jayson/promise');
const vscode = require('vscode-jsonrpc/node');

const [host, port] = [process.argv[2], Number(process.argv[3])];

async function withJayson(name, client) {
  const hello = await client.request('demo.Greeter/Hello', { name: 'Ada' });
  assert.deepEqual(hello.result, { message: 'Hello, Ada!' }, name);
  const divide = await client.request('demo.Calc/Divide', { a: 1 });
  assert.deepEqual([divide.error.code, divide.error.message], [-32602, 'cannot divide by zero'], name);
  assert.equal((await client.request('demo.Greeter/Nobody', {})).error.code, -32601, name);
  const batch = await client.request([
    client.request('demo.Greeter/Hello', { name: 'a' }, undefined, false),
    client.request('demo.Greeter/Hello', { name: 'b' }, undefined, false),
  ]);
  assert.deepEqual(batch.map((one) => one.result.message), ['Hello, a!', 'Hello, b!'], name);
  console.log(`${name}: all as expected`);
}

(async () => {
  await withJayson('jayson, HTTP', jayson.Client.http({ host, port }));
  await withJayson('jayson, TCP', jayson.Client.tcp({ host, port }));

  const socket = net.connect(port, host);
  const connection = vscode.createMessageConnection(
    new vscode.StreamMessageReader(socket),
    new vscode.StreamMessageWriter(socket),
  );
  connection.listen();
  assert.deepEqual(await connection.sendRequest('demo.Greeter/Hello', { name: 'Ada' }), { message: 'Hello, Ada!' });
  const many = Array.from({ length: 100 }, (_, n) => connection.sendRequest('demo.Greeter/Hello', { name: `${n}` }));
  assert.deepEqual((await Promise.all(many)).map((hello) => hello.message), many.map((_, n) => `Hello, ${n}!`));
  const failed = await connection.sendRequest('demo.Calc/Divide', { a: 1 }).catch((error) => error);
  assert.deepEqual([failed.code, failed.message], [-32602, 'cannot divide by zero']);
  const cancel = new vscode.CancellationTokenSource();
  const endless = connection.sendRequest('demo.Clock/Ticks', { interval_ms: 1 }, cancel.token);
  cancel.cancel();
  assert.equal((await endless.catch((error) => error)).code, -32800);
  console.log('vscode-jsonrpc, TCP: all as expected');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
