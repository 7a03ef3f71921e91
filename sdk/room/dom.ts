/** The only way in which the room makes elements: a peer's words can become text, and nothing else. */

type Attributes = Readonly<Record<string, string | boolean | undefined>>;
type Part = Node | string | false | undefined | Attributes;
type Tag<Selector> = Selector extends `${infer Name}.${string}` ? Name : Selector;
type Made<Selector> = Tag<Selector> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag<Selector>] : never;

/** An element of `tag.class.class`, with attributes and children. An attribute that is true is empty, false is none. */
export function element<Selector extends string>(selector: Selector, ...parts: readonly Part[]): Made<Selector> {
  const [name = '', ...classes] = selector.split('.');
  const made = document.createElement(name);
  if (classes.length > 0) made.className = classes.join(' ');
  for (const part of parts) {
    if (part === false || part === undefined) continue;
    if (typeof part === 'string' || part instanceof Node) made.append(part);
    else setAttributes(made, part);
  }
  return made as Made<Selector>;
}

function setAttributes(target: Element, attributes: Attributes): void {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined) target.setAttribute(key, value === true ? '' : value);
  }
}

/** A button that submits no form. */
export function button(words: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const made = element('button', { type: 'button', ...attributes }, words);
  listen(made, 'click', act);
  return made;
}

/** An element of room.html. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new TypeError(`no #${id}`);
  return found as T;
}

type Events = GlobalEventHandlersEventMap & WindowEventMap & DocumentEventMap;
export function listen<Type extends keyof Events>(
  target: EventTarget,
  type: Type,
  act: (event: Events[Type]) => void,
): void {
  target.addEventListener(type, act as (event: Event) => void);
}

/** The words that are not empty, with a separator between them. */
export const joinNonEmpty = (separator: string, ...words: readonly (string | false | undefined)[]): string =>
  words.filter(Boolean).join(separator);
