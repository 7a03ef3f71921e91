/** A bridge that can't start as it is set up: one line for its operator, who can fix it. */
export class StartupError extends Error {
  /** @param status of the process: 2 for a wrong setting or file, 1 for what only the machine refuses */
  constructor(
    message: string,
    readonly status: 1 | 2 = 2,
  ) {
    super(message);
  }
}

/** The short name of what the system refused, such as EACCES. */
export const errnoName = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';
