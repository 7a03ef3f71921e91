/** Who is in the room, beside the transcript and as whom one can write to. */
import { at, join, make } from './dom.ts';
import { isThere } from './peers.ts';
import type { Peer } from './peers.ts';
import type { Room } from './room.ts';
import { colourOf } from './show.ts';
import { clock } from './text.ts';

export function people({ me, others }: Room): void {
  const items = [
    item('c0 mine', 'human', me.name, me.isWatching ? 'you, watching' : 'you'),
    ...others.map(({ name, kind, state, isPaired, isListening, seenAt }) => {
      const isGone = state === 'gone';
      return item(
        join(' ', colourOf(name), isGone ? 'gone' : isListening && 'listening'),
        kind,
        name,
        join(
          ', ',
          kind === 'human' ? 'person' : 'agent',
          presence(state, isListening, seenAt),
          !isPaired && !isGone && 'not paired yet',
        ),
      );
    }),
  ];
  const list = at('people');
  const isSame = items.length === list.children.length && list.textContent === items.map(textOf).join('');
  if (!isSame) list.replaceChildren(...items);
  else items.forEach(({ className }, i) => list.children[i]?.setAttribute('class', className));
  recipients(others.filter(isThere).map(({ name }) => name));
}

const textOf = ({ textContent }: Node) => textContent;

const item = (classes: string, kind: string, name: string, how: string) =>
  make('li', { class: classes }, make(`span.node.${kind}`), make('b.who', name), make('span.how', how));

function presence(state: Peer['state'], isListening: boolean, seenAt: number): string {
  if (state === 'gone') return 'left';
  if (state === 'lost') return 'not back yet';
  if (isListening) return 'listening';
  if (state === 'here' && (seenAt === 0 || Date.now() - seenAt < 60_000)) return 'here';
  return `${state === 'away' ? 'away' : 'not listening'} since ${clock(seenAt)}`;
}

function recipients(names: readonly string[]): void {
  const to = at<HTMLSelectElement>('to');
  const options = [...to.options].slice(1).map(({ value }) => value);
  if (options.join() === names.join()) return;
  const chosen = to.value;
  to.replaceChildren(
    make('option', { value: '' }, 'everybody'),
    ...names.map((name) => make('option', { value: name }, `${name} alone`)),
  );
  address(names.includes(chosen) ? chosen : '');
}

/** Whom one writes to from now on. */
export function address(name: string): void {
  const to = at<HTMLSelectElement>('to');
  to.value = name;
  to.dispatchEvent(new Event('change'));
}
