/**
 * The log, on standard error: a line each, as text or as JSON. A line may end in ` name=value` fields, which are separate
 * members in JSON.
 */
export type Level = 'info' | 'error';
export type Log = (line: string, level?: Level) => void;
export type LogFormat = 'text' | 'json';

const FIELDS = /( [a-z_]+=\S+)+$/;

/** @param write takes a line with its end */
export function logger(format: LogFormat, write: (line: string) => void): Log {
  return (line, level = 'info') => {
    const time = new Date().toISOString();
    if (format === 'text') return write(`${time} ${line}\n`);
    const words = FIELDS.exec(line)?.[0] ?? '';
    const message = line.slice(0, line.length - words.length);
    const fields = words.split(' ').slice(1).map(fieldOf);
    write(`${JSON.stringify({ time, level, message, ...Object.fromEntries(fields) })}\n`);
  };
}

function fieldOf(word: string): [name: string, value: string | number] {
  const mark = word.indexOf('=');
  const value = word.slice(mark + 1);
  return [word.slice(0, mark), /^(0|[1-9][0-9]{0,14})$/.test(value) ? Number(value) : value];
}
