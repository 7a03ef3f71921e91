/** The tables of docs/agents.md about the real programs, from what a run of tests/agents has found. */

const TITLES = {
  codex: 'Codex',
  claude: 'Claude Code',
  gemini: 'Gemini CLI',
  opencode: 'opencode',
  copilot: 'Copilot CLI',
  pi: 'pi',
};

const row = (/** @type {readonly string[]} */ cells) => `| ${cells.join(' | ')} |`;

/** @param {readonly (readonly string[])[]} rows the first one is the head */
function markdown(rows) {
  const [head = [], ...others] = rows;
  return [row(head), row(head.map(() => '---')), ...others.map(row)].join('\n');
}

/** @param {string} text one JSON object a line, as tests/agents/results.ts writes them */
export function table(text) {
  const results = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const tasks = results
    .filter((result) => result.row === 'task')
    .map(({ program, version, mode, ran, asked, cut }) => [TITLES[program], version, mode, ran, String(asked), cut]);
  const pairs = results
    .filter((result) => result.row.startsWith('pair with '))
    .map(({ program, row: of, ran }) => [TITLES[program], TITLES[of.slice('pair with '.length)], ran]);
  const names = Object.keys(TITLES);
  const facts = [...new Set(results.filter(({ measured }) => measured !== undefined).map((result) => result.row))];
  const cell = (/** @type {string} */ fact, /** @type {string} */ name) =>
    results.find((result) => result.row === fact && result.program === name)?.measured ?? 'not run';
  return [
    markdown([['program', 'version', 'mode', 'what ran', 'questions to the tenth message', 'what was cut'], ...tasks]),
    markdown([['opens', 'joins', 'what ran'], ...pairs]),
    markdown([
      ['', ...Object.values(TITLES)],
      ...facts.map((fact) => [fact, ...names.map((name) => cell(fact, name))]),
    ]),
  ].join('\n\n');
}
