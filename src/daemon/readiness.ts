/** Whether everything that is to be mounted answers: `/readyz`. */

import type { MountHandle } from "../mount/handle.ts";
import type { Registry } from "../repo/registry.ts";

export interface WatchedMounts {
  watched(): readonly { readonly repoId: string; readonly handle: Pick<MountHandle, "ping"> }[];
  isPlaceholder(repoId: string): boolean;
}

/** So long a mount may take to answer. */
const ANSWER_MS = 2_000;

/** A line for each repository that is wanted and does not answer. */
export async function unready(
  registry: Pick<Registry, "everything">,
  mounts: WatchedMounts,
  isStopping: boolean,
): Promise<string[]> {
  if (isStopping) return ["the daemon is stopping"];
  const handles = new Map(mounts.watched().map(({ repoId, handle }) => [repoId, handle]));
  const wanted = registry.everything()
    .filter((repo) => repo.wanted === "mounted");
  const lines = await Promise.all(wanted.map(async ({ id, name }) => {
    const handle = handles.get(id);
    if (handle === undefined) return `${name}: not mounted`;
    if (mounts.isPlaceholder(id)) return `${name}: not prepared`;
    return await handle.ping(ANSWER_MS) === null ? `${name}: does not answer` : null;
  }));
  return lines.filter((line) => line !== null);
}
