// JSON-RPC servers of others, for the client's interop tests: jayson over HTTP and TCP, vscode-jsonrpc over TCP.
//
// Prints three lines of HOST:PORT in that order, and ends when stdin closes.
const net = require('node:net');
const jayson = require('jayson');
const vscode = require('vscode-jsonrpc/node');

const broken = { code: -32000, message: 'out of stock', data: { left: 0 } };
const methods = {
  add: ([a, b], done) => done(null, a + b),
  hello: ({ name }, done) => done(null, { message: `Hello, ${name}` }),
  buy: (_, done) => done(broken),
};
const server = new jayson.Server(methods);

function connected(socket) {
  const connection = vscode.createMessageConnection(
    new vscode.StreamMessageReader(socket),
    new vscode.StreamMessageWriter(socket),
  );
  connection.onRequest('add', (a, b) => a + b);
  connection.onRequest('hello', ({ name }) => ({ message: `Hello, ${name}` }));
  connection.onRequest('buy', () => new vscode.ResponseError(broken.code, broken.message, broken.data));
  // Answers only when it is cancelled. The last argument is the token, whatever the parameters.
  connection.onRequest('never', (...given) => new Promise((done, fail) => {
    given.at(-1).onCancellationRequested(() => fail(new vscode.ResponseError(-32800, 'cancelled')));
  }));
  connection.listen();
}

(async () => {
  for (const listener of [server.http(), server.tcp(), net.createServer(connected)]) {
    await new Promise((done) => listener.listen(0, '127.0.0.1', done));
    console.log(`127.0.0.1:${listener.address().port}`);
  }
})();
process.stdin.on('end', () => process.exit(0)).resume();
