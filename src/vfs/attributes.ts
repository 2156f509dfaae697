/** chmod, chown, truncate, utimensat: SETATTR, whose parts come alone or together. */

import { ERRNO, FsError } from "../errno.ts";
import type { AttrChanges, Time } from "../fuse/filesystem.ts";
import { type Inode, S_IFMT } from "../overlay/inode.ts";
import { Change } from "./change.ts";
import type { Contents } from "./contents.ts";
import { afterChown, afterWrite } from "./modes.ts";
import type { Node } from "./node_table.ts";
import type { View } from "./view.ts";

const MODE_BITS = 0o7777;

/** Throws Parked, FsError. */
export function setAttributes(
  view: View,
  contents: Contents,
  node: Node,
  changes: AttrChanges,
): void {
  if (node.isSynthetic) throw new FsError(ERRNO.EPERM);
  // First: it may park. In a row of its own, since a backing file's size is not in the rows.
  if (changes.sizeBytes !== undefined) contents.resize(node, changes.sizeBytes);
  changeRow(view, node, changes);
  const { atime, mtime } = changes;
  if ((atime !== undefined || mtime !== undefined) && node.hasBackingFile) {
    view.monitor.beforeContent(node);
    contents.setTimes(node, atime ?? null, mtime ?? null);
  }
}

/** What SETATTR changes in the row, if anything. */
function changeRow(view: View, node: Node, changes: AttrChanges): void {
  const { mode, uid, gid, atime, mtime, killSuidGidFor } = changes;
  const chown = uid !== undefined || gid !== undefined;
  const times = (atime !== undefined || mtime !== undefined) && !node.hasBackingFile;
  if (mode === undefined && !chown && !times && killSuidGidFor === null) return;
  const change = new Change(view);
  noteAttributes(change, node);
  const row = change.row(node);
  let newMode = mode === undefined ? row.mode : (row.mode & S_IFMT) | (mode & MODE_BITS);
  if (!node.isDirectory) {
    if (chown) newMode = afterChown(newMode);
    else if (killSuidGidFor !== null) newMode = afterWrite(row, killSuidGidFor);
  }
  change.touch(node, {
    mode: newMode,
    uid: uid ?? row.uid,
    gid: gid ?? row.gid,
    ...(times ? timeFields(change.time, atime, mtime) : {}),
  });
  change.commit();
}

function noteAttributes({ notes }: Change, node: Node): void {
  if (node.isDirectory) notes.directoryAttributes(node);
  else notes.file(node);
}

function timeFields(
  now: Time,
  atime: Time | "now" | undefined,
  mtime: Time | "now" | undefined,
): Partial<Inode> {
  const a = atime === "now" ? now : atime;
  const m = mtime === "now" ? now : mtime;
  return {
    ...(a === undefined ? {} : { atimeSeconds: a.seconds, atimeNanoseconds: a.nanoseconds }),
    ...(m === undefined ? {} : { mtimeSeconds: m.seconds, mtimeNanoseconds: m.nanoseconds }),
  };
}
