/** A bridge can't start with this configuration: one line for the operator, who can fix it. */
export class StartupError extends Error {
  /** @param status of the process: 2 for a wrong setting or file, 1 for an error of the system */
  constructor(
    message: string,
    readonly status: 1 | 2 = 2,
  ) {
    super(message);
  }
}

/** The name of a system error, such as EACCES. */
export const errnoName = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';
