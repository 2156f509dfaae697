/**
 * Where git's file monitor is asked: `<synthetic directory>/fsmonitor/t-<token>` at the root, which
 * no listing shows. Looking up a name makes its answer, which never changes and which only that
 * lookup sees: git asks with the same token until it writes its index, and a page that the kernel
 * has kept would be a change that is not seen. While the answer has to wait, it is a file of a size
 * that nobody knows yet: who opens it waits in GETATTR, and holds no lock of a directory.
 */

import type { Entry } from "../fuse/filesystem.ts";
import { ASKER_AT, MONITOR_DIR, TOKEN_PREFIX } from "../monitor_names.ts";
import type { Name } from "../path.ts";
import { NO_OID, type Node } from "./node_table.ts";
import type { View } from "./view.ts";

/** What a name of the file monitor shows; null: it is none of its names. Throws Parked. */
export function lookupMonitor(view: View, parent: Node, name: Name): Entry | null {
  const { nodes, options } = view;
  if (parent === nodes.root) {
    return name === options.syntheticDirName ? directory(view, parent, name) : null;
  }
  if (parent.kind !== "monitor") return null;
  if (parent.parent === nodes.root) {
    return name === MONITOR_DIR ? directory(view, parent, name) : view.negative();
  }
  return name.startsWith(TOKEN_PREFIX) ? answer(view, parent, name) : view.negative();
}

function directory(view: View, parent: Node, name: Name): Entry {
  return view.entry(view.nodes.child(parent, name, "monitor", NO_OID));
}

function answer(view: View, parent: Node, name: Name): Entry {
  const [token = ""] = name.slice(TOKEN_PREFIX.length).split(ASKER_AT);
  const answer = view.monitor.ask(token);
  const node = view.nodes.passing(parent, name, "answer");
  view.answers.set(node, answer);
  return view.entry(node, undefined, 0);
}

/** What an answer holds. Throws Parked. */
export function answerBytes(view: View, node: Node): Uint8Array<ArrayBuffer> {
  const answer = view.answers.get(node);
  return answer === undefined ? new Uint8Array() : view.monitor.bytesOf(answer);
}
