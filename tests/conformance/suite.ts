/** What a suite of another project is to the comparison: named cases, run in one directory. */

export type Outcome = "passed" | "failed" | "skipped";

export interface Case {
  /** The same in each place. */
  readonly name: string;
  readonly outcome: Outcome;
  /** Why, for what did not pass; one line. */
  readonly detail: string;
}

export type PlaceName = "local" | "mount" | "mount --xattr";

/** A directory to run in. All of them hold a checkout of the same commit. */
export interface Place {
  readonly name: PlaceName;
  /** Only children touch what is below it: a call that hangs there could not be ended. */
  readonly path: string;
  /** A directory on local disk, for what a suite needs beside the place. */
  readonly scratch: string;
}

export interface Suite {
  readonly name: string;
  /** The program's own words about its version. */
  version(): Promise<string>;
  /** The cases that make sense in this place; none: []. Throws when the suite itself breaks. */
  run(place: Place, scale: Scale): Promise<Case[]>;
}

/** How much is run: 1, or 10 for a tenth of the operations. */
export interface Scale {
  readonly divisor: number;
}

/** Far longer than any one command of a suite should take. */
export const GUARD_MS = 20 * 60_000;

/** The last lines of an output as one. */
export function tailOf(text: string, lines = 3): string {
  return text.trim().split("\n").slice(-lines).map((line) => line.trim()).join(" / ").slice(0, 400);
}
