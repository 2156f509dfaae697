/**
 * Brings objects that only the user's git directory has into a view, where we read: what was
 * committed in the mount, or fetched there by the user's own git.
 *
 * That directory is hostile input: git runs there as the owner, lists and packs, and fetches
 * nothing. Its pack is indexed in the view by our own git, which names each object by its hash, so
 * an object is what its name says whoever packed it. The packs belong to one view only: commits of
 * one user are not to be read through another's mount. They stay as long as the view does, because
 * the overlay leaves to them what it releases.
 *
 * Write order: git makes the pack, then its index; both and their folder are on the disk before
 * `importObjects` returns.
 */

import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { CatFile } from "./cat_file.ts";
import { isOid, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { gitText, runGit, type RunOptions, spawnGit } from "./process.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";

export interface ImportOptions {
  /** Where the objects are. */
  readonly dir: UserGitDir;
  /** Where they are to be. */
  readonly viewDir: HostPath;
  readonly objectFormat: ObjectFormat;
  readonly signal?: AbortSignal;
}

export interface HeadTree {
  readonly commitOid: Oid;
  readonly treeOid: Oid;
}

/** What one tree has and another has not. */
export interface TreeDifference {
  /** The root first. */
  readonly treeOids: readonly Oid[];
  readonly blobOids: readonly Oid[];
}

/** A repository may be large, and somebody's own; these only keep a lie from filling us up. */
const TIMEOUT_MS = 300_000;
const PACK_BYTES_MAX = 4 * 1024 ** 3;
/** A tree may have more paths than objects, without end almost. */
const LIST_BYTES_MAX = 64 * 1024 ** 2;
/** Objects that are asked for at once. */
const ASKED_AT_ONCE = 5000;

const EMPTY_TREE: Readonly<Record<ObjectFormat, string>> = {
  sha1: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
  sha256: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
};
const TREE_MODE = "040000";
const GITLINK_MODE = "160000";

/** HEAD's commit and tree; null: it has none, or they cannot be read. Runs as the owner. */
export async function readHeadTree(
  { dir, objectFormat, signal }: Omit<ImportOptions, "viewDir">,
): Promise<HeadTree | null> {
  let text: string;
  try {
    text = await gitText(
      ["rev-list", "--max-count=1", "--no-commit-header", "--format=%H %T", "HEAD", "--"],
      probeOptions(dir, signal),
    );
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof Failure) throw error;
    return null;
  }
  const [commitOid = "", treeOid = ""] = text.split(" ");
  const isOurs = (oid: string): oid is Oid =>
    isOid(oid) && oid.length === 2 * OID_BYTES[objectFormat];
  return isOurs(commitOid) && isOurs(treeOid) ? { commitOid, treeOid } : null;
}

/**
 * What `to` has and `from` has not, as the user's git directory tells it. Runs as the owner. Throws
 * GitError when trees are missing there.
 */
export async function treeDifference(
  options: Omit<ImportOptions, "viewDir">,
  from: Oid,
  to: Oid,
): Promise<TreeDifference> {
  const run = longRun(options);
  const compare = async (base: string) => {
    const args = ["diff-tree", "-r", "-t", "-z", "--raw", "--no-renames", "--no-abbrev"];
    const { stdout } = await runGit([...args, "--no-relative", base, to, "--"], run);
    return parseRaw(stdout, options.objectFormat);
  };
  let found: TreeDifference;
  try {
    found = await compare(from);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof Failure) throw error;
    // The old one may be gone there: a commit that was amended away, and pruned.
    found = await compare(EMPTY_TREE[options.objectFormat]);
  }
  return { ...found, treeOids: [...new Set([to, ...found.treeOids])] };
}

/** `:<mode> <mode> <oid> <oid> <status>NUL<path>NUL`, again and again (git-diff-tree(1)). */
function parseRaw(bytes: Uint8Array, format: ObjectFormat): TreeDifference {
  const trees = new Set<Oid>();
  const blobs = new Set<Oid>();
  const decoder = new TextDecoder();
  const digits = 2 * OID_BYTES[format];
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf(0, at);
    if (end < 0) break;
    const [, mode = "", , oid = ""] = decoder.decode(bytes.subarray(at, end)).split(" ");
    const pathEnd = bytes.indexOf(0, end + 1);
    at = pathEnd < 0 ? bytes.length : pathEnd + 1;
    if (!isOid(oid) || oid.length !== digits || /^0+$/.test(oid) || mode === GITLINK_MODE) continue;
    (mode === TREE_MODE ? trees : blobs).add(oid);
  }
  return { treeOids: [...trees], blobOids: [...blobs] };
}

/**
 * Copies those of the objects that are not in the view and are in the user's git directory; how
 * many. Blobs that neither has are promised by the remote, as ever. Throws GitError, Failure, the
 * signal's reason.
 */
export async function importObjects(
  options: ImportOptions,
  { treeOids, blobOids }: TreeDifference,
): Promise<number> {
  const missing = new Set(await missingIn(options.viewDir, [...treeOids, ...blobOids]));
  if (missing.size === 0) return 0;
  const trees = treeOids.filter((oid) => missing.has(oid));
  const blobs = await presentBlobs(options, blobOids.filter((oid) => missing.has(oid)));
  const oids = [...trees, ...blobs];
  if (oids.length > 0) await copyPack(options, oids);
  return oids.length;
}

async function missingIn(viewDir: HostPath, oids: readonly Oid[]): Promise<Oid[]> {
  const view = new CatFile(viewDir, "check");
  try {
    const missing: Oid[] = [];
    for (let at = 0; at < oids.length; at += ASKED_AT_ONCE) {
      const part = oids.slice(at, at + ASKED_AT_ONCE);
      const infos = await Promise.all(view.requestMany(part, null));
      infos.forEach((info, i) => {
        if (info === null) missing.push(part[i] as Oid);
      });
    }
    return missing;
  } finally {
    await view.close();
  }
}

/** `cat-file` would end at the first that is promised and not there (git 2.39). */
async function presentBlobs(options: ImportOptions, oids: readonly Oid[]): Promise<Oid[]> {
  if (oids.length === 0) return [];
  const args = ["rev-list", "--objects", "--no-object-names", "--no-walk", "--stdin"];
  const text = await gitText([...args, "--ignore-missing", "--missing=allow-any"], {
    ...longRun(options),
    stdin: new TextEncoder().encode(`${oids.join("\n")}\n`),
  });
  const present = new Set(text.split("\n"));
  return oids.filter((oid) => present.has(oid));
}

async function copyPack(options: ImportOptions, oids: readonly Oid[]): Promise<void> {
  const run = longRun(options);
  const end = new AbortController();
  const signal = AbortSignal.any([
    end.signal,
    AbortSignal.timeout(TIMEOUT_MS),
    ...signals(options),
  ]);
  const packer = spawnGit(["pack-objects", "--stdout", "-q", "--window=0", "--threads=1"], {
    ...run,
    stdin: "piped",
    stderr: "null",
  });
  const kill = () => {
    try {
      packer.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
  };
  signal.addEventListener("abort", kill, { once: true });
  try {
    const listing = writeList(packer.stdin, oids);
    await Promise.all([
      runGit(
        ["index-pack", "--stdin", `--max-input-size=${PACK_BYTES_MAX}`, "--threads=1"],
        { gitDir: options.viewDir, probe: true, stdin: packer.stdout, signal },
      ),
      listing,
    ]);
  } finally {
    end.abort();
    await packer.status;
  }
  syncFolder(`${options.viewDir}/objects/pack`);
}

async function writeList(
  stdin: WritableStream<Uint8Array>,
  oids: readonly Oid[],
): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(`${oids.join("\n")}\n`));
    await writer.close();
  } catch {
    // It has ended without reading all; index-pack says that the pack is not whole.
  }
}

/** The names in it are on the disk. */
function syncFolder(path: string): void {
  using folder = Deno.openSync(path);
  folder.syncSync();
}

function signals({ signal }: { readonly signal?: AbortSignal }): AbortSignal[] {
  return signal === undefined ? [] : [signal];
}

function longRun({ dir, signal }: Omit<ImportOptions, "viewDir">): RunOptions {
  return { ...probeOptions(dir, signal), timeoutMs: TIMEOUT_MS, stdoutMaxBytes: LIST_BYTES_MAX };
}
