// A Node server with what only Node does easily: streams, trailers, early hints, a say in `Expect`. Prints its port.
'use strict';

const http = require('node:http');

const PIECE = Buffer.alloc(8192, 'n');

function stream(response) {
  let left = 256;
  response.writeHead(200, { 'content-type': 'text/plain', trailer: 'x-sum' });
  const more = () => {
    while (left-- > 0) {
      if (!response.write(PIECE)) return response.once('drain', more);
    }
    response.addTrailers({ 'x-sum': '42' });
    response.end();
  };
  more();
}

function count(request, response) {
  let bytes = 0;
  request.on('data', (piece) => (bytes += piece.length));
  request.on('end', () => response.end(JSON.stringify({ bytes, trailers: request.trailers, headers: request.headers })));
}

// Answers with the body once it has all of it; `/echo` begins at once.
function mirror(request, response) {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => response.end(Buffer.concat(pieces)));
}

function serve(request, response) {
  switch (request.url) {
    case '/stream':
      return stream(response);
    case '/hints':
      response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
      return response.end('a page');
    case '/echo':
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      return request.pipe(response);
    case '/mirror':
      return mirror(request, response);
    default:
      return count(request, response);
  }
}

const server = http.createServer(serve);
server.on('checkContinue', (request, response) => {
  if (request.url === '/refuse') return response.writeHead(403).end('not that');
  response.writeContinue();
  serve(request, response);
});
server.listen(0, '127.0.0.1', () => process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n'));
