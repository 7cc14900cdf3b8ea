// Sends the second half of a body once the answer to the first has begun, to the echo server behind the base URL given.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const halves = [crypto.randomBytes(300000), crypto.randomBytes(300000)];
const request = http.request(process.argv[2] + '/echo', { method: 'POST' }, (answer) => {
  const pieces = [];
  answer.on('data', (piece) => pieces.push(piece));
  answer.on('end', () => {
    const echoed = Buffer.concat(pieces).equals(Buffer.concat(halves));
    process.stdout.write(JSON.stringify({ echoed }) + '\n');
  });
  request.end(halves[1]);
});
request.setTimeout(8000, () => request.destroy(new Error('nothing moves')));
request.write(halves[0]);
