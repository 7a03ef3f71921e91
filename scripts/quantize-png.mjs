/**
 * A screenshot with a palette of 256 colours: a third of its size, and what a page shows needs no more. It reads what
 * Chromium writes (PNG, RFC 2083: 8 bits, RGB or RGBA, not interlaced) and takes the most frequent colours.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

/** @param {Buffer} png @returns {Record<string, Buffer>} by type, those of one type joined */
function chunks(png) {
  /** @type {Record<string, Buffer>} */
  const all = {};
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    all[type] = Buffer.concat([all[type] ?? Buffer.alloc(0), png.subarray(at + 8, at + 8 + length)]);
    at += length + 12;
  }
  return all;
}

function chunk(/** @type {string} */ type, /** @type {Buffer} */ data) {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(typed));
  return Buffer.concat([length, typed, sum]);
}

/** What a filter adds to a byte, from those to its left, above it, and left above (RFC 2083, 6). */
function predicted(
  /** @type {number} */ filter,
  /** @type {number} */ a,
  /** @type {number} */ b,
  /** @type {number} */ c,
) {
  if (filter < 4) return [0, a, b, (a + b) >> 1][filter] ?? 0;
  const [toA, toB, toC] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return toA <= toB && toA <= toC ? a : toB <= toC ? b : c;
}

/** @param {Buffer} png @returns {Buffer} */
export function withPalette(png) {
  const { IHDR = png, IDAT = png } = chunks(png);
  const [width, height] = [IHDR.readUInt32BE(0), IHDR.readUInt32BE(4)];
  const step = IHDR[9] === 6 ? 4 : 3;
  const data = inflateSync(IDAT);
  const row = width * step;
  const at = (/** @type {number} */ y, /** @type {number} */ x) => y * (row + 1) + 1 + x;
  /** @type {number[]} */
  const pixels = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < row; x++) {
      const left = x < step ? 0 : (data[at(y, x - step)] ?? 0);
      const above = y === 0 ? 0 : (data[at(y - 1, x)] ?? 0);
      const both = x < step || y === 0 ? 0 : (data[at(y - 1, x - step)] ?? 0);
      data[at(y, x)] = (data[at(y, x)] ?? 0) + predicted(data[at(y, -1)] ?? 0, left, above, both);
    }
    for (let x = 0; x < row; x += step) pixels.push(data.readUIntBE(at(y, x), 3));
  }
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const palette = [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0)).slice(0, 256);
  const far = (/** @type {number} */ a, /** @type {number} */ b) =>
    [16, 8, 0].reduce((sum, bits) => sum + (((a >> bits) & 255) - ((b >> bits) & 255)) ** 2, 0);
  const places = new Map(palette.map((colour, i) => [colour, i]));
  for (const colour of counts.keys()) {
    if (places.has(colour)) continue;
    const [nearest = 0] = palette
      .map((_, i) => i)
      .sort((i, j) => far(palette[i] ?? 0, colour) - far(palette[j] ?? 0, colour));
    places.set(colour, nearest);
  }
  const lines = Buffer.alloc((width + 1) * height); // each begins with a 0: no filter
  pixels.forEach((pixel, i) => (lines[i + 1 + Math.floor(i / width)] = places.get(pixel) ?? 0));
  const head = Buffer.from(IHDR);
  head[9] = 3;
  const colours = Buffer.concat(
    palette.map((colour) => Buffer.from([colour >> 16, (colour >> 8) & 255, colour & 255])),
  );
  const body = deflateSync(lines, { level: 9 });
  return Buffer.concat([
    ...[SIGNATURE, chunk('IHDR', head), chunk('PLTE', colours), chunk('IDAT', body), chunk('IEND', Buffer.alloc(0))],
  ]);
}
