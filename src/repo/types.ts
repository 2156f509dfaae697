/** One registered repository: a work tree on a store. */

import type { BaseId } from "../git/base_id.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";

export const DEFAULT_UMASK = 0o022;

/** As in the model, cloudflare/artifact-fs. */
export const DEFAULT_REFRESH_SECONDS = 30;

/** What is asked for, and kept as it was asked. */
export interface RepoSettings {
  /** Branch, tag, full ref or commit; null: the remote's HEAD. */
  readonly branch: string | null;
  /** `--depth`; null: the whole history comes in behind the mount. */
  readonly depth: number | null;
  /** What the source must be, in full: the base stays there. Null: whatever it is. */
  readonly requiredCommitOid: Oid | null;
  readonly mountPoint: HostPath;
  readonly uid: number;
  readonly gid: number;
  /** Keep extended attributes. */
  readonly xattrs: boolean;
  /** Permission bits that files which nobody has changed do not have: of group and others. */
  readonly umask: number;
  /** Nothing can be changed through the mount. */
  readonly readOnly: boolean;
  /** Where the user's git directory lies, checked; null: below the state root. */
  readonly gitDir: HostPath | null;
  /** It was there before, and is prepared. */
  readonly preparedGitDir: boolean;
  /** Of the remote, only the source is followed, and the tags that lead to its commits. */
  readonly singleBranch: boolean;
  /** How often the remote is asked for new refs while it is mounted; null: never. */
  readonly remoteRefreshSeconds: number | null;
  /** Where the token for the remote is read; null: there is no such file. */
  readonly tokenFile: string | null;
}

/** All of them: a new one is kept and passed on when it is here. */
const ALL: Readonly<Record<keyof RepoSettings, true>> = {
  branch: true,
  depth: true,
  requiredCommitOid: true,
  mountPoint: true,
  uid: true,
  gid: true,
  xattrs: true,
  umask: true,
  readOnly: true,
  gitDir: true,
  preparedGitDir: true,
  singleBranch: true,
  remoteRefreshSeconds: true,
  tokenFile: true,
};
export const SETTINGS = Object.keys(ALL) as readonly (keyof RepoSettings)[];

/** Nothing else of an object that has them. */
export function repoSettingsOf(all: RepoSettings): RepoSettings {
  return Object.fromEntries(SETTINGS.map((key) => [key, all[key]])) as unknown as RepoSettings;
}

export interface RepoRecord extends RepoSettings {
  /** Names its folders; 16 hex digits, never reused. */
  readonly id: string;
  /** What the user calls it; unique. */
  readonly name: string;
  /** URL without credentials. */
  readonly remote: string;
  /** Full ref HEAD was on at acquisition (`refs/heads/main`); null: detached. */
  readonly ref: string | null;
  /** What was fetched, in full (`refs/heads/main`, `refs/tags/v1`); a commit's oid; `HEAD`. */
  readonly sourceRef: string;
  /** How many of the mount point's last folders afs made; 0: it was there before. */
  readonly madeFolders: number;
  readonly storeId: string;
  readonly objectFormat: ObjectFormat;
  /** What the remote had at acquisition. */
  readonly acquiredCommitOid: Oid;
  /** How often the base has changed, counted from 1. */
  readonly generation: number;
  /** The generation that is beneath the work tree: HEAD's, as soon as it has followed. */
  readonly baseCommitOid: Oid;
  readonly baseTreeOid: Oid;
  /** What is shown of it: as a checkout of that moment would have written it. */
  readonly baseTreeId: BaseId;
  /** "none": no attribute or setting mattered then, whatever the files were called. */
  readonly baseConversion: "none" | "some";
  /** mtime and ctime of all base content, seconds: commit time, at most acquisition - 2 s. */
  readonly baseTimeSeconds: number;
  /** Whether a daemon start mounts it. */
  readonly wanted: "mounted" | "unmounted";
  readonly history: "fetching" | "full" | "shallow";
  /** ISO 8601 UTC; null: never. */
  readonly acquiredAt: string;
  readonly lastFetchAt: string | null;
  /** `ok`, or the one-line cause of the last failure, without secrets. */
  readonly fetchResult: string;
}
