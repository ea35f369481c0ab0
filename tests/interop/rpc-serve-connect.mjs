// @connectrpc/connect-node as a client of `bandy rpc serve`: Connect, gRPC-Web and gRPC, on HTTP/1.1 and HTTP/2.
//
// usage: rpc-serve-connect.mjs HOST:PORT SET    (a server of the built-in services, and its FileDescriptorSet)
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// import does not look into NODE_PATH; require does.
const require = createRequire(import.meta.url);
const { createFileRegistry, fromBinary } = require('@bufbuild/protobuf');
const { FileDescriptorSetSchema } = require('@bufbuild/protobuf/wkt');
const { Code, ConnectError, createClient } = require('@connectrpc/connect');
const { createConnectTransport, createGrpcTransport, createGrpcWebTransport } = require('@connectrpc/connect-node');

const [address, set] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(set)));
const baseUrl = `http://${address}`;
const transports = {
  'connect, JSON, HTTP/1.1': createConnectTransport({ baseUrl, httpVersion: '1.1' }),
  'connect, JSON, HTTP/2': createConnectTransport({ baseUrl, httpVersion: '2' }),
  'connect, protobuf': createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: true }),
  'connect, GET': createConnectTransport({ baseUrl, httpVersion: '1.1', useHttpGet: true }),
  'grpc-web, HTTP/1.1': createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  'grpc-web, HTTP/2': createGrpcWebTransport({ baseUrl, httpVersion: '2' }),
  grpc: createGrpcTransport({ baseUrl }),
};

async function* numbers(count) {
  for (let value = 0; value <= count; value += 1) yield { value };
}

async function all(stream) {
  const messages = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

for (const [name, transport] of Object.entries(transports)) {
  const client = (service) => createClient(registry.getService(`demo.${service}`), transport);
  assert.equal((await client('Greeter').hello({ name: 'Ada' })).message, 'Hello, Ada!', name);
  const failed = await client('Calc').divide({ a: 1 }).catch((error) => error);
  assert.ok(failed instanceof ConnectError, name);
  assert.deepEqual([failed.code, failed.rawMessage], [Code.InvalidArgument, 'cannot divide by zero'], name);
  assert.equal((await client('Calc').sum(numbers(100))).sum, 5050, name);
  const ticks = await all(client('Clock').ticks({ count: 3, intervalMs: 1 }));
  assert.deepEqual(ticks.map((tick) => Number(tick.number)), [1, 2, 3], name);
  const late = await all(client('Clock').ticks({}, { timeoutMs: 300 })).catch((error) => error);
  assert.equal(late.code, Code.DeadlineExceeded, name);
  console.log(`${name}: all as expected`);
}
process.exit(0);
