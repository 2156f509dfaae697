/**
 * One actor: a process that makes operations in a directory, and says what each gave before it
 * makes the next. Its standard input and output are lines of JSON (see actor.ts).
 *
 *     deno run -A actor_main.ts
 */

import { chdir, umask } from "../support/raw_change.ts";
import type { Order, Word } from "./actor.ts";
import { Hands } from "./perform.ts";
import { lookAtTree } from "./tree.ts";

/** What calls fail with when the daemon has died under them. */
const DEAD = ["ENOTCONN", "ECONNABORTED", "EIO"];

const encoder = new TextEncoder();
const hands = new Hands();
umask(0o022);

function say(word: Word): void {
  const bytes = encoder.encode(JSON.stringify(word) + "\n");
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

function obey(order: Order): void {
  switch (order.kind) {
    case "enter":
      chdir(order.directory);
      return;
    case "leave":
      hands.reset();
      chdir("/");
      return;
    case "perform":
      for (const op of order.ops) {
        const outcome = hands.perform(op);
        if ("errno" in outcome && DEAD.includes(outcome.errno)) {
          return say({ kind: "cut", errno: outcome.errno });
        }
        say({ kind: "outcome", outcome });
      }
      return;
    case "pin":
      return say({ kind: "pinned", op: hands.pinned(order.op) });
    case "look":
      return say({ kind: "tree", tree: lookAtTree(order) });
  }
}

let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) {
    try {
      obey(JSON.parse(line) as Order);
      say({ kind: "done" });
    } catch (error) {
      say({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
    }
  }
}
