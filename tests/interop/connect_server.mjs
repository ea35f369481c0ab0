// A @connectrpc/connect-node server of client_demo.proto, for the client's interop tests: Connect, gRPC-Web and gRPC.
// It has no reflection.
//
// usage: connect_server.mjs SET    (the file as a FileDescriptorSet)
//
// Prints two lines, HOST:PORT for HTTP/2 and HOST:PORT for HTTP/1.1, and ends when stdin closes.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { createRequire } from 'node:module';

// import does not look into NODE_PATH; require does.
const require = createRequire(import.meta.url);
const { createFileRegistry, fromBinary } = require('@bufbuild/protobuf');
const { FileDescriptorSetSchema, StringValueSchema } = require('@bufbuild/protobuf/wkt');
const { ConnectError } = require('@connectrpc/connect');
const { compressionGzip, connectNodeAdapter } = require('@connectrpc/connect-node');

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(process.argv[2])));
const failures = new Map();

const greeter = {
  hello(request, context) {
    context.responseHeader.set('x-seen', context.requestHeader.get('x-test') ?? 'none');
    context.responseHeader.set('x-verb', context.requestMethod);
    context.responseTrailer.set('x-trailer', 'end');
    context.responseTrailer.set('x-data-bin', 'AP8');
    return { message: `Hello, ${request.name}`, big: request.big };
  },
  fail({ code, message, firstFail }) {
    const seen = failures.get(message) ?? 0;
    failures.set(message, seen + 1);
    if (firstFail > 0 && seen >= firstFail) return { message: `after ${seen} failures` };
    const detail = { desc: StringValueSchema, value: { value: 'why' } };
    throw new ConnectError(message, code, undefined, [detail]);
  },
  // Never answers: the client's deadline or cancellation ends it.
  slow: () => new Promise(() => {}),
  upper: ({ value }) => ({ value: value.toUpperCase() }),
};

const calc = {
  async sum(numbers) {
    let value = 0;
    for await (const number of numbers) value += number.value;
    return { value };
  },
  async *count(request) {
    for (let value = 1; value <= request.value; value += 1) yield { value };
  },
  async *double(numbers) {
    for await (const { value } of numbers) yield { value: 2 * value };
  },
};

const shop = {
  repeat(order, context) {
    context.responseHeader.set('x-verb', context.requestMethod);
    return order;
  },
};

const handler = connectNodeAdapter({
  acceptCompression: [compressionGzip],
  routes(router) {
    router.service(registry.getService('demo.Greeter'), greeter);
    router.service(registry.getService('demo.Calc'), calc);
    router.service(registry.getService('demo.Shop'), shop);
  },
});
for (const server of [http2.createServer(handler), http.createServer(handler)]) {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  console.log(`127.0.0.1:${server.address().port}`);
}
process.stdin.on('end', () => process.exit(0)).resume();
