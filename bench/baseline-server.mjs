/**
 * The baseline of the bridge: what anybody would write with node:http who parses the same request and answers the same
 * JSON, and keeps nothing. Also what bare curls talk to.
 *
 *     POST /…    parses the JSON body, answers as the bridge does to a message with one recipient
 *     GET /N     answers as the bridge does to a poll, with an event of N characters
 *     GET /wait  never answers
 *     PUT /…     reads a body of any kind, and answers 201
 *     GET /bytes/N  answers with N bytes
 */
import { createServer } from 'node:http';

const EPOCH = '0'.repeat(32);
const KEPT = { type: 'message', at: 1767225600000, from: EPOCH, to: '*', nonce: '0'.repeat(24), tag: EPOCH };
/** @type {Map<string, object>} */
const events = new Map();
/** @type {Map<string, Buffer>} */
const blobs = new Map();
let index = 0;

/** @param {import('node:http').ServerResponse} response @param {object} value */
function answer(response, value) {
  const body = JSON.stringify(value);
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

const server = createServer((request, response) => {
  const { method, url = '' } = request;
  if (url === '/wait') return;
  if (method === 'PUT') return void request.resume().on('end', () => response.writeHead(201).end());
  if (url.startsWith('/bytes/')) {
    const bytes = blobs.get(url) ?? Buffer.alloc(Number(url.slice('/bytes/'.length)), 1);
    blobs.set(url, bytes);
    response.writeHead(200, { 'Content-Length': bytes.length });
    return void response.end(bytes);
  }
  if (method === 'GET') {
    const event = events.get(url) ?? { ...KEPT, index: 1, ciphertext: 'A'.repeat(Number(url.slice(1))) };
    events.set(url, event);
    return answer(response, { epoch: EPOCH, cursor: 1, events: [event] });
  }
  /** @type {Buffer[]} */
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const { participant_id } = JSON.parse(Buffer.concat(chunks).toString());
    const recipients = [{ participant_id, listening: false, seen_seconds: 0 }];
    answer(response, { epoch: EPOCH, index: ++index, recipients });
  });
});
server.keepAliveTimeout = 75_000;
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`);
});
