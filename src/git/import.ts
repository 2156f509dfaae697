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
 * `importObjects` returns. A git that fails or is killed leaves its part of a pack, of which nobody
 * has any use: it goes at once, so that a disk that was full does not stay so, or with the next
 * import.
 */

import { Failure, messageOf } from "../failure.ts";
import { KeyedLock } from "../keyed_lock.ts";
import type { HostPath } from "../path.ts";
import { turn } from "../promises.ts";
import { effectiveUid } from "../sys/process.ts";
import { removeIfExists } from "./files.ts";
import { isOid, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { PackDirectory } from "./pack_directory.ts";
import { PackReader } from "./pack_reader.ts";
import { gitText, runGit, type RunOptions, spawnGit } from "./process.ts";
import { ATTRIBUTES_FILE } from "./rule_files.ts";
import { differences, treeOf, type TreePair, TreeReader } from "./tree_reader.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";
import { UserObjects } from "./user_objects.ts";
import { alternatesText } from "./view.ts";

export interface ImportOptions {
  /** Where the objects are. */
  readonly dir: UserGitDir;
  /** Where they are to be. */
  readonly viewDir: HostPath;
  /** Whose objects both have by alternates. */
  readonly storeGitDir: HostPath;
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
  /** Those of them that are attributes files. */
  readonly attributeOids: readonly Oid[];
}

/** A repository may be large, and somebody's own; these only keep a lie from filling us up. */
const TIMEOUT_MS = 300_000;
const PACK_BYTES_MAX = 4 * 1024 ** 3;
const LIST_BYTES_MAX = 64 * 1024 ** 2;
/** Two trees that were compared. */
const PAIRS_MAX = 500_000;
/** Objects that are looked for in packs without a pause: some ms. */
const LOOKED_AT_ONCE = 500;

/** So many small packs become one: whoever reads looks into each of them. */
const SMALL_PACKS = 16;
const SMALL_PACK_BYTES = 4 * 1024 ** 2;

/** HEAD's commit and tree; null: it has none, or they cannot be read. Runs as the owner. */
export async function readHeadTree(
  { dir, objectFormat, signal }: Omit<ImportOptions, "viewDir" | "storeGitDir">,
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
 * What `to` has and `from` has not. Trees are read where we read, and what is not there in the
 * user's git directory, as the owner. The walk is our own and looks at two trees once, however many
 * paths lead there: git's would list each path, and a small tree may have more than memory.
 * Throws Failure, the signal's reason.
 */
export async function treeDifference(
  options: ImportOptions,
  from: Oid,
  to: Oid,
): Promise<TreeDifference> {
  const trees = new TreeReader(options);
  // What is no file may let git wait for ever.
  const signal = AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...signals(options)]);
  const onAbort = () => trees.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await walkDifference(trees, from, to);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Failure) throw error;
    throw new Failure("failed", `Cannot read the trees of HEAD: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    signal.removeEventListener("abort", onAbort);
    await trees.close();
  }
}

async function walkDifference(trees: TreeReader, from: Oid, to: Oid): Promise<TreeDifference> {
  const treeOids = new Set<Oid>();
  const blobOids = new Set<Oid>();
  const attributeOids = new Set<Oid>();
  const queue: TreePair[] = [];
  const seen = new Set<string>();
  const put = (pair: { readonly from: Oid | null; readonly to: Oid }) => {
    const key = `${pair.from} ${pair.to}`;
    if (seen.has(key)) return;
    if (seen.size > PAIRS_MAX) {
      throw new Failure("failed", "Cannot compare the trees of HEAD: they are too many");
    }
    seen.add(key);
    treeOids.add(pair.to);
    queue.push(pair);
  };
  if (from !== to) put({ from, to });
  // An old one may not be here: of a commit that was amended away, and pruned.
  for await (const { before, after } of differences(trees, queue, { onlyOurs: true })) {
    if (after === null || after.kind === "gitlink") continue;
    if (after.kind === "directory") put({ from: treeOf(before), to: after.oid });
    else {
      blobOids.add(after.oid);
      if (after.name === ATTRIBUTES_FILE) attributeOids.add(after.oid);
    }
  }
  return {
    treeOids: [...treeOids],
    blobOids: [...blobOids],
    attributeOids: [...attributeOids],
  };
}

/**
 * Copies those of the objects that are not in the view and are in the user's git directory; how
 * many. Blobs that neither has are promised by the remote, as ever. Throws GitError, Failure, the
 * signal's reason.
 */
export async function importObjects(
  options: ImportOptions,
  objects: Omit<TreeDifference, "attributeOids">,
): Promise<number> {
  const { viewDir, signal } = options;
  return await imports.run(viewDir, () => importNow(options, objects), signal);
}

/** One at a time in each view: it removes what another one has left. */
const imports = new KeyedLock();

async function importNow(
  options: ImportOptions,
  { treeOids, blobOids }: Omit<TreeDifference, "attributeOids">,
): Promise<number> {
  await removeParts(options.viewDir);
  const missing = new Set(await missingHere(options, [...treeOids, ...blobOids]));
  if (missing.size === 0) return 0;
  const trees = treeOids.filter((oid) => missing.has(oid));
  const blobs = await presentBlobs(options, blobOids.filter((oid) => missing.has(oid)));
  const oids = [...trees, ...blobs];
  if (oids.length === 0) return 0;
  try {
    await copyPack(options, oids);
    await mergeSmallPacks(options);
  } catch (error) {
    // One that was stopped may have a successor at work.
    if (options.signal?.aborted !== true) await removeParts(options.viewDir);
    throw error;
  }
  return oids.length;
}

/** Packs that are not whole, under the names that git gives them. */
async function removeParts(viewDir: HostPath): Promise<void> {
  const folder = `${viewDir}/objects/pack`;
  for (const { name } of Deno.readDirSync(folder)) {
    if (name.startsWith("tmp_")) await removeIfExists(`${folder}/${name}`);
  }
}

/** Those that are in no pack of where we read. */
async function missingHere(
  { viewDir, storeGitDir, objectFormat }: ImportOptions,
  oids: readonly Oid[],
): Promise<Oid[]> {
  const folders = [viewDir, storeGitDir].map((gitDir) => `${gitDir}/objects/pack`);
  const packs = new PackReader(new PackDirectory(...folders), objectFormat);
  try {
    return await inParts(oids, (part) => part.filter((oid) => !packs.has(oid)));
  } finally {
    packs.close();
  }
}

/**
 * Those that are in the user's git directory: by its packs' indexes, as far as they say all. (Git
 * looks through all packs anew for each object that is not there: seconds for 10,000.)
 */
async function presentBlobs(options: ImportOptions, oids: readonly Oid[]): Promise<Oid[]> {
  if (oids.length === 0) return [];
  const { dir, storeGitDir, objectFormat } = options;
  const uid = dir.owner?.uid ?? effectiveUid();
  const gitDir = dir.isElsewhere === true ? null : dir.gitDir;
  const objects = new UserObjects({ gitDir, uid, objectFormat });
  try {
    const present = new Set(await inParts(oids, (part) => objects.present(part)));
    const others = oids.filter((oid) => !present.has(oid));
    if (!objects.isWhole(alternatesText([`${storeGitDir}/objects`]))) {
      for (const oid of await presentByGit(options, others)) present.add(oid);
    }
    return oids.filter((oid) => present.has(oid));
  } finally {
    objects.close();
  }
}

async function inParts(
  oids: readonly Oid[],
  take: (part: readonly Oid[]) => readonly Oid[],
): Promise<Oid[]> {
  const taken: Oid[] = [];
  for (let at = 0; at < oids.length; at += LOOKED_AT_ONCE) {
    if (at > 0) await turn();
    taken.push(...take(oids.slice(at, at + LOOKED_AT_ONCE)));
  }
  return taken;
}

/** `cat-file` would end at the first that is promised and not there (git 2.39). */
async function presentByGit(options: ImportOptions, oids: readonly Oid[]): Promise<Oid[]> {
  if (oids.length === 0) return [];
  const args = ["rev-list", "--objects", "--no-object-names", "--no-walk"];
  // The list last: it is read with what was said before it.
  const text = await gitText([...args, "--ignore-missing", "--missing=allow-any", "--stdin"], {
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

/**
 * Each import is a pack. Write order: the new pack, on the disk, then the old ones go. Whoever has
 * one open reads on.
 */
async function mergeSmallPacks({ viewDir, signal }: ImportOptions): Promise<void> {
  const folder = `${viewDir}/objects/pack`;
  const small: string[] = [];
  for (const { name } of Deno.readDirSync(folder)) {
    if (!name.endsWith(".pack")) continue;
    const path = `${folder}/${name}`;
    if (Deno.statSync(path).size < SMALL_PACK_BYTES) small.push(path.slice(0, -".pack".length));
  }
  if (small.length < SMALL_PACKS) return;
  const run = { gitDir: viewDir, probe: true, ...(signal === undefined ? {} : { signal }) };
  const oids = new Set<string>();
  for (const path of small) {
    const stdin = Deno.readFileSync(`${path}.idx`);
    for (const line of (await gitText(["show-index"], { ...run, stdin })).split("\n")) {
      oids.add(line.split(" ")[1] ?? "");
    }
  }
  const made = await gitText(
    ["pack-objects", "-q", "--window=0", "--threads=1", `${folder}/pack`],
    { ...run, stdin: new TextEncoder().encode(`${[...oids].join("\n")}\n`) },
  );
  syncFolder(folder);
  for (const path of small) {
    if (path.endsWith(made)) continue;
    // Without its index a pack is none.
    for (const suffix of ["idx", "rev", "pack"]) await removeIfExists(`${path}.${suffix}`);
  }
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

function longRun({ dir, signal }: Pick<ImportOptions, "dir" | "signal">): RunOptions {
  return { ...probeOptions(dir, signal), timeoutMs: TIMEOUT_MS, stdoutMaxBytes: LIST_BYTES_MAX };
}
