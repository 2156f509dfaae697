/**
 * Repositories that are being prepared, as the verbs see them.
 *
 *     state      event               next       the mount
 *     (none)     add-repo --async    preparing  a placeholder: what is done in it waits
 *     preparing  acquired            mounted    serves the repository
 *     preparing  acquisition fails   failed     a placeholder: what is done in it gets EIO
 *     failed     prepare             preparing  a placeholder: what is done in it waits
 *     any        unmount             as it was  none; preparation goes on
 *     any        remount             as it was  a placeholder
 *     any        remove-repo         (none)     none
 *
 * Without a daemon there are the rows alone; the next daemon mounts and prepares.
 */

import type { MountResult, RepoStatus, RepoSummary, Result, Selector } from "../control/api.ts";
import type { Context } from "../control/server.ts";
import { Failure, messageOf } from "../failure.ts";
import { type AcquireRequest, checkSourceRequest, newRepoId } from "../repo/acquire.ts";
import { checkMountPoint, lastFolders, makeMountPoint, removeMountPoint } from "../repo/checks.ts";
import { isOwnGitfile } from "../repo/git_dir.ts";
import { intervalText } from "../repo/interval.ts";
import type { Layout } from "../repo/layout.ts";
import { ownerOf } from "../repo/owner.ts";
import type { Preparation } from "../repo/preparations.ts";
import type { Registry } from "../repo/registry.ts";
import { type RepoRecord, repoSettingsOf } from "../repo/types.ts";
import { isWritable } from "../sys/mod.ts";
import { checkPlaces } from "./acquiring.ts";
import { events } from "./events.ts";
import { PreparationTasks, storeIdOfPreparation } from "./preparation_tasks.ts";
import { selectedOf, type Selection } from "./selection.ts";

/** What it needs of `Mounts`. */
export interface PlaceholderMounts {
  isMounted(repoId: string): boolean;
  mountPlaceholder(preparation: Preparation, storeId: string): Promise<void>;
  setGate(repoId: string, state: "waiting" | "failed"): void;
  unmount(repoId: string, options: { lazy: boolean }): Promise<void>;
  expect(remoteUrl: string, storeId: string, repoId: string): () => void;
}

export interface PreparingOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  /** Null: no daemon runs. */
  readonly mounts: PlaceholderMounts | null;
  /** A preparation has become a repository. */
  readonly onPublished: (record: RepoRecord) => Promise<void>;
}

export class Preparing {
  readonly #options: PreparingOptions;
  readonly #tasks: PreparationTasks;

  constructor(options: PreparingOptions) {
    const { layout, registry, mounts, onPublished } = options;
    this.#options = options;
    this.#tasks = new PreparationTasks({
      layout,
      registry,
      onPublished,
      onFailed: ({ id }) => mounts?.setGate(id, "failed"),
      onAsked: (preparation) => {
        const { id, remote } = preparation;
        const storeId = storeIdOfPreparation(preparation);
        return mounts?.expect(remote, storeId, id) ?? (() => {});
      },
    });
  }

  /** Null: there is none. */
  find(selector: Selector, selection?: Selection): Preparation | null {
    return selectedOf(this.#options.registry.preparations, selector, selection);
  }

  /** Registers, mounts a placeholder, and starts. Throws Failure; nothing is left then. */
  async add(request: AcquireRequest): Promise<MountResult> {
    const { registry, mounts } = this.#options;
    const remote = checkSourceRequest(request);
    if (remote.credentials !== null) {
      throw new Failure(
        "usage",
        `Cannot prepare ${remote.url} in the background: its URL has a login, which would have to ` +
          "be kept; use --token-file with a path, or a git credential helper",
      );
    }
    const places = await checkPlaces(request, this.#options);
    const preparation = preparationOf({ ...request, ...places }, remote.url);
    registry.insertPreparation(preparation);
    try {
      if (mounts !== null) await this.#mount(preparation);
    } catch (error) {
      registry.preparations.remove(preparation.id);
      throw error;
    }
    if (mounts !== null) this.#tasks.start(preparation);
    return this.#resultOf(preparation);
  }

  /** At a daemon's start: what was asked for goes on. Never throws. */
  async resume(): Promise<void> {
    await Promise.all(
      this.#options.registry.preparations.all().map(async (preparation) => {
        try {
          if (preparation.wanted === "mounted") await this.#mount(preparation);
        } catch (error) {
          const { name, mountPoint } = preparation;
          events.emit("mount-failed", name, { mountPoint, error: messageOf(error) });
        }
        if (preparation.error === null) this.#tasks.start(preparation);
      }),
    );
  }

  /** Starts it if it has failed, and waits for its end. Throws Failure. */
  async prepare(preparation: Preparation, context: Context): Promise<void> {
    const { registry, mounts } = this.#options;
    const { id } = preparation;
    registry.preparations.update(id, { error: null });
    mounts?.setGate(id, "waiting");
    this.#tasks.start({ ...preparation, error: null });
    try {
      await this.#tasks.wait(id, context.onProgress, context.signal);
    } catch (error) {
      if (!context.signal.aborted || mounts === null) throw error;
      throw new Failure(
        "failed",
        `Cannot wait any longer: interrupted; ${preparation.name} is prepared behind`,
        { cause: error },
      );
    } finally {
      // Without a daemon nobody would go on with it.
      if (mounts === null) await this.#tasks.stop(id);
    }
  }

  async unmount(preparation: Preparation, lazy: boolean): Promise<Result<"unmount">> {
    const { registry, mounts } = this.#options;
    const { id, name: repo, mountPoint, wanted } = preparation;
    if (mounts?.isMounted(id)) await mounts.unmount(id, { lazy });
    else if (wanted === "unmounted") {
      throw new Failure("not-mounted", `Cannot unmount ${mountPoint}: it is not mounted`);
    }
    registry.preparations.update(id, { wanted: "unmounted" });
    return { repo, mountPoint };
  }

  async remount(preparation: Preparation): Promise<Result<"remount">> {
    const { registry, mounts } = this.#options;
    const { id, name: repo, mountPoint } = preparation;
    if (mounts?.isMounted(id)) await mounts.unmount(id, { lazy: false });
    await this.#mount(preparation);
    registry.preparations.update(id, { wanted: "mounted" });
    return { repo, mountPoint };
  }

  /** Ends the preparation of one that is to be removed. */
  async stop(selector: Selector): Promise<void> {
    const preparation = this.find(selector);
    if (preparation !== null) await this.#tasks.stop(preparation.id);
  }

  /** After `stop`. */
  async remove(
    { id, name: repo, mountPoint, madeFolders }: Preparation,
    { force, dryRun }: { readonly force: boolean; readonly dryRun: boolean },
  ): Promise<Result<"remove-repo">> {
    const { registry, mounts } = this.#options;
    if (dryRun) return { repo, mountPoint, removed: false, onlyHere: [] };
    // Nothing of anybody is in it; who waits there gets an error.
    if (mounts?.isMounted(id)) await mounts.unmount(id, { lazy: force });
    registry.preparations.remove(id);
    await removeMountPoint(lastFolders(mountPoint, madeFolders));
    events.emit("removed", repo, { mountPoint });
    return { repo, mountPoint, removed: true, onlyHere: [] };
  }

  async stopAll(): Promise<void> {
    await this.#tasks.stopAll();
  }

  /** A placeholder, as far as this process may mount. Throws Failure. */
  async #mount(preparation: Preparation): Promise<void> {
    const { layout, registry, mounts } = this.#options;
    const { id, mountPoint } = preparation;
    if (mounts === null) return;
    await checkMountPoint(mountPoint, {
      records: registry.everything(),
      stateRoot: layout.stateRoot,
      own: id,
      isWritable,
      isOwnGitfile: isOwnGitfile(preparation, layout),
    });
    const made = await makeMountPoint(mountPoint, ownerOf(preparation));
    try {
      await mounts.mountPlaceholder(preparation, storeIdOfPreparation(preparation));
    } catch (error) {
      await removeMountPoint(made);
      throw error;
    }
    if (made.length > 0) registry.preparations.update(id, { madeFolders: made.length });
    if (preparation.error !== null) mounts.setGate(id, "failed");
  }

  #resultOf({ id, name, mountPoint, remote }: Preparation): MountResult {
    return {
      repo: name,
      mountPoint,
      remote,
      head: null,
      ref: null,
      history: "fetching",
      acquired: false,
      preparing: true,
      mounted: this.#options.mounts?.isMounted(id) ?? false,
    };
  }

  summaries(): RepoSummary[] {
    return this.#options.registry.preparations.all().map(
      ({ name, mountPoint, remote, branch, error }) => ({
        repo: name,
        state: stateOf(error),
        mountPoint,
        remote,
        branch,
      }),
    );
  }

  statuses(): RepoStatus[] {
    return this.#options.registry.preparations.all().map((each) => this.statusOf(each));
  }

  statusOf(preparation: Preparation): RepoStatus {
    const { name, mountPoint, remote, branch, requiredCommitOid, error, uid, gid } = preparation;
    return {
      repo: name,
      state: stateOf(error),
      mountPoint,
      remote,
      head: null,
      ref: null,
      sourceRef: branch ?? "HEAD",
      requiredCommit: requiredCommitOid,
      acquisition: requiredCommitOid === null ? "not_required" : "pending",
      baseCommit: null,
      ahead: null,
      behind: null,
      diverged: null,
      lastFetch: null,
      result: error ?? "ok",
      prepareError: error,
      hydratedBlobs: 0,
      hydratedBytes: 0,
      overlayDirty: false,
      overlay: null,
      history: "fetching",
      requests: null,
      remoteRefresh: intervalText(preparation.remoteRefreshSeconds),
      tokenFile: preparation.tokenFile,
      uid,
      gid,
    };
  }
}

function stateOf(error: string | null): "preparing" | "failed" {
  return error === null ? "preparing" : "failed";
}

function preparationOf(request: AcquireRequest, remote: string): Preparation {
  return {
    ...repoSettingsOf(request),
    id: newRepoId(),
    name: request.name,
    remote,
    madeFolders: 0,
    wanted: "mounted",
    askedAt: new Date().toISOString(),
    error: null,
  };
}

/** The failure of a verb that needs what is not here yet. */
export function notYet({ name, error }: Preparation): Failure {
  return error === null
    ? new Failure("busy", `Cannot do it yet: "${name}" is being prepared; see afs prepare`)
    : new Failure(
      "failed",
      `Cannot do it: "${name}" could not be prepared; see afs status, then afs prepare`,
    );
}
