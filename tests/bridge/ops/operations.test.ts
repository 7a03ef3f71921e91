/** Alert rules, dashboard and the document about both: they name what a bridge really tells. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { startBridge } from '../../lib/bridge.ts';
import { Authority } from '../../lib/certificate.ts';
import { requirePrograms } from '../../lib/require-programs.ts';
import { ROOT } from '../../lib/root.ts';
import { makeFolder } from '../../lib/shell.ts';
import { Member, until } from './http-client.ts';

const RULES = join(ROOT, 'deploy', 'prometheus', 'agentalk.rules.yml');
const rules = readFileSync(RULES, 'utf8');
const dashboard = JSON.parse(readFileSync(join(ROOT, 'deploy', 'grafana', 'agentalk.json'), 'utf8')) as {
  readonly panels: readonly {
    readonly id: number;
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets?: readonly { readonly expr: string }[];
  }[];
};
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const documented = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8');

/** All that a bridge tells once everything has happened to it. */
let text = '';
let families: string[] = [];
before(async () => {
  const authority = new Authority(makeFolder());
  const { cert, key } = authority.issue();
  const bridge = await startBridge(['--tls-cert', cert, '--tls-key', key, '--metrics-listen', '127.0.0.1:0']);
  const operator = { url: /^metrics on (\S+)$/m.exec(bridge.logs())?.[1] ?? '' };
  await Member.enter({ url: bridge.url, ca: readFileSync(authority.cert) });
  connect(bridge.port, '127.0.0.1').end('hello\r\n\r\n');
  await until(operator, /_rejected_total\{reason="tls"\} 1$/m);
  text = await (await fetch(`${operator.url}/metrics`)).text();
  families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name);
  await bridge.stop();
});

/** Metrics that a query names, without the endings of a histogram's parts. */
const named = (query: string) =>
  [...query.matchAll(/\b(?:agentalk|process|nodejs)_[a-z_0-9]+\b/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );

test('each query of the dashboard and of the rules names metrics and labels that there are', () => {
  assert.ok(queries.length > 20);
  const labels = new Set([...text.matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  for (const query of [...queries, ...rules.split(/- alert: /).slice(1)]) {
    assert.ok(named(query).length > 0 || query.includes('up{'), query);
    for (const name of named(query)) assert.ok(families.includes(name), `${name}, in ${query}`);
    for (const [, label = ''] of query.matchAll(/[{,] *(\w+)(?==~?")/g)) {
      assert.ok(labels.has(label) || ['job', 'instance'].includes(label), `${label}, in ${query}`);
    }
    for (const [, path] of query.matchAll(/path="(\w+)"/g)) assert.ok(text.includes(`path="${path}"`), query);
    for (const [, code] of query.matchAll(/code="(\w+)"/g)) assert.ok(text.includes(`code="${code}"`), query);
  }
});

test('the document has each metric, and no other', () => {
  const names = [...documented.matchAll(/^- `((?:agentalk|process|nodejs)_\w+)`:/gm)].map(([, name]) => name);
  assert.deepEqual(names.sort(), [...families].sort());
});

test('the document has each reason for which a connection is rejected, and no other', () => {
  const rows = documented.slice(documented.indexOf('**Rejected connections**')).split('\n\n')[1] ?? '';
  const reasons = [...rows.matchAll(/^\| `(\w+)`/gm)].map(([, reason]) => reason);
  const exported = [...text.matchAll(/_rejected_total\{reason="(\w+)"\}/g)].map(([, reason]) => reason);
  assert.deepEqual(reasons.sort(), exported.sort());
});

test('the document has a section for each alert, and for no other', () => {
  const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const sections = [...documented.matchAll(/^### (Agentalk\w+)$/gm)].map(([, name]) => name);
  assert.deepEqual(sections.sort(), alerts.sort());
});

test('the panels of the dashboard have numbers and places of their own', () => {
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const one of dashboard.panels) {
    const a = one.gridPos;
    assert.ok(a.x + a.w <= 24, one.title);
    for (const other of dashboard.panels) {
      const b = other.gridPos;
      const isApart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      assert.ok(one === other || isApart, `${one.title} and ${other.title}`);
    }
  }
});

function promtool(...args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
}

test('promtool takes the rules, and their own tests pass', { skip: requirePrograms('promtool') }, () => {
  promtool('check', 'rules', RULES);
  promtool('test', 'rules', RULES.replace('.yml', '.test.yml'));
});

test('promtool takes each query of the dashboard', { skip: requirePrograms('promtool') }, () => {
  const filled = queries.map((query) =>
    query.replaceAll('$__rate_interval', '1m').replaceAll(/\$(job|instance)/g, 'x'),
  );
  const group = { name: 'dashboard', rules: filled.map((expr, i) => ({ record: `panel:${i}`, expr })) };
  const file = join(makeFolder(), 'dashboard.yml');
  writeFileSync(file, JSON.stringify({ groups: [group] })); // JSON is YAML
  promtool('check', 'rules', file);
});
