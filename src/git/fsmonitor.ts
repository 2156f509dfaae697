/**
 * FSMN of an index (fsmonitor.c): the token to ask the file monitor with, and the entries that are
 * not known to be as the index has them. Git stats none of the others unless the monitor names it.
 *
 *     u32 2 | token NUL | u32 size of | bitmap of the entries that are not valid
 */

import { ASKER_AT, MONITOR_DIR, TOKEN_PREFIX } from "../monitor_names.ts";
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
 * Before 2.43 git looks at memory that nobody has set when it compares a commit with files that the
 * monitor has not named (diff-lib.c, check_removed): one time in sixteen `git diff HEAD` shows all
 * of them as deleted. What goes that way there gets no answer, and looks at every file: right, and
 * not lazy. Nor does `update-index --refresh`: `diff-index` believes the stat data that it leaves.
 *
 * The caller's words are read without their NULs first, since that needs no process. Then one by
 * one: `a` is before a word that is no command, `b` before the command, `d` behind `diff`.
 */
const REFUSE_OLD_GIT = "read -r c </proc/$PPID/cmdline; " +
  "case $c in *diff*|*update-index*refresh*) case $(git version) in " +
  '"git version 2."[0-9].*|"git version 2."[123][0-9].*|"git version 2.4"[012].*) ' +
  "set -f; s=a; for w in $(tr '\\0 \\t\\n' ' ___' </proc/$PPID/cmdline); do case $s$w in " +
  "a*) s=b;; b-[cC]) s=a;; b-*);; bdiff-index|bupdate-index) exit 1;; bdiff) s=d;; " +
  "d--|d--cached|d--staged) break;; d-*);; d*) exit 1;; *) break;; " +
  "esac; done;; esac;; esac";

/**
 * What a hook of version 2 in `core.fsmonitor` runs: `$1` is the version, `$2` the token, and git
 * adds `"$@"` at the end (run-command.c, prepare_shell_cmd), which `false` ignores. Git runs it in
 * the root of the work tree, a linked one's in that. `folder` is in there and has no quotes.
 *
 * The process id makes the name one that nobody else asks for: two who look up the same name at the
 * same time get one answer (fs/dcache.c, d_alloc_parallel), which may be older than the question of
 * the second, and would leave out what that one has just changed.
 */
export function fsmonitorHook(folder: string): string {
  const answer = `${MONITOR_DIR}/${TOKEN_PREFIX}$2${ASKER_AT}$$`;
  const ask = `[ "$1" = 2 ] && exec cat "${folder}/${answer}"; false`;
  return `exec 2>/dev/null; ${REFUSE_OLD_GIT}; ${ask}`;
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
