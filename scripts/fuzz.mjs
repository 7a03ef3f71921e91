/**
 * The fuzzers, an hour and a new seed unless told otherwise. Each ends with the first round that fails.
 *
 *     npm run fuzz [-- SECONDS [SEED]]        all that the client reads (tests/attacks/client)
 *     npm run fuzz -- http [SECONDS [SEED]]   all that the bridge reads (tests/attacks/bridge)
 *     npm run fuzz -- [http] --round NAME     that round again
 */
import { load } from './bundle-tests.mjs';

const words = process.argv.slice(2);
const isHttp = words[0] === 'http';
const [first = '3600', second = String(Date.now() % 1_000_000)] = words.slice(isHttp ? 1 : 0);
const { fuzz, again } = await load(`${isHttp ? 'attacks/bridge' : 'attacks/client'}/fuzz.ts`);

if (first === '--round') {
  console.log(`${await again(second)} ${isHttp ? 'requests' : 'answers were changed'}: passed`);
} else {
  const how = `npm run fuzz -- ${isHttp ? 'http ' : ''}${first} ${second}`;
  console.log(`${first} s, seed ${second}: ${how} does the same again`);
  const tell = (/** @type {string} */ line) => console.log(line);
  console.log(await fuzz({ seed: second, seconds: Number(first), tell }));
}
