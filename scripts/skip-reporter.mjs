/** A reporter for node's test runner that writes one line for each skipped test: `name: reason`. */
export default async function* skips(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (data.skip === undefined || data.skip === false) continue;
    yield `${data.name}: ${typeof data.skip === 'string' && data.skip !== '' ? data.skip : 'no reason given'}\n`;
  }
}
