/**
 * npm run soak [-- MESSAGES [SEED]]: the storm of tests/faults for long, 10,000 messages unless told otherwise. The same
 * seed gives the same faults again.
 */
import { load } from './bundle.mjs';

const [messages = '10000', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
const { storm } = await load('faults/storm.ts');

console.log(`${messages} messages, seed ${seed}: npm run soak -- ${messages} ${seed} does the same again`);
const smallDisk = process.getuid?.() === 0;
const tell = (/** @type {string} */ line) => console.log(line);
console.log(await storm({ messages: Number(messages), seed, share: 0.2, smallDisk, tell }));
