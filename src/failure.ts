/**
 * Failures a user sees: one line that says what is wrong and what to do, and the exit code it
 * ends with. The table is for good: scripts depend on it.
 */

/** Exit code by kind of failure; 0 is done. */
export const EXIT_CODES = {
  failed: 1,
  authentication: 3,
  network: 4,
  "not-mounted": 5,
  busy: 6,
  fatal: 128,
  usage: 129,
} as const;

export type FailureKind = keyof typeof EXIT_CODES;

/** An expected failure. `message` is one line for the user, starts with "Cannot" and has no secret. */
export class Failure extends Error {
  override readonly name = "Failure";

  constructor(readonly kind: FailureKind, message: string, options?: ErrorOptions) {
    super(message.replaceAll(/\s*\n\s*/g, " "), options);
  }
}

/** A broken invariant: stop rather than risk data. */
export class Bug extends Error {
  override readonly name = "Bug";
}

/** The one-line text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
