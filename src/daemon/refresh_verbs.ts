/** The verbs `fetch` and `set-refresh`, in the daemon and without one. */

import type { Params, Result } from "../control/api.ts";
import type { Context } from "../control/server.ts";
import { Failure } from "../failure.ts";
import type { TransferProgress } from "../git/store.ts";
import { intervalText } from "../repo/interval.ts";
import type { Layout } from "../repo/layout.ts";
import type { Registry } from "../repo/registry.ts";
import type { RepoRecord } from "../repo/types.ts";
import type { HistoryTasks } from "./history_tasks.ts";
import { RefreshTasks } from "./refresh_tasks.ts";
import { registerSecretsOfRemote } from "./remote_secrets.ts";
import { distanceOf } from "./status.ts";

export interface RefreshParts {
  readonly layout: Layout;
  readonly registry: Registry;
  /** Null: no daemon runs. */
  readonly live: { readonly history: HistoryTasks; readonly refresh: RefreshTasks } | null;
}

/** Throws Failure; what came before is kept. */
export async function fetchRepo(
  record: RepoRecord,
  { layout, registry, live }: RefreshParts,
  context: Context,
): Promise<Result<"fetch">> {
  const { signal } = context;
  await registerSecretsOfRemote(record, layout);
  const onProgress = ({ step, percent }: TransferProgress) => {
    // The server's steps before are short.
    const known = step === "Receiving objects" ? percent : null;
    context.onProgress({ phase: "Fetching", percent: known });
  };
  // It is under way: the refresh after it brings what was pushed since it began.
  await live?.history.wait(record.id, onProgress, signal);
  const refresh = live?.refresh ?? new RefreshTasks({ layout, registry, isMounted: () => false });
  const { failure, unpublished, changes } = await refresh.fetchNow(record, { signal, onProgress });
  if (failure !== null) throw failure;
  const cause = unpublished.get(record.id);
  if (cause !== undefined) throw new Failure("failed", cause);
  const now = registry.byId(record.id) ?? record;
  const distance = await distanceOf(now, layout);
  return {
    repo: now.name,
    mountPoint: now.mountPoint,
    refs: changes.get(now.id) ?? null,
    ahead: distance?.ahead ?? null,
    behind: distance?.behind ?? null,
    diverged: distance === null ? null : distance.ahead > 0 && distance.behind > 0,
    lastFetch: now.lastFetchAt,
  };
}

export function setRefresh(
  record: RepoRecord,
  { seconds }: Pick<Params<"set-refresh">, "seconds">,
  { registry, live }: RefreshParts,
): Result<"set-refresh"> {
  registry.update(record.id, { remoteRefreshSeconds: seconds });
  live?.refresh.update(record.storeId);
  const { name: repo, mountPoint } = record;
  return { repo, mountPoint, remoteRefresh: intervalText(seconds) };
}
