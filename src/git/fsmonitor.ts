/**
 * FSMN of an index (fsmonitor.c): the token to ask the file monitor with, and the entries that are
 * not known to be as the index has them. Git stats none of the others unless the monitor names it.
 *
 *     u32 2 | token NUL | u32 size of | bitmap of the entries that are not valid
 */

import { type Bits, readEwah, writeEwah } from "./ewah.ts";
import { ByteReader, ByteWriter, IndexError } from "./index_bytes.ts";
import type { Index, IndexExtension } from "./index_file.ts";

export interface Fsmonitor {
  /** A byte string without NUL. */
  readonly token: string;
  /** 1: git has to look at the entry of this rank, as always at a gitlink (tweak_fsmonitor). */
  readonly dirty: Bits;
}

/**
 * What a hook of version 2 in `core.fsmonitor` runs: `$1` is the version, `$2` the token, and git
 * adds `"$@"` at the end (run-command.c, prepare_shell_cmd), which `false` ignores. Git runs it in
 * the root of the work tree, a linked one's in that. `folder` is in there and has no quotes.
 */
export function fsmonitorHook(folder: string): string {
  return `[ "$1" = 2 ] && exec cat "${folder}/fsmonitor/t-$2" 2>/dev/null; false`;
}

export function fsmonitorExtension({ token, dirty }: Fsmonitor): IndexExtension {
  const bitmap = new ByteWriter();
  writeEwah(bitmap, dirty);
  const out = new ByteWriter();
  out.u32(2);
  out.text(token);
  out.u32(bitmap.end().length);
  out.put(bitmap.end());
  return { name: "FSMN", data: out.end() };
}

/** Null: the index has none. Throws IndexError. */
export function readFsmonitor({ entries, extensions }: Index): Fsmonitor | null {
  const extension = extensions.find(({ name }) => name === "FSMN");
  if (extension === undefined) return null;
  const reader = new ByteReader(extension.data);
  const version = reader.u32();
  if (version !== 1 && version !== 2) throw new IndexError(`FSMN of version ${version}`);
  const token = version === 1 ? String(reader.u64()) : reader.text();
  const bitmap = new ByteReader(reader.take(reader.u32()));
  return { token, dirty: readEwah(bitmap, entries.length) };
}
