/** The only way in which the room makes elements: a peer's words can become text, and nothing else. */

type Attributes = Readonly<Record<string, string | boolean | undefined>>;
type Part = Node | string | false | undefined | Attributes;
type Tag<Selector> = Selector extends `${infer Name}.${string}` ? Name : Selector;
type Made<Selector> = Tag<Selector> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag<Selector>] : never;

/** Of `tag.class.class`, with attributes and children. An attribute that is true is an empty one, false is none. */
export function make<Selector extends string>(selector: Selector, ...parts: readonly Part[]): Made<Selector> {
  const [name = '', ...classes] = selector.split('.');
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const part of parts) {
    if (part === false || part === undefined) continue;
    if (typeof part === 'string' || part instanceof Node) element.append(part);
    else
      for (const [key, value] of Object.entries(part))
        if (value !== false && value !== undefined) element.setAttribute(key, value === true ? '' : value);
  }
  return element as Made<Selector>;
}

/** Outside of any form. */
export function button(words: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const element = make('button', attributes, words);
  on(element, 'click', act);
  return element;
}

/** An element of room.html. */
export function at<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new TypeError(`no #${id}`);
  return element as T;
}

type Events = GlobalEventHandlersEventMap & WindowEventMap & DocumentEventMap;
export function on<Type extends keyof Events>(
  target: EventTarget,
  type: Type,
  act: (event: Events[Type]) => void,
): void {
  target.addEventListener(type, act as (event: Event) => void);
}

/** Those that are. */
export const join = (between: string, ...words: readonly (string | false | undefined)[]): string =>
  words.filter(Boolean).join(between);
