/**
 * The bases follow the users' git: after HEAD has moved to another commit, that commit's tree comes
 * beneath the work tree, of which nothing changes (src/vfs/rebase.ts). Then what was committed is
 * no change of the work tree any more.
 *
 *   state     event                                   next
 *   waiting   git's files change, or `settle`         looking (after a pause in which nothing does)
 *   looking   git is busy, or nothing is new          waiting
 *   looking   HEAD or the index is another            following: import, trees, what
 *                                                     they convert, rebase, registry
 *   following done, or failed (logged)                waiting; looking, if something has happened
 *   any       stop                                    ended
 *
 * Also a change of the index alone is followed, by a rebase to the same tree: `git checkout FILE`,
 * `git stash` and `git reset --hard` make the work tree equal to the base and leave HEAD.
 *
 * Write order: the overlay, which is durable when the mount says that it has ended; then the
 * registry. Between the two the overlay's own word counts, and the next start goes on.
 *
 * Nothing is wrong without it: a failure is logged, and the next event or look tries again.
 */

import { Failure, messageOf } from "../failure.ts";
import type { BaseId } from "../git/base_id.ts";
import { type HeadTree, importObjects, readHeadTree, treeDifference } from "../git/import.ts";
import type { Oid } from "../git/oid.ts";
import { logger } from "../log.ts";
import type { Rebased } from "../mount/messages.ts";
import { type Root, rootOfNext } from "../repo/conversion.ts";
import { isForOwner, isTelling, look } from "../repo/head.ts";
import type { Layout } from "../repo/layout.ts";
import { userGitDirOf, userGitDirPath } from "../repo/owner.ts";
import type { Registry } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";
import { events } from "./events.ts";

/** git changes several files, one after the other. */
const QUIET_MS = 30;
/** Looked at so late after an event, even if there are more all the time. */
const LATE_MS = 500;
/** Whoever waited for the tree looks at it now. */
const FIRST_MS = 500;
/** Where the system has no watch to give, or only the owner may look. */
const POLL_MS = 3_000;
/** So long `settle` waits. */
const SETTLE_MS = 3_000;

/** What it needs of `Mounts`. */
export interface RebasableMounts {
  loadTrees(repoId: string, treeOids: readonly Oid[], from: Oid, to: Oid): Promise<void>;
  rebase(repoId: string, treeId: BaseId): Promise<Rebased>;
  baseMoved(repoId: string, head: HeadTree): void;
}

export interface HeadFollowersOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  readonly mounts: RebasableMounts;
}

export class HeadFollowers {
  readonly #options: HeadFollowersOptions;
  readonly #followers = new Map<string, HeadFollower>();

  constructor(options: HeadFollowersOptions) {
    this.#options = options;
  }

  /** A repository is mounted. */
  start(repoId: string): void {
    this.stop(repoId);
    // A required commit stays beneath, wherever HEAD goes.
    const { requiredCommitOid = null } = this.#options.registry.byId(repoId) ?? {};
    if (requiredCommitOid !== null) return;
    this.#followers.set(repoId, new HeadFollower(repoId, this.#options));
  }

  /** It is no more. */
  stop(repoId: string): void {
    this.#followers.get(repoId)?.stop();
    this.#followers.delete(repoId);
  }

  /** Resolves when the base is where HEAD is now, or cannot be, or some seconds later. */
  async settle(repoId: string): Promise<void> {
    await this.#followers.get(repoId)?.settle();
  }

  stopAll(): void {
    for (const repoId of [...this.#followers.keys()]) this.stop(repoId);
  }
}

class HeadFollower {
  readonly #repoId: string;
  readonly #options: HeadFollowersOptions;
  readonly #stopping = new AbortController();
  readonly #log = logger("base");
  #watcher: Deno.FsWatcher | null = null;
  #poll: number | null = null;
  #timer: number | null = null;
  /** When what was noticed is looked at, at the latest. */
  #lateAt = 0;
  #looking: Promise<void> | null = null;
  #again = false;
  /** What was followed last: HEAD and index. */
  #followed = "";

  constructor(repoId: string, options: HeadFollowersOptions) {
    this.#repoId = repoId;
    this.#options = options;
    this.#watch();
    this.#lookIn(FIRST_MS);
  }

  stop(): void {
    this.#stopping.abort(new Failure("not-mounted", "Cannot follow HEAD: the mount is gone"));
    this.#watcher?.close();
    if (this.#poll !== null) clearInterval(this.#poll);
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async settle(): Promise<void> {
    let timer: number | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, SETTLE_MS));
    await Promise.race([this.#look(), late]);
    clearTimeout(timer);
  }

  /** The directory itself, and nothing below it: what is there may be a link to anywhere. */
  #watch(): void {
    const { registry, layout } = this.#options;
    const record = registry.byId(this.#repoId);
    if (record === null) return;
    if (isForOwner(record, layout)) {
      this.#watchByLooking(record);
      return;
    }
    try {
      this.#watcher = Deno.watchFs(userGitDirPath(record, layout), { recursive: false });
      this.#read(this.#watcher);
    } catch {
      this.#watchByLooking(record);
    }
  }

  #watchByLooking(record: RepoRecord): void {
    let before: string | null | undefined;
    let isLooking = false;
    const lookAgain = async () => {
      if (isLooking) return;
      isLooking = true;
      try {
        const { folder: now } = await look(record, this.#options.layout);
        const isNew = before !== undefined && now !== before;
        before = now;
        if (isNew && !this.#stopping.signal.aborted) this.#notice();
      } catch {
        // No process could be started: the next one may.
      } finally {
        isLooking = false;
      }
    };
    this.#poll = setInterval(lookAgain, POLL_MS);
    lookAgain();
  }

  async #read(watcher: Deno.FsWatcher): Promise<void> {
    try {
      for await (const { kind, paths } of watcher) {
        // Who only reads, as we do, changes nothing.
        if (kind === "access") continue;
        if (paths.some((path) => isTelling(path.slice(path.lastIndexOf("/") + 1)))) this.#notice();
      }
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#log.warning("No news of HEAD any more", { error: messageOf(error) });
    }
  }

  #notice(): void {
    const now = performance.now();
    if (this.#timer === null) this.#lateAt = now + LATE_MS;
    this.#lookIn(Math.max(0, Math.min(QUIET_MS, this.#lateAt - now)));
  }

  #lookIn(delayMs: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#look();
    }, delayMs);
  }

  /** Never throws. */
  #look(): Promise<void> {
    this.#again = true;
    return this.#looking ??= this.#lookUntilSettled().finally(() => this.#looking = null);
  }

  async #lookUntilSettled(): Promise<void> {
    while (this.#again && !this.#stopping.signal.aborted) {
      this.#again = false;
      const record = this.#options.registry.byId(this.#repoId);
      if (record === null) return;
      try {
        await this.#follow(record);
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        events.emit("rebase-failed", record.name, { error: messageOf(error) });
      }
    }
  }

  /** Throws Failure, GitError. */
  async #follow(record: RepoRecord): Promise<void> {
    const { layout, registry, mounts } = this.#options;
    const { id, storeId, objectFormat, baseTreeOid: from } = record;
    const { gitDir: storeGitDir } = layout.store(storeId);
    const { viewDir } = layout.repo(id);
    const { isBusy, index } = await look(record, layout);
    if (isBusy) return;
    const { signal } = this.#stopping;
    const dir = userGitDirOf(record, layout);
    const source = { dir, viewDir, storeGitDir, objectFormat, signal };
    const head = await readHeadTree(source);
    if (head === null) return;
    const { commitOid, treeOid: to } = head;
    const followed = `${commitOid} ${index}`;
    if (followed === this.#followed) return;
    const startedAt = performance.now();
    let imported = 0;
    let root: Root = { treeId: record.baseTreeId, conversion: record.baseConversion };
    if (from !== to) {
      const difference = await treeDifference(source, from, to);
      imported += await importObjects(source, difference);
      await mounts.loadTrees(id, difference.treeOids, from, to);
      const next = { treeOid: to, attributes: difference.attributeOids };
      root = await rootOfNext(record, next, { layout, signal });
    }
    let rebased = await mounts.rebase(id, root.treeId);
    const { unheld } = rebased;
    if (rebased.error === null && unheld.length > 0) {
      // What git has fetched for the work tree without another commit.
      const more = await importObjects(source, { treeOids: [], blobOids: unheld });
      imported += more;
      if (more > 0) rebased = await mounts.rebase(id, root.treeId);
    }
    if (rebased.error !== null) throw new Failure("failed", `Cannot rebase: ${rebased.error}`);
    this.#followed = followed;
    if (commitOid === record.baseCommitOid && from === to) return;
    registry.moveBase(record, { commitOid, treeOid: to, ...root });
    mounts.baseMoved(id, head);
    events.emit("rebased", record.name, {
      from: record.baseCommitOid,
      to: commitOid,
      generation: record.generation + 1,
      imported,
      pinned: rebased.pinned,
      released: rebased.released,
      rebaseMs: rebased.durationMs,
      durationMs: Math.round(performance.now() - startedAt),
    });
  }
}
