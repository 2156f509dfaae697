/** What `status` says about one repository. */

import type { RepoStatus } from "../control/api.ts";
import { changesOf } from "./overlay_changes.ts";
import { aheadBehind, readHead } from "../git/user_git_dir.ts";
import { intervalText } from "../repo/interval.ts";
import type { Layout } from "../repo/layout.ts";
import { userGitDirOf } from "../repo/owner.ts";
import { hydratedOf } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";

/** What only the daemon knows. */
export interface Live {
  readonly state: RepoStatus["state"];
  /** Why it is not mounted though it should be. */
  readonly failure: string | null;
  /** FUSE requests that want a reply, since it was mounted. */
  readonly requests: number | null;
}

/** Never throws. */
export async function statusOf(
  record: RepoRecord,
  layout: Layout,
  { state, failure, requests }: Live,
): Promise<RepoStatus> {
  const [head, distance] = await Promise.all([headOf(record, layout), distanceOf(record, layout)]);
  const hydrated = hydratedOf(layout.store(record.storeId));
  const overlay = await overlayChanges(record, layout);
  return {
    repo: record.name,
    state,
    mountPoint: record.mountPoint,
    remote: record.remote,
    head: head.commitOid,
    ref: head.ref,
    sourceRef: record.sourceRef,
    requiredCommit: record.requiredCommitOid,
    acquisition: record.requiredCommitOid === null ? "not_required" : "verified",
    baseCommit: record.baseCommitOid,
    ahead: distance?.ahead ?? null,
    behind: distance?.behind ?? null,
    diverged: distance === null ? null : distance.ahead > 0 && distance.behind > 0,
    lastFetch: record.lastFetchAt,
    result: failure ?? record.fetchResult,
    prepareError: null,
    hydratedBlobs: hydrated.blobs,
    hydratedBytes: hydrated.sizeBytes,
    overlayDirty: overlay === null
      ? null
      : overlay.created + overlay.modified + overlay.deleted > 0,
    overlay,
    history: historyText(record),
    requests,
    remoteRefresh: intervalText(record.remoteRefreshSeconds),
    tokenFile: record.tokenFile,
    uid: record.uid,
    gid: record.gid,
  };
}

/** Null: it cannot be read (another user's, or damaged). */
async function overlayChanges(record: RepoRecord, layout: Layout) {
  try {
    return await changesOf(record, layout);
  } catch {
    return null;
  }
}

/** `fetching`, `full` or `shallow:<depth>`. */
export function historyText({ history, depth }: Pick<RepoRecord, "history" | "depth">): string {
  return history === "shallow" ? `shallow:${depth ?? "?"}` : history;
}

async function headOf(record: RepoRecord, layout: Layout) {
  try {
    return await readHead(userGitDirOf(record, layout));
  } catch {
    // The directory is the user's, who may have broken it, or it is another user's.
    return { ref: record.ref, commitOid: null };
  }
}

/** Null while commits are missing: git would count what is there and be wrong. */
export async function distanceOf(record: RepoRecord, layout: Layout) {
  if (record.history !== "full") return null;
  try {
    return await aheadBehind(userGitDirOf(record, layout));
  } catch {
    return null;
  }
}
