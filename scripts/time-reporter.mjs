/** A reporter for node's test runner that writes one line for each test that is in no other: `milliseconds path of its file`. */
export default async function* times(events) {
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined) continue;
    yield `${Math.round(data.details.duration_ms)} ${data.file}\n`;
  }
}
