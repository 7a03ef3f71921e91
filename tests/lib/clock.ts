/** A clock that a test moves. */
export class FakeClock {
  ms: number;

  /** It starts at the real time, because bridges have the real one. */
  constructor(ms = Date.now()) {
    this.ms = ms;
  }

  readonly now = (): number => this.ms;

  advance(ms: number): void {
    this.ms += ms;
  }
}
