/**
 * Verbs that go on until somebody ends them: `events`, `logs --follow`, `status --watch`. Ctrl-C is
 * how they end, not a failure: exit code 0, as of watch(1). So is a reader that has gone (`| head`).
 */

import { Failure } from "../failure.ts";
import { tryPrint } from "./output.ts";

/** From now on Ctrl-C and SIGTERM end this process with 0. */
export function endWhenAsked(): void {
  // Nothing is held: the daemon sees the connection end.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => Deno.exit(0));
  }
}

/** Data, on standard output; ends this process when nobody reads it. */
export function printOn(text: string): void {
  if (!tryPrint(text)) Deno.exit(0);
}

/** `what`: `watch`. */
export function noDaemon(what: string): Failure {
  return new Failure("not-mounted", `Cannot ${what}: no daemon runs`);
}
