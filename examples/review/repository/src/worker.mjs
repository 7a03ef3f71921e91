/** A worker takes jobs while it runs, tells at each heartbeat how it is, and remembers its latest results for that. */
export class Worker {
  #report;
  #heartbeatMs;
  #latest = [];
  #isRunning = false;

  constructor({ report, heartbeatMs = 1000 }) {
    this.#report = report;
    this.#heartbeatMs = heartbeatMs;
  }

  start() {
    this.#isRunning = true;
    const heartbeat = setInterval(() => this.#report({ results: this.#latest.length }), this.#heartbeatMs);
    heartbeat.unref();
  }

  handle(job) {
    if (!this.#isRunning) throw new Error('this worker is not running');
    const result = { job, finishedAt: Date.now() };
    this.#latest = [...this.#latest.slice(-199), result];
    return result;
  }

  stop() {
    this.#isRunning = false;
  }
}
