/** The repository that is measured: generated or given, served by its name, and what is in it. */

import { type ByteString, fromBytes } from "../support/raw_fs.ts";
import { git } from "../support/run.ts";
import { makeSizedRepo } from "../support/repos.ts";
import { Random } from "../support/git_objects.ts";
import type { Options } from "./options.ts";

/** Name at the server. */
export const REPO_NAME = "measured.git";

const COMMITS = 25;
const MEAN_BLOB_BYTES = 4096;
const FILES_PER_DIRECTORY = 3.6;

export interface TreeFile {
  readonly path: ByteString;
  readonly sizeBytes: number;
}

export interface Repository {
  readonly gitDir: string;
  /** Regular files. */
  readonly files: readonly TreeFile[];
  readonly directoryCount: number;
  readonly totalBytes: number;
  /** Of HEAD. */
  readonly commitCount: number;
  /** A directory with ordinary letters in the middle of the tree. */
  readonly subdirectory: string;
}

/** Puts the repository below `serverRoot`. */
export async function prepareRepository(
  options: Options,
  serverRoot: string,
): Promise<Repository> {
  const gitDir = `${serverRoot}/${REPO_NAME}`;
  if (options.repo === null) {
    await makeSizedRepo(gitDir, {
      files: options.files,
      dirs: Math.ceil(options.files / FILES_PER_DIRECTORY),
      blobBytes: MEAN_BLOB_BYTES,
      commits: COMMITS,
    });
  } else if (/:\/\/|^[^/]+@[^/]+:/.test(options.repo)) {
    await git(["clone", "--quiet", "--bare", options.repo, gitDir], { timeoutMs: 1_800_000 });
  } else {
    const { stdout } = await git(
      ["-c", "safe.directory=*", "-C", options.repo, "rev-parse", "--absolute-git-dir"],
    );
    await Deno.symlink(stdout.trim(), gitDir);
  }
  return await describe(gitDir);
}

async function describe(gitDir: string): Promise<Repository> {
  const at = ["-c", "safe.directory=*", "-C", gitDir];
  const listing = await git([...at, "ls-tree", "-r", "-t", "-l", "-z", "HEAD"]);
  const files: TreeFile[] = [];
  const directories: ByteString[] = [];
  for (const record of fromBytes(listing.stdoutBytes).split("\0")) {
    const match = /^(\d+) \w+ [0-9a-f]+ +(\d+|-)\t(.*)$/s.exec(record);
    if (match === null) continue;
    const [, mode = "", size = "", path = ""] = match;
    if (mode === "040000") directories.push(path);
    else if (mode.startsWith("100")) files.push({ path, sizeBytes: Number(size) });
  }
  const commits = await git([...at, "rev-list", "--count", "HEAD"]);
  const plain = directories.filter((path) => /^[\w./ -]+$/.test(path));
  return {
    gitDir,
    files,
    directoryCount: directories.length,
    totalBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
    commitCount: Number(commits.stdout),
    subdirectory: plain[plain.length >> 1] ?? ".",
  };
}

/** One file of some size in each of so many directories; the same for the same seed. */
export function scatteredFiles(
  repository: Repository,
  count: number,
  seed: number,
): ByteString[] {
  const byDirectory = new Map<ByteString, ByteString[]>();
  for (const { path, sizeBytes } of repository.files) {
    if (sizeBytes === 0 || sizeBytes > 1 << 20) continue;
    const directory = path.slice(0, path.lastIndexOf("/") + 1);
    const siblings = byDirectory.get(directory);
    if (siblings === undefined) byDirectory.set(directory, [path]);
    else siblings.push(path);
  }
  const random = new Random(seed);
  const left = [...byDirectory.values()];
  const chosen: ByteString[] = [];
  while (chosen.length < count && left.length > 0) {
    const [siblings = []] = left.splice(random.below(left.length), 1);
    chosen.push(siblings[random.below(siblings.length)] ?? "");
  }
  return chosen;
}
