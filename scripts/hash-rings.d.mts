/** For the tests, which are TypeScript. What these are is said in rings.mjs. */
export type Ring = { owner(channel: string, down?: ReadonlySet<number>): number };
export type Method = (bridges: readonly string[]) => Ring;
export const ketama: Method;
export const haproxy: (weight: number) => Method;
export const rendezvous: Method;
