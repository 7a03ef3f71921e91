/**
 * Which bridge has a channel, by the hash methods of the three load balancers as deploy/ sets them up.
 * tests/deploy/hash.test.ts holds each method to the program that it is taken from.
 */

/**
 * A method, set up for some bridges. `owner` gives the index of the bridge that has a channel while those of `down` are
 * not there.
 *
 * @typedef {{owner: (channel: string, down?: ReadonlySet<number>) => number}} Ring
 * @typedef {(bridges: readonly string[]) => Ring} Method bridges by address, 127.0.0.1:8787, in the order of the file
 */

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
/** One more piece; begin with 0xffffffff and end with a complement. @param {number} sum @param {Uint8Array} bytes */
const crcMore = (sum, bytes) => bytes.reduce((crc, byte) => (CRC[(crc ^ byte) & 255] ?? 0) ^ (crc >>> 8), sum);
const complement = (/** @type {number} */ sum) => ~sum >>> 0;
const crc32 = (/** @type {string} */ text) => complement(crcMore(0xffffffff, Buffer.from(text)));

/** The first point at or above a hash. @param {Uint32Array} points sorted @param {number} hash */
function firstFrom(points, hash) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle] ?? 0) < hash) low = middle + 1;
    else high = middle;
  }
  return low % points.length;
}

/** Points by place, and whose they are. @param {(readonly [point: number, bridge: number])[]} marks */
function sorted(marks) {
  marks.sort(([a], [b]) => a - b);
  return { points: Uint32Array.from(marks, ([point]) => point), owners: marks.map(([, bridge]) => bridge) };
}

/**
 * nginx, `hash … consistent`: ketama, 160 points for each server, each from the one before it
 * (ngx_http_upstream_hash_module.c). Who is down is passed over, point by point.
 *
 * @type {Method}
 */
export function ketama(bridges) {
  const marks = bridges.flatMap((address, bridge) => {
    const base = crcMore(0xffffffff, Buffer.from(address.replace(/:(\d+)$/, '\0$1')));
    const previous = Buffer.alloc(4);
    return Array.from({ length: 160 }, () => {
      const point = complement(crcMore(base, previous));
      previous.writeUInt32LE(point);
      return /** @type {const} */ ([point, bridge]);
    });
  });
  const { points, owners } = sorted(marks);
  return {
    owner(channel, down = new Set()) {
      let at = firstFrom(points, crc32(channel));
      while (down.has(owners[at] ?? 0)) at = (at + 1) % points.length;
      return owners[at] ?? 0;
    },
  };
}

/** Bob Jenkins' full avalanche, and a prime to spread it (HAProxy's tools.h). @param {number} a */
function avalanche(a) {
  a = (a + 0x7ed55d16 + (a << 12)) >>> 0;
  a = (a ^ 0xc761c23c ^ (a >>> 19)) >>> 0;
  a = (a + 0x165667b1 + (a << 5)) >>> 0;
  a = ((a + 0xd3a2646c) ^ (a << 9)) >>> 0;
  a = (a + 0xfd7046c5 + (a << 3)) >>> 0;
  a = (a ^ 0xb55a4f09 ^ (a >>> 16)) >>> 0;
  return Math.imul(a, 3221225473) >>> 0;
}

/** @param {string} text */
const sdbm = (text) => {
  let hash = 0;
  for (const byte of Buffer.from(text)) hash = (byte + (hash << 6) + (hash << 16) - hash) >>> 0;
  return hash;
};

/**
 * HAProxy, `hash-type consistent sdbm avalanche`: 16 points for each unit of weight, by the server's id; the nearest one
 * on either side has it (lb_chash.c). Who is down has no points.
 *
 * @param {number} weight
 * @returns {Method}
 */
export const haproxy = (weight) => (bridges) => {
  const marks = bridges.flatMap((_, bridge) =>
    Array.from(
      { length: 16 * weight },
      (_, node) => /** @type {const} */ ([avalanche((bridge + 1) * 4096 + node), bridge]),
    ),
  );
  const all = sorted(marks);
  const without = (/** @type {ReadonlySet<number>} */ down) => sorted(marks.filter(([, bridge]) => !down.has(bridge)));
  /** @type {{down: ReadonlySet<number>, ring: typeof all}} */
  let last = { down: new Set(), ring: all };
  return {
    owner(channel, down) {
      if (down && down !== last.down) last = { down, ring: without(down) };
      const { points, owners } = down ? last.ring : all;
      const hash = avalanche(sdbm(channel));
      const next = firstFrom(points, hash);
      const before = (next + points.length - 1) % points.length;
      const isBefore = (hash - (points[before] ?? 0)) >>> 0 <= ((points[next] ?? 0) - hash) >>> 0;
      return owners[isBefore ? before : next] ?? 0;
    },
  };
};

/** One more piece. @param {number} hash @param {string} text */
function fnv1a(hash, text) {
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/**
 * Caddy, `lb_policy header`: rendezvous. For each channel each bridge has a number, and the highest that is up has it
 * (selectionpolicies.go, 2.6; later ones take another hash function for it).
 *
 * @type {Method}
 */
export const rendezvous = (bridges) => ({
  owner(channel, down) {
    let [best, most] = [0, -1];
    const hash = fnv1a(0x811c9dc5, channel);
    for (const [bridge, address] of bridges.entries()) {
      const number = down?.has(bridge) ? -1 : fnv1a(hash, address);
      if (number > most) [best, most] = [bridge, number];
    }
    return best;
  },
});
