/**
 * Puts a release into release/, from a commit without changes: bridge.js, agentalk.sh, the npm package, a bill of
 * materials (CycloneDX), SHA256SUMS over all of them, and RELEASE_NOTES.md with these sums and the changelog's entry.
 * Prints what takes how much of bridge.js.
 *
 *     npm run release
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, formatSizes } from './build.mjs';
import { ROOT } from './child-processes.mjs';

const at = (/** @type {string[]} */ ...path) => join(ROOT, ...path);
const read = (/** @type {string} */ path) => readFileSync(at(path), 'utf8');

const sizes = await build();
const [, release = ''] = /^\/\/ (\S+ \S+ \([^)]*\)),/m.exec(read('dist/bridge.js')) ?? [];
if (/with changes|unreleased/.test(release)) {
  console.error(`this is ${release}: commit first, so that the release names its source`);
  process.exit(1);
}

const { version } = JSON.parse(read('package.json'));
const changes = changesOf(version);
if (changes === undefined) {
  console.error(`CHANGELOG.md has no entry for ${version}: write it first`);
  process.exit(1);
}

rmSync(at('release'), { recursive: true, force: true });
mkdirSync(at('release'));
for (const name of ['bridge.js', 'agentalk.sh', 'agentalk']) copyFileSync(at('dist', name), at('release', name));
writeFileSync(at('release', 'bridge.cdx.json'), `${JSON.stringify(billOfMaterials(), null, 2)}\n`);
const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', at('release')];
const tarball = execFileSync('npm', pack, { cwd: ROOT, encoding: 'utf8' }).trim().split('\n').at(-1) ?? '';

const names = ['bridge.js', 'agentalk.sh', 'agentalk', tarball, 'bridge.cdx.json'];
const sums = names.map((name) => `${sha256(readFileSync(at('release', name)))}  ${name}\n`);
writeFileSync(at('release', 'SHA256SUMS'), sums.join(''));
writeFileSync(at('release', 'RELEASE_NOTES.md'), releaseNotes(changes));

console.log(`${release}\n\n${sums.join('')}\nWhat takes how many bytes of bridge.js:\n${formatSizes(sizes)}`);

/** What the changelog says of a version, with its date. @param {string} version @returns {{ date: string, text: string } | undefined} */
function changesOf(version) {
  const entry = read('CHANGELOG.md')
    .split(/^## /m)
    .find((each) => each.startsWith(`[${version}] - `));
  const [, date = '', text = ''] = /^\[\S+\] - (\d{4}-\d{2}-\d{2})\n([^]*)$/.exec(entry ?? '') ?? [];
  return date === '' ? undefined : { date, text: text.trim() };
}

/** @param {{ date: string, text: string }} changes */
function releaseNotes({ date, text }) {
  return `# agentalk ${version}, ${date}

${text}

## Checksums

${release} builds these files, byte for byte, on any machine: \`npm ci && npm run build\`.

\`\`\`
${sums.join('')}\`\`\`

Compare with what a bridge serves: \`curl -fsS https://bridge.example/SHA256SUMS\`. An agent's \`agentalk.sh\` and the copy
in its session's folder are the same file.
`;
}

/** @param {Buffer} bytes */
function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

/** bridge.js depends on nothing; what its build used is listed as excluded from it. By the CycloneDX specification, 1.5. */
function billOfMaterials() {
  const { name, version, license } = JSON.parse(read('package.json'));
  /** @type {Record<string, {version: string, integrity?: string, license?: string}>} */
  const packages = JSON.parse(read('package-lock.json')).packages;
  const tools = Object.entries(packages).filter(([path]) => path !== '');
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      component: { type: 'application', 'bom-ref': 'bridge', name, version, licenses: [{ license: { id: license } }] },
    },
    components: tools.map(([path, { version, integrity = '', license }]) => {
      const tool = path.replace(/^.*node_modules\//, '');
      const content = Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex');
      return {
        type: 'library',
        'bom-ref': path,
        name: tool,
        version,
        scope: 'excluded',
        purl: `pkg:npm/${tool.replace('@', '%40')}@${version}`,
        ...(integrity.startsWith('sha512-') ? { hashes: [{ alg: 'SHA-512', content }] } : {}),
        ...(license ? { licenses: [{ license: { name: license } }] } : {}),
      };
    }),
    dependencies: [{ ref: 'bridge', dependsOn: [] }],
  };
}
