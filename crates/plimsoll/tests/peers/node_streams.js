// Node's client against the Node server behind the base URL given: prints what passed between them.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const base = process.argv[2];

// Resolves with the answer, its body, and the interim responses in the order they came.
function ask(path, options, send) {
  return new Promise((resolve, reject) => {
    const interim = [];
    const request = http.request(base + path, options, (answer) => {
      const pieces = [];
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => resolve({ answer, interim, body: Buffer.concat(pieces) }));
      answer.on('error', reject);
    });
    request.on('error', reject);
    request.on('information', (info) => interim.push([info.statusCode, info.headers.link ?? null]));
    request.on('continue', () => interim.push('continue'));
    (send ?? ((r) => r.end()))(request);
  });
}

async function streamed() {
  const { answer, body } = await ask('/stream', {});
  return {
    bytes: body.length,
    clean: body.equals(Buffer.alloc(body.length, 'n')),
    framing: answer.headers['transfer-encoding'],
    trailers: answer.trailers,
    announced: answer.headers.trailer ?? null,
  };
}

async function hinted() {
  const { answer, interim, body } = await ask('/hints', {});
  return { status: answer.statusCode, interim, body: body.toString() };
}

async function mirrored() {
  const sent = crypto.randomBytes(2 * 1024 * 1024);
  const { body } = await ask('/mirror', { method: 'POST' }, (request) => {
    for (let at = 0; at < sent.length; at += 50000) request.write(sent.subarray(at, at + 50000));
    request.end();
  });
  return body.equals(sent);
}

async function uploadTrailers() {
  const options = { method: 'POST', headers: { trailer: 'x-sum', 'transfer-encoding': 'chunked' } };
  const { body } = await ask('/count', options, (request) => {
    request.write('hello');
    request.addTrailers({ 'x-sum': '42' });
    request.end();
  });
  const { bytes, trailers, headers } = JSON.parse(body);
  return { bytes, trailers, announced: headers.trailer ?? null };
}

async function expecting(path) {
  const options = { method: 'POST', headers: { expect: '100-continue', 'content-length': 300000 } };
  const { answer, interim, body } = await ask(path, options, (request) => {
    request.flushHeaders();
    request.on('continue', () => request.end(Buffer.alloc(300000, 'z')));
  });
  return { status: answer.statusCode, interim, bytes: body.length };
}

(async () => {
  const result = {
    streamed: await streamed(),
    hinted: await hinted(),
    mirrored: await mirrored(),
    uploadTrailers: await uploadTrailers(),
    accepted: await expecting('/mirror'),
    refused: await expecting('/refuse'),
  };
  process.stdout.write(JSON.stringify(result) + '\n');
  process.exit(0); // the refused upload never ends by itself
})();
