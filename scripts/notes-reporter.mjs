/**
 * A reporter for node's test runner that writes a line of JSON for what the run ends with: `{skipped, reason}` for each
 * skipped test, `{file, ms}` for each test that is in no other.
 */
export default async function* notes(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const { name, skip, file, nesting, details } = data;
    if (skip !== undefined && skip !== false) {
      yield `${JSON.stringify({ skipped: name, reason: typeof skip === 'string' && skip !== '' ? skip : 'no reason given' })}\n`;
    }
    if (nesting === 0 && file !== undefined) yield `${JSON.stringify({ file, ms: details.duration_ms })}\n`;
  }
}
