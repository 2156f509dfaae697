/**
 * `afs switch`: the work tree, the index and HEAD go to another commit in time that follows from
 * what differs; no file is written and no blob is fetched.
 *
 *   state      event                                            next
 *   looking    anything that git might refuse, or do otherwise  handed over: nothing was changed
 *   looking    all is plain                                     locked (intent `locking` first)
 *   locked     the index has something of its own there         handed over, unlocked
 *   locked     the merged index is made                         switching (intent first)
 *   switching  the mount refuses: something shows there         handed over, unlocked
 *   switching  the mount shows the other tree                   shown
 *   shown      index, HEAD, registry                            done (intent gone)
 *   shown      HEAD cannot be moved                             back, if the mount can; a Failure
 *
 * "Handed over" means that stock `git switch` is to do it, or to refuse it in its own words. So to
 * be over-cautious here costs time, and to be lax would cost data.
 *
 * The steps, their order on the disk, and what a kill leaves: src/repo/switch_intent.ts.
 */

import { allToTheirEnds } from "../promises.ts";
import { Failure, messageOf } from "../failure.ts";
import type { BaseId } from "../git/base_id.ts";
import { type HeadTree, importObjects } from "../git/import.ts";
import { IndexError } from "../git/index_bytes.ts";
import { GITLINK_MODE, type Index, parseIndex } from "../git/index_file.ts";
import {
  indexTime,
  type MergedEntries,
  mergedIndex,
  mergeIndex,
  type Shown,
} from "../git/index_merge.ts";
import type { Oid } from "../git/oid.ts";
import { resolveTarget, type SwitchHead, type SwitchTarget } from "../git/switch_target.ts";
import { type TreeChanges, treeChanges } from "../git/tree_changes.ts";
import type { UserGitDir } from "../git/user_git_dir.ts";
import {
  type HeadMove,
  installIndex,
  lockIndex,
  moveHead,
  unlockIndex,
  writeLockedIndex,
} from "../git/user_index.ts";
import { logger } from "../log.ts";
import type { Switched } from "../mount/messages.ts";
import { byteString, byteStringOfText, parentOf, type RepoPath } from "../path.ts";
import { baseStat } from "../repo/base_stats.ts";
import { type Root, rootOfNext, settingsOf } from "../repo/conversion.ts";
import type { Layout, RepoLayout } from "../repo/layout.ts";
import { userGitDirOf } from "../repo/owner.ts";
import type { Registry } from "../repo/registry.ts";
import { indexHashOf, removeIntent, writeIntent } from "../repo/switch_intent.ts";
import type { RepoRecord } from "../repo/types.ts";
import { events } from "./events.ts";

/** What it needs of `Mounts`. */
export interface SwitchableMounts {
  loadTrees(repoId: string, treeOids: readonly Oid[], from: Oid, to: Oid): Promise<void>;
  switchTo(
    repoId: string,
    change: { readonly from: BaseId; readonly to: BaseId; readonly token: string },
  ): Promise<Switched>;
  baseMoved(repoId: string, head: HeadTree): void;
}

export interface SwitchParts {
  readonly layout: Layout;
  readonly registry: Registry;
  readonly mounts: SwitchableMounts;
  /** Resolves when the history has come: other branches and tags come with it. Throws Failure. */
  readonly historyIsHere: () => Promise<void>;
}

export interface SwitchRequest {
  readonly target: string;
  /** `git var GIT_COMMITTER_IDENT` of who asks, for the reflog; null: whom git takes. */
  readonly committer: string | null;
  /** Who asks is in this directory of the work tree, which must not go; null: elsewhere. */
  readonly cwd: string | null;
}

export type SwitchOutcome =
  | {
    readonly outcome: "switched";
    readonly head: SwitchHead;
    readonly target: SwitchTarget;
    /** Paths that differ. */
    readonly changed: number;
  }
  | { readonly outcome: "handed-over"; readonly reason: string };

/** Of a repository that is mounted and that no other verb is at. Throws Failure, GitError. */
export async function switchTo(
  record: RepoRecord,
  parts: SwitchParts,
  request: SwitchRequest,
): Promise<SwitchOutcome> {
  if (record.requiredCommitOid !== null) return handedOver("the base stays at a required commit");
  const dir = userGitDirOf(record, parts.layout);
  let resolved = await resolveTarget(dir, request.target);
  if (resolved.kind === "unclear" && record.history === "fetching") {
    await parts.historyIsHere();
    resolved = await resolveTarget(dir, request.target);
  }
  if (resolved.kind === "unclear") return handedOver(resolved.reason);
  const { head, target } = resolved;
  if (head.treeOid !== record.baseTreeOid) return handedOver("the base has not followed HEAD");
  if (head.treeOid === target.treeOid) return handedOver("no file differs");
  const { viewDir } = parts.layout.repo(record.id);
  const { gitDir: storeGitDir } = parts.layout.store(record.storeId);
  const source = { dir, viewDir, storeGitDir, objectFormat: record.objectFormat };
  let changes: TreeChanges;
  try {
    changes = await treeChanges(source, head.treeOid, target.treeOid);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return handedOver(error.message);
  }
  if (request.cwd !== null && goesAway(byteStringOfText(request.cwd) as RepoPath, changes)) {
    return handedOver("somebody is in a directory that goes");
  }
  for (const [path, { from, to }] of changes.files) {
    if (from?.mode === GITLINK_MODE || to?.mode === GITLINK_MODE) {
      return handedOver(`the submodule ${JSON.stringify(path)} differs`);
    }
  }
  return await new Switch(record, parts, { dir, head, target, changes, request }).run();
}

/** `afs switch` is to leave it to git. */
export function handedOver(reason: string): SwitchOutcome {
  return { outcome: "handed-over", reason };
}

function goesAway(path: RepoPath, { directories }: TreeChanges): boolean {
  for (let at = path; at !== ""; at = parentOf(at)) {
    const change = directories.get(at);
    if (change !== undefined && change.to === null) return true;
  }
  return false;
}

interface Plan {
  readonly dir: UserGitDir;
  readonly head: SwitchHead;
  readonly target: SwitchTarget;
  readonly changes: TreeChanges;
  readonly request: SwitchRequest;
}

/** One switch, from the lock on. */
class Switch {
  readonly #record: RepoRecord;
  readonly #parts: SwitchParts;
  readonly #plan: Plan;
  readonly #paths: RepoLayout;
  readonly #nonce = `afs switch ${crypto.randomUUID()}`;
  readonly #log = logger("switch");
  #hasMoved = false;

  constructor(record: RepoRecord, parts: SwitchParts, plan: Plan) {
    this.#record = record;
    this.#parts = parts;
    this.#plan = plan;
    this.#paths = parts.layout.repo(record.id);
  }

  async run(): Promise<SwitchOutcome> {
    const { dir } = this.#plan;
    await writeIntent(this.#paths, { phase: "locking", nonce: this.#nonce });
    let shown: { readonly switched: Switched; readonly root: Root } | null = null;
    try {
      const lock = lockIndex(dir, this.#nonce);
      const [locked, root] = await allToTheirEnds([lock, this.#bringObjects()]);
      if (locked.kind === "busy") return await this.#leave(locked.reason);
      const made = this.#merge(locked.bytes);
      if (typeof made === "string") return await this.#leave(made);
      const switched = await this.#show(made.merged, locked.bytes, root);
      if (switched.outcome === "refused") return await this.#leave(switched.reason ?? "");
      if (switched.outcome === "failed") {
        throw new Failure("failed", `Cannot switch: ${switched.reason}`);
      }
      shown = { switched, root };
      return await this.#finish(made, switched, root);
    } catch (error) {
      if (this.#hasMoved) throw this.#halfDone(error);
      if (shown !== null) await this.#goBack(error, shown.switched.token, shown.root);
      await this.#leave(messageOf(error));
      throw error;
    }
  }

  /** Nothing was changed. */
  async #leave(reason: string): Promise<SwitchOutcome> {
    await unlockIndex(this.#plan.dir, this.#nonce);
    await removeIntent(this.#paths);
    return handedOver(reason);
  }

  /** Brings what the mount is to show, and only the user's git directory has; what that is. */
  async #bringObjects(): Promise<Root> {
    const { layout } = this.#parts;
    const { id, storeId, objectFormat } = this.#record;
    const { dir, changes, head, target } = this.#plan;
    const { gitDir: storeGitDir } = layout.store(storeId);
    const { viewDir } = this.#paths;
    const settings = settingsOf(this.#record, layout);
    // Awaited below.
    settings.catch(() => {});
    await importObjects({ dir, viewDir, storeGitDir, objectFormat }, changes);
    await this.#parts.mounts.loadTrees(id, changes.treeOids, head.treeOid, target.treeOid);
    const next = { treeOid: target.treeOid, attributes: changes.attributeOids };
    return await rootOfNext(this.#record, next, { layout, settings });
  }

  /** In words why not, where git has to decide. */
  #merge(bytes: Uint8Array<ArrayBuffer>): { index: Index; merged: MergedEntries } | string {
    try {
      const index = parseIndex(bytes, this.#record.objectFormat);
      const merge = mergeIndex(index, this.#plan.changes);
      return merge.kind === "refused" ? merge.reason : { index, merged: merge.merged };
    } catch (error) {
      if (error instanceof IndexError) return `the index has ${error.message}`;
      throw error;
    }
  }

  async #show({ token }: MergedEntries, before: Uint8Array, root: Root): Promise<Switched> {
    const { head, target } = this.#plan;
    await writeIntent(this.#paths, {
      phase: "switching",
      nonce: this.#nonce,
      fromCommitOid: head.commitOid,
      fromRef: head.ref,
      fromTreeOid: head.treeOid,
      toTreeOid: target.treeOid,
      toTreeId: root.treeId,
      conversion: root.conversion,
      indexHash: indexHashOf(before),
      move: this.#move(),
    });
    const { mounts } = this.#parts;
    const { id, baseTreeId: from } = this.#record;
    return await mounts.switchTo(id, { from, to: root.treeId, token });
  }

  async #finish(
    { index, merged }: { index: Index; merged: MergedEntries },
    switched: Switched,
    root: Root,
  ): Promise<SwitchOutcome> {
    const { dir, head, target, changes } = this.#plan;
    if (switched.reason !== null) {
      this.#log.warning("Switched, but", { repo: this.#record.name, error: switched.reason });
    }
    const shown = shownBy(switched, this.#record);
    const after = mergedIndex(index, merged, changes, shown);
    await writeLockedIndex(dir, after, indexTime(shown));
    await moveHead(dir, this.#move());
    this.#hasMoved = true;
    const { commitOid, treeOid } = target;
    this.#parts.registry.moveBase(this.#record, { commitOid, treeOid, ...root });
    this.#parts.mounts.baseMoved(this.#record.id, { commitOid, treeOid });
    await installIndex(dir);
    await removeIntent(this.#paths);
    events.emit("switched", this.#record.name, {
      from: head.commitOid,
      to: commitOid,
      ref: target.ref,
      changed: changes.files.size,
      mountMs: switched.durationMs,
    });
    return { outcome: "switched", head, target, changed: changes.files.size };
  }

  /** The mount shows the other commit, and HEAD is where it was. Throws when it stays so. */
  async #goBack(cause: unknown, token: string, root: Root): Promise<void> {
    const { id, name: repo, baseTreeId } = this.#record;
    this.#log.warning("Could not move HEAD", { repo, error: messageOf(cause) });
    const back = { from: root.treeId, to: baseTreeId, token };
    const { outcome } = await this.#parts.mounts.switchTo(id, back);
    if (outcome !== "done") throw this.#halfDone(cause);
  }

  /** The intent stays: the next mount finishes it, if nobody goes on before. */
  #halfDone(cause: unknown): Failure {
    const { mountPoint, name } = this.#record;
    return new Failure(
      "failed",
      `Cannot finish the switch: ${messageOf(cause)}; the files of ${mountPoint} are those of ` +
        `${this.#plan.target.name} already, and nothing is lost; run: afs remount --name ${name}`,
      { cause },
    );
  }

  #move(): HeadMove {
    const { head, target, request } = this.#plan;
    const from = head.ref?.replace(/^refs\/heads\//, "") ?? head.commitOid;
    return {
      ref: target.ref,
      commitOid: target.commitOid,
      message: `checkout: moving from ${from} to ${target.name}`,
      committer: request.committer,
      follows: target.follows,
    };
  }
}

function shownBy(switched: Switched, { uid, gid }: RepoRecord): Shown {
  const { timeSeconds, timeNanoseconds, token } = switched;
  const paths = pathsOf(switched.paths);
  const inos = new Float64Array(switched.inos);
  return {
    token,
    stat: {
      ...baseStat({ timeSeconds, uid, gid }),
      ctimeNanoseconds: timeNanoseconds,
      mtimeNanoseconds: timeNanoseconds,
    },
    inos: new Map(paths.map((path, i) => [path, inos[i] as number])),
    directories: pathsOf(switched.directories),
    changedBefore: pathsOf(switched.changedBefore),
  };
}

/** Each ends with a NUL. */
function pathsOf(bytes: ArrayBuffer): RepoPath[] {
  return byteString(new Uint8Array(bytes)).split("\0").slice(0, -1) as RepoPath[];
}
