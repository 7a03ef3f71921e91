/**
 * The floor under the bridge: a bare node:http handler that does the same parsing and answers the same JSON, and keeps
 * nothing. Also what bare curls talk to.
 *
 *     POST /…         parses the JSON body, answers as the bridge does to a message with one recipient
 *     GET /bytes/N    answers N bytes
 */
import { createServer } from 'node:http';

const EPOCH = '0'.repeat(32);
const RECIPIENT = `{"participant_id":"${EPOCH}","listening":false,"seen_seconds":0}`;
/** @type {Map<string, string>} */
const bodies = new Map();
let index = 0;

/** @param {import('node:http').ServerResponse} response @param {string} body */
function answer(response, body) {
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body, 'latin1');
}

const server = createServer((request, response) => {
  const { method, url = '' } = request;
  if (method === 'GET') {
    const body = bodies.get(url) ?? 'x'.repeat(Number(url.slice('/bytes/'.length)));
    bodies.set(url, body);
    return answer(response, body);
  }
  /** @type {Buffer[]} */
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    JSON.parse(Buffer.concat(chunks).toString('latin1'));
    answer(response, `{"epoch":"${EPOCH}","index":${++index},"recipients":[${RECIPIENT}]}`);
  });
});
server.keepAliveTimeout = 75_000;
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`);
});
