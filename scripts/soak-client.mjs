/**
 * npm run soak [-- MESSAGES [SEED]]: tests/faults/chaos.ts for long, 10,000 messages unless told otherwise. The same
 * seed gives the same faults again.
 */
import { load } from './bundle-tests.mjs';

const [messages = '10000', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
const { chaos } = await load('faults/chaos.ts');

console.log(`${messages} messages, seed ${seed}: npm run soak -- ${messages} ${seed} does the same again`);
const smallDisk = process.getuid?.() === 0;
const tell = (/** @type {string} */ line) => console.log(line);
console.log(await chaos({ messages: Number(messages), seed, share: 0.2, smallDisk, tell }));
