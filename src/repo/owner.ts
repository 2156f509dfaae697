/** Who a repository's files belong to, and how commands run in its user's git directory. */

import { Failure } from "../failure.ts";
import type { OwnersGit } from "../git/attributes.ts";
import { configText } from "../git/config_file.ts";
import { makeFolder, pathExists, writeFileAtomically } from "../git/files.ts";
import type { Owner } from "../git/process.ts";
import type { UserGitDir } from "../git/user_git_dir.ts";
import type { HostPath } from "../path.ts";
import { effectiveUid } from "../sys/process.ts";
import type { Layout } from "./layout.ts";
import type { RepoRecord } from "./types.ts";

/**
 * The user to run as and to give files to; null: this process's own, nothing has to change. Throws
 * Failure (usage) when this process may not act for that user.
 */
export function ownerOf(who: { readonly uid: number; readonly gid: number }): Owner | null {
  const self = effectiveUid();
  if (who.uid === self) return null;
  if (self === 0) return { uid: who.uid, gid: who.gid };
  throw new Failure("usage", `Cannot act for user ${who.uid}: only root can; run afs as that user`);
}

/** What says where a repository's user's git directory is, and whose. */
export type GitDirRecord = Pick<RepoRecord, "id" | "uid" | "gid" | "gitDir">;

/** Where the user's git directory of a repository lies. */
export function userGitDirPath(
  { id, gitDir }: Pick<GitDirRecord, "id" | "gitDir">,
  layout: Layout,
): HostPath {
  return gitDir ?? layout.repo(id).userGitDir;
}

/** The user's git directory of a repository. */
export function userGitDirOf(record: GitDirRecord, layout: Layout): UserGitDir {
  return {
    gitDir: userGitDirPath(record, layout),
    workTree: layout.emptyDir,
    owner: ownerOf(record),
    isElsewhere: record.gitDir !== null,
  };
}

/**
 * The user's git directory, where git reads what its owner has configured: system, global, and that
 * directory's. Of another user than this process's it is a file that says where that is.
 */
export async function ownersGitOf(
  record: GitDirRecord,
  layout: Layout,
): Promise<OwnersGit> {
  const { convertDir } = layout.repo(record.id);
  const dir = userGitDirOf(record, layout);
  const { owner } = dir;
  if (owner === null) {
    const config = readVariable("XDG_CONFIG_HOME") ?? inHome(readVariable("HOME"), ".config");
    return { ...dir, env: {}, attributesFile: inHome(config, "git/attributes") ?? null };
  }
  const home = homeOf(owner.uid);
  const configPath = `${convertDir}/owner.gitconfig`;
  await makeFolder(convertDir, 0o711);
  if (!await pathExists(configPath)) {
    // In place of the two files that git would read, of which none need exist.
    const text = home === null ? "" : configText([
      ["include", null, "path", `${home}/.config/git/config`],
      ["include", null, "path", `${home}/.gitconfig`],
    ]);
    await writeFileAtomically(configPath, text, 0o644);
  }
  return {
    ...dir,
    env: { HOME: home ?? "/nonexistent", XDG_CONFIG_HOME: "", GIT_CONFIG_GLOBAL: configPath },
    attributesFile: inHome(home ?? undefined, ".config/git/attributes") ?? null,
  };
}

function readVariable(name: string): string | undefined {
  const value = Deno.env.get(name);
  return value === "" ? undefined : value;
}

function inHome(folder: string | undefined, path: string): string | undefined {
  return folder === undefined ? undefined : `${folder}/${path}`;
}

/** By /etc/passwd; null: it does not say. */
function homeOf(uid: number): string | null {
  try {
    for (const line of Deno.readTextFileSync("/etc/passwd").split("\n")) {
      const fields = line.split(":");
      if (fields[2] === String(uid) && fields[5] !== "") return fields[5] ?? null;
    }
  } catch {
    // Not to be read: then the owner has no configuration that we know of.
  }
  return null;
}
