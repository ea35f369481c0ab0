// A @grpc/grpc-js server of client_demo.proto with @grpc/reflection, for the client's interop tests.
//
// Prints HOST:PORT on stdout when it serves, and ends when stdin closes.
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { ReflectionService } = require('@grpc/reflection');

// What @grpc/reflection answers depends on how the file was loaded: these are the flags of grpc-node's own examples.
const loaded = loader.loadSync(path.join(__dirname, 'client_demo.proto'), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { demo } = grpc.loadPackageDefinition(loaded);
const failures = new Map();

const greeter = {
  Hello(call, done) {
    const headers = new grpc.Metadata();
    headers.set('x-seen', String(call.metadata.get('x-test')[0] ?? 'none'));
    call.sendMetadata(headers);
    const trailers = new grpc.Metadata();
    trailers.set('x-trailer', 'end');
    trailers.set('x-data-bin', Buffer.from([0, 255]));
    done(null, { message: `Hello, ${call.request.name}`, big: call.request.big }, trailers);
  },
  Fail(call, done) {
    const { code, message, first_fail: first } = call.request;
    const seen = failures.get(message) ?? 0;
    failures.set(message, seen + 1);
    if (first > 0 && seen >= first) done(null, { message: `after ${seen} failures` });
    else done({ code, details: message });
  },
  // Never answers: the client's deadline or cancellation ends it.
  Slow() {},
  Upper: (call, done) => done(null, { value: call.request.value.toUpperCase() }),
};

const calc = {
  Sum(call, done) {
    let value = 0;
    call.on('data', (number) => (value += number.value)).on('end', () => done(null, { value }));
  },
  Count(call) {
    for (let value = 1; value <= call.request.value; value += 1) call.write({ value });
    call.end();
  },
  Double(call) {
    call.on('data', (number) => call.write({ value: 2 * number.value })).on('end', () => call.end());
  },
};

const server = new grpc.Server();
server.addService(demo.Greeter.service, greeter);
server.addService(demo.Calc.service, calc);
server.addService(demo.Shop.service, { Repeat: (call, done) => done(null, call.request) });
new ReflectionService(loaded).addToServer(server);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`127.0.0.1:${port}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
