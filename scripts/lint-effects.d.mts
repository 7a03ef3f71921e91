/** For the tests, which are TypeScript. What these are is said in lint-effects.mjs. */
export const PART_2: string;
export const MAX_EFFECTS: number;
export const lintEffects: (script: string) => string[] | undefined;
