/**
 * What a switch to another commit is about to do, on the disk before it does it; and what is done
 * about it after a kill.
 *
 * A switch takes these steps (src/daemon/switches.ts):
 *  1. `locking` is written; then the user's index is locked, with the nonce in the lock.
 *  2. `switching` is written.
 *  3. The mount shows the other tree: one transaction of the overlay, on the disk.
 *  4. The index goes into the lock, HEAD moves, the lock becomes the index. Each waits for
 *     the one before here, not in one script: a script goes on when this process is killed, and
 *     would install what it has read by then of its input.
 *  5. The registry says what the base is; the intent goes.
 *
 * After a kill the overlay says whether 3 has happened. If not, the lock goes and nothing was done.
 * If it has, 4 and 5 are done, with an index that is made again, and in which git looks at every
 * path that differs. Should somebody have gone on meanwhile, with HEAD elsewhere or another index,
 * that is left as it is: the work tree is as the other commit has it, and nothing of it is lost.
 */

import { createHash } from "node:crypto";
import * as v from "valibot";
import { logger } from "../log.ts";
import { messageOf } from "../failure.ts";
import { type BaseId, isBaseId } from "../git/base_id.ts";
import { readTextIfExists, removeIfExists, writeFileAtomically } from "../git/files.ts";
import { parseIndex } from "../git/index_file.ts";
import { mergedIndex, mergeIndex } from "../git/index_merge.ts";
import { isOid, type Oid } from "../git/oid.ts";
import { treeChanges } from "../git/tree_changes.ts";
import type { TreeReaderOptions } from "../git/tree_reader.ts";
import { readHead } from "../git/user_git_dir.ts";
import {
  installIndex,
  moveHead,
  readIndex,
  unlockIndex,
  writeLockedIndex,
} from "../git/user_index.ts";
import { OverlayReader } from "../overlay/store.ts";
import { ROOT_INO } from "../vfs/ino.ts";
import type { Layout, RepoLayout } from "./layout.ts";
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
    fromTreeOid: oid,
    toTreeOid: oid,
    toTreeId: v.pipe(v.string(), v.check(isBaseId), v.transform((text) => text as BaseId)),
    conversion: v.picklist(["none", "some"]),
    /** Of the index before. */
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

export async function writeIntent(
  { switchIntentPath }: Pick<RepoLayout, "switchIntentPath">,
  intent: SwitchIntent,
): Promise<void> {
  await writeFileAtomically(switchIntentPath, JSON.stringify(intent), 0o600);
}

export async function removeIntent(
  { switchIntentPath }: Pick<RepoLayout, "switchIntentPath">,
): Promise<void> {
  await removeIfExists(switchIntentPath);
}

/** By which an index is known from another. (What it ends with may be zeros: index.skipHash.) */
export function indexHashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
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
    if (intent.phase === "switching" && shownTree(record, layout) === intent.toTreeId) {
      const { objectFormat, storeId } = record;
      const { viewDir } = paths;
      const { gitDir: storeGitDir } = layout.store(storeId);
      const done = await goOn({ dir, viewDir, storeGitDir, objectFormat }, intent);
      if (done) {
        const { commitOid } = intent.move;
        const { toTreeOid: treeOid, toTreeId: treeId, conversion } = intent;
        registry.moveBase(record, { commitOid, treeOid, treeId, conversion });
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

/** Whether HEAD is at the other commit: false when somebody went on meanwhile. */
async function goOn(source: TreeReaderOptions, intent: Switching): Promise<boolean> {
  const { dir } = source;
  const { fromCommitOid, fromRef, fromTreeOid, toTreeOid, move } = intent;
  const head = await readHead(dir);
  const isBefore = head.commitOid === fromCommitOid && head.ref === fromRef;
  const isAfter = head.commitOid === move.commitOid && head.ref === move.ref;
  const bytes = await readIndex(dir);
  const isSame = bytes !== null && indexHashOf(bytes) === intent.indexHash;
  if (!isSame || (!isBefore && !isAfter)) {
    await unlockIndex(dir, intent.nonce);
    return isAfter;
  }
  const changes = await treeChanges(source, fromTreeOid, toTreeOid);
  const index = parseIndex(bytes, source.objectFormat);
  const merge = mergeIndex(index, changes);
  if (merge.kind === "refused") throw new Error(merge.reason);
  const after = mergedIndex(index, merge.merged, changes, null);
  await writeLockedIndex(dir, after, Math.floor(Date.now() / 1000));
  if (!isAfter) await moveHead(dir, move);
  await installIndex(dir);
  return true;
}

/** What the overlay says is beneath the work tree. */
function shownTree(record: RepoRecord, layout: Layout): BaseId {
  const rows = OverlayReader.open(layout.repo(record.id).overlayPath);
  try {
    return rows?.inode(ROOT_INO)?.oid ?? record.baseTreeId;
  } finally {
    rows?.close();
  }
}
