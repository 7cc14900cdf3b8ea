// Node's http agent and fetch against the base URL given: prints what they saw.
'use strict';

const http = require('node:http');

const base = process.argv[2];
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const sockets = new Set();

function ask(path) {
  return new Promise((resolve, reject) => {
    const request = http.get(base + path, { agent }, (answer) => {
      const pieces = [];
      sockets.add(request.socket.localPort);
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => resolve(JSON.parse(Buffer.concat(pieces))));
      answer.on('error', reject);
    });
    request.on('error', reject);
  });
}

async function withAgent() {
  let right = 0;
  for (let n = 0; n < 20; n++) {
    right += (await ask(`/${n}`)).request.target === `/${n}` ? 1 : 0;
  }
  agent.destroy();
  return { right, sockets: sockets.size };
}

async function withFetch() {
  const ask = async (n) => (await (await fetch(`${base}/${n}`)).json()).request.target === `/${n}`;
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => ask(n)));
  return answers.filter(Boolean).length;
}

async function post() {
  let left = 32;
  const body = new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(new Uint8Array(16384).fill(121));
      else controller.close();
    },
  });
  const answer = await fetch(`${base}/upload`, { method: 'POST', body, duplex: 'half' });
  const { request } = await answer.json();
  return { bytes: request.body_bytes, framing: Object.fromEntries(request.headers)['transfer-encoding'] };
}

async function download() {
  const answer = await fetch(`${base}/big`, { headers: { accept: 'text/plain' } });
  let bytes = 0;
  for await (const piece of answer.body) bytes += piece.length;
  return bytes;
}

(async () => {
  const result = { agent: await withAgent(), fetched: await withFetch(), posted: await post(), downloaded: await download() };
  process.stdout.write(JSON.stringify(result) + '\n');
})();
