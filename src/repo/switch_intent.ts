/**
 * What a switch to another commit is about to do, on the disk before it does it; and what is done
 * about it after a kill.
 *
 * A switch takes these steps (src/daemon/switches.ts):
 *  1. `locking` is written; then the user's index is locked, with the nonce in the lock.
 *  2. The index that it leads to, then `switching` are written.
 *  3. The mount shows the other tree: one transaction of the overlay, on the disk.
 *  4. The index goes into the lock, HEAD moves, the lock becomes the index.
 *  5. The registry says what the base is; the intent goes.
 *
 * After a kill the overlay says whether 3 has happened. If not, the lock goes and nothing was done.
 * If it has, 4 and 5 are done (again), with an index in which git looks at every path that differs.
 * Should somebody have gone on meanwhile, with HEAD elsewhere or another index, that is left as it
 * is: the work tree is as the other commit has it, and nothing of it is lost.
 */

import * as v from "valibot";
import { logger } from "../log.ts";
import { messageOf } from "../failure.ts";
import {
  readIfExists,
  readTextIfExists,
  removeIfExists,
  writeFileAtomically,
} from "../git/files.ts";
import { isOid, type Oid } from "../git/oid.ts";
import { readHead, type UserGitDir } from "../git/user_git_dir.ts";
import { installIndex, lockIndexAgain, moveHead, unlockIndex } from "../git/user_index.ts";
import { OverlayReader } from "../overlay/store.ts";
import type { HostPath } from "../path.ts";
import { ROOT_INO } from "../vfs/ino.ts";
import type { Layout } from "./layout.ts";
import { userGitDirOf } from "./owner.ts";
import type { Registry } from "./registry.ts";
import type { RepoRecord } from "./types.ts";

const oid = v.pipe(v.string(), v.check(isOid), v.transform((text) => text as Oid));
const nullableText = v.nullable(v.string());

const Intent = v.variant("phase", [
  v.object({ phase: v.literal("locking"), nonce: v.string() }),
  v.object({
    phase: v.literal("switching"),
    nonce: v.string(),
    fromCommitOid: oid,
    /** Full ref HEAD was on; null: detached. */
    fromRef: nullableText,
    toTreeOid: oid,
    /** The last bytes of the index before, in hex. */
    indexHash: v.string(),
    move: v.object({
      ref: nullableText,
      commitOid: oid,
      message: v.string(),
      committer: nullableText,
      follows: nullableText,
    }),
  }),
]);
export type SwitchIntent = v.InferOutput<typeof Intent>;
type Switching = SwitchIntent & { readonly phase: "switching" };

/** With the index it leads to, which is on the disk first. */
export async function writeIntent(
  { switchIntentPath, switchIndexPath }: IntentPaths,
  intent: SwitchIntent,
  index: Uint8Array | null = null,
): Promise<void> {
  if (index !== null) await writeFileAtomically(switchIndexPath, index, 0o600);
  await writeFileAtomically(switchIntentPath, JSON.stringify(intent), 0o600);
}

export async function removeIntent(
  { switchIntentPath, switchIndexPath }: IntentPaths,
): Promise<void> {
  await removeIfExists(switchIntentPath);
  await removeIfExists(switchIndexPath);
}

export interface IntentPaths {
  readonly switchIntentPath: HostPath;
  readonly switchIndexPath: HostPath;
}

/** By which an index is known from another; its bytes end with it. */
export function indexHashOf(bytes: Uint8Array): string {
  return bytes.subarray(-20).toHex();
}

/**
 * Finishes or undoes what a kill has left, of a repository that is not mounted. Returns what is
 * registered then. Never throws: what cannot be done is logged, and the mount shows what it would.
 */
export async function recoverSwitch(
  record: RepoRecord,
  layout: Layout,
  registry: Registry,
): Promise<RepoRecord> {
  const paths = layout.repo(record.id);
  const text = await readTextIfExists(paths.switchIntentPath);
  if (text === null) return record;
  const log = logger("switch");
  try {
    const intent = v.parse(Intent, JSON.parse(text));
    const dir = userGitDirOf(record, layout);
    if (intent.phase === "switching" && shownTree(record, layout) === intent.toTreeOid) {
      const done = await goOn(dir, paths, intent);
      if (done) {
        const { commitOid } = intent.move;
        const generation = record.generation + 1;
        const base = { baseCommitOid: commitOid, baseTreeOid: intent.toTreeOid, generation };
        registry.update(record.id, base);
      }
      log.info("Finished a switch after a crash", { repo: record.name, done });
    } else await unlockIndex(dir, intent.nonce);
  } catch (error) {
    const { name: repo } = record;
    log.warning("Could not finish a switch after a crash", { repo, error: messageOf(error) });
  }
  await removeIntent(paths);
  return registry.byId(record.id) ?? record;
}

/** Whether it was done: false when somebody went on meanwhile. */
async function goOn(
  dir: UserGitDir,
  { switchIndexPath }: IntentPaths,
  { fromCommitOid, fromRef, indexHash, move }: Switching,
): Promise<boolean> {
  const index = await readIfExists(switchIndexPath);
  const head = await readHead(dir);
  const isBefore = head.commitOid === fromCommitOid && head.ref === fromRef;
  const isAfter = head.commitOid === move.commitOid && head.ref === move.ref;
  if (index === null || (!isBefore && !isAfter)) return false;
  if (!await lockIndexAgain(dir, index, indexHash)) return false;
  if (!isAfter) await moveHead(dir, move);
  await installIndex(dir);
  return true;
}

/** What the overlay says is beneath the work tree. */
function shownTree(record: RepoRecord, layout: Layout): Oid {
  const rows = OverlayReader.open(layout.repo(record.id).overlayPath);
  try {
    return rows?.inode(ROOT_INO)?.oid ?? record.baseTreeOid;
  } finally {
    rows?.close();
  }
}
