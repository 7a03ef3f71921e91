/** What a program asks on its screen, and how a person who wants to go on answers: with yes, and for ever where offered. */

export interface Question {
  /** What the screen says about it, and what of that tells it from others: what stands above may still move. */
  readonly text: string;
  readonly id: string;
  /** The option that keeps a yes, if there is one. */
  readonly offer: string | undefined;
  readonly answer: string;
  readonly keys: readonly string[];
  /** False for what a program asks at its first start, whatever it is used for. */
  readonly isCounted: boolean;
}

const FOR_EVER = /don['’]t ask again|for this session|rest of the running session|always/i;
const AT_THE_START = /Use existing model|Skip until next version/;

/** A screen's line without the frame that programs draw around it. */
const unframed = (line: string) => line.replace(/[│┃╭╮╰╯─╌━|]/g, ' ').trim();

/** @returns the question that the screen shows, if it shows one. @param isForEver whether yes is said for ever */
export function questionOn(screen: string, isForEver: boolean): Question | undefined {
  const lines = screen.split('\n').map(unframed).filter(Boolean);
  return numberedOptions(lines, isForEver) ?? buttons(lines);
}

/** Options below each other, a mark before one of them. */
function numberedOptions(lines: readonly string[], isForEver: boolean): Question | undefined {
  const marked = lines.findLastIndex((line) => /^[❯›●>] ?\d\. /.test(line));
  if (marked < 0) return undefined;
  const isOption = (line: string | undefined) => line !== undefined && /^([❯›●>] ?)?\d\. /.test(line);
  const first = Number(/\d/.exec(lines[marked]!)![0]);
  const from = marked - first + 1;
  const options: string[] = [];
  for (let n = from; n < lines.length && n - from < 9; n++) {
    if (isOption(lines[n])) options.push(lines[n]!.replace(/^[❯›●>] ?/, ''));
    else if (/^(esc|enter|↑|tab|press)\b/i.test(lines[n]!)) break;
    else if (options.length > 0) options[options.length - 1] += ` ${lines[n]}`; // a long one goes on
  }
  if (options.length < 2) return undefined;
  const atTheStart = options.find((option) => AT_THE_START.test(option));
  const forEver = options.find((option) => FOR_EVER.test(option) && !/^\d\. No/.test(option));
  const answer = atTheStart ?? (isForEver ? forEver : undefined) ?? options[0]!;
  const steps = Number(answer[0]) - first;
  const keys = [...Array<string>(Math.abs(steps)).fill(steps > 0 ? 'Down' : 'Up'), 'Enter'];
  const text = [...lines.slice(Math.max(0, from - 12), from), ...options].join('\n');
  const id = [...lines.slice(Math.max(0, from - 3), from), ...options.slice(0, -1)].join('\n');
  return { text, id, offer: forEver, answer, keys, isCounted: atTheStart === undefined };
}

/** Options beside each other, as opencode has them: once, always, reject; and its second question about always. */
function buttons(lines: readonly string[]): Question | undefined {
  const at = lines.findLastIndex((line) => /Allow once +Allow always +Reject/.test(line));
  if (at >= 0) {
    const text = lines.slice(Math.max(0, at - 8), at).join('\n');
    return { text, id: text, offer: 'Allow always', answer: 'Allow always', keys: ['Right', 'Enter'], isCounted: true };
  }
  const sure = lines.findLastIndex((line) => /^Confirm +Cancel/.test(line));
  if (sure < 0) return undefined;
  const text = lines.slice(Math.max(0, sure - 8), sure).join('\n');
  return { text, id: text, offer: undefined, answer: 'Confirm', keys: ['Enter'], isCounted: false };
}
