/** Checks of what a user gives, made before anything is fetched or written. One line each. */

import { Failure, messageOf } from "../failure.ts";
import { isOid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { changeOwner, isAutomount } from "../sys/mod.ts";
import type { RepoRecord } from "./types.ts";

/** NAME_MAX: a name may become a file name. */
const NAME_MAX_BYTES = 255;

/** A repository's name. Throws Failure (usage). */
export function checkName(name: string): void {
  const wrong = wrongInName(name);
  if (wrong === null) return;
  throw new Failure(
    "usage",
    `Cannot use the name ${JSON.stringify(name)}: ${wrong}; choose another with --name`,
  );
}

function wrongInName(name: string): string | null {
  if (name === "") return "it is empty";
  if (name === "." || name === "..") return "it means a directory";
  if (name.includes("/")) return "it has a slash";
  // deno-lint-ignore no-control-regex -- exactly these are refused
  if (/[\x00-\x1f\x7f]/.test(name)) return "it has a control character";
  if (name.startsWith("-")) return "it begins with a dash";
  if (name !== name.trim()) return "it begins or ends with a blank";
  if (new TextEncoder().encode(name).length > NAME_MAX_BYTES) {
    return `it is longer than ${NAME_MAX_BYTES} bytes`;
  }
  return null;
}

/** A branch, tag or ref. Throws Failure (usage). */
export function checkBranch(branch: string): void {
  // As git check-ref-format, which also keeps options and refspecs out.
  // deno-lint-ignore no-control-regex -- as git does
  const bad = /^[-/.]|\.\.|@\{|[\x00-\x20\x7f~^:?*[\\]|\/[/.]|[/.]$|\.lock(?:\/|$)|^@?$/;
  if (bad.test(branch)) {
    throw new Failure(
      "usage",
      `Cannot use the branch ${
        JSON.stringify(branch)
      }: git allows no such name; see git help check-ref-format`,
    );
  }
}

/** `--require-commit`: an abbreviation could come to mean another. Throws Failure (usage). */
export function checkRequiredCommit(text: string): void {
  if (isOid(text)) return;
  throw new Failure(
    "usage",
    `Cannot require the commit ${JSON.stringify(text)}: give all 40 or 64 hex digits`,
  );
}

/** `--depth`. Throws Failure (usage). */
export function checkDepth(depth: number): void {
  // git's INFINITE_DEPTH is 2^31 - 1 and means something else.
  if (Number.isInteger(depth) && depth > 0 && depth < 0x7fffffff) return;
  throw new Failure("usage", `Cannot use the depth ${depth}: give a whole number of 1 or more`);
}

export interface MountPoint {
  /** Absolute, with `.`, `..` and double slashes resolved. */
  readonly path: HostPath;
  readonly state: "absent" | "empty" | "stale";
}

export interface MountPointOptions {
  readonly records: readonly Pick<RepoRecord, "id" | "name" | "mountPoint">[];
  /** What is written there to show a mount must not go through the mount. */
  readonly stateRoot: string;
  /** Id of the repository that is registered there already (remount). */
  readonly own?: string;
  /** Whether a `.git` there, with nothing beside it, may be covered. Default: it may not. */
  readonly isOwnGitfile?: (path: string) => Promise<boolean>;
  /** access(2); given by those who may call C. Default: taken as writable. */
  readonly isWritable?: (path: string) => boolean;
}

/**
 * Whether something may be mounted at `path`; makes nothing. "stale": a mount whose daemon died is
 * there, which the daemon replaces. Paths on other mounts of ours are refused before they are
 * touched. Throws Failure (usage, or busy for what another mount holds).
 */
export async function checkMountPoint(
  path: string,
  options: MountPointOptions,
): Promise<MountPoint> {
  const fail = (what: string, advice: string) =>
    new Failure("usage", `Cannot mount at ${path}: ${what}; ${advice}`);
  // deno-lint-ignore no-control-regex -- mountinfo and one-line messages cannot hold them
  if (/[\x00-\x1f\x7f]/.test(path)) {
    throw new Failure(
      "usage",
      `Cannot mount at ${
        JSON.stringify(path)
      }: it has a control character; choose another directory`,
    );
  }
  if (!path.startsWith("/")) throw fail("the path is not absolute", "give it from the root");
  const normal = normalPath(path);
  if (normal === "/") throw fail("it is the root directory", "choose another directory");
  const where = isBelow(normal, options.stateRoot)
    ? "it lies in"
    : isBelow(options.stateRoot, normal)
    ? "it holds"
    : null;
  if (where !== null) {
    throw fail(`${where} the state root ${options.stateRoot}`, "choose another directory");
  }
  refuseOtherMounts(normal, options);
  // A look would wait for the mount that this is about.
  if (isAutomount(normal)) return { path: normal, state: "empty" };
  const state = await stateOf(normal, fail, options);
  if (state === "empty" && !(options.isWritable?.(normal) ?? true)) {
    throw fail("you may not write there", "choose a directory of yours");
  }
  if (state === "absent") await checkParent(normal, options, fail);
  return { path: normal, state };
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** Lexical, as `path` is kept and compared. */
function normalPath(path: string): HostPath {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}` as HostPath;
}

function refuseOtherMounts(path: string, options: MountPointOptions): void {
  for (const record of options.records) {
    if (record.id === options.own) continue;
    if (!isBelow(path, record.mountPoint)) continue;
    const same = path === record.mountPoint;
    const what = same
      ? `"${record.name}" is registered there`
      : `it lies inside the mount of "${record.name}"`;
    throw new Failure(
      same ? "busy" : "usage",
      `Cannot mount at ${path}: ${what}; choose another directory, or remove-repo --name ${record.name}`,
    );
  }
}

type Fail = (what: string, advice: string) => Failure;

async function stateOf(
  path: string,
  fail: Fail,
  { isOwnGitfile }: MountPointOptions,
): Promise<MountPoint["state"]> {
  try {
    const info = await Deno.stat(path);
    if (!info.isDirectory) throw fail("it is not a directory", "choose another or remove it");
    if (await isDead(path)) return "stale";
    for await (const { name, isFile } of Deno.readDir(path)) {
      if (name === ".git" && isFile && await isOwnGitfile?.(`${path}/.git`)) continue;
      throw fail("the directory is not empty", "choose an empty one, or one that does not exist");
    }
    return "empty";
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (error instanceof Deno.errors.NotFound) return await absentOrDangling(path, fail);
    if (isNotConnected(error)) return "stale";
    if (isNotDirectory(error)) {
      throw fail("a part of the path is not a directory", "choose another");
    }
    throw fail(messageOf(error), "choose a directory of yours");
  }
}

/**
 * A mount without a daemon. Its root's attributes and listing may still be known to the kernel, so
 * both look alive; a name that nobody has is asked for.
 */
async function isDead(path: string): Promise<boolean> {
  try {
    await Deno.lstat(`${path}/.afs-${crypto.randomUUID()}`);
    return false;
  } catch (error) {
    return isNotConnected(error);
  }
}

async function absentOrDangling(path: string, fail: Fail): Promise<"absent"> {
  try {
    await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "absent";
    throw fail(messageOf(error), "choose a directory of yours");
  }
  throw fail("it is a link to nothing", "choose another or remove it");
}

/** stat of a mount without a daemon: ENOTCONN. */
export function isNotConnected(error: unknown): boolean {
  return error instanceof Deno.errors.NotConnected || hasCode(error, "ENOTCONN", 107);
}

function isNotDirectory(error: unknown): boolean {
  return error instanceof Deno.errors.NotADirectory || hasCode(error, "ENOTDIR", 20);
}

function hasCode(error: unknown, code: string, errno: number): boolean {
  if (!(error instanceof Error)) return false;
  return "code" in error && error.code === code || error.message.includes(`(os error ${errno})`);
}

/** The nearest folder that exists must let us make the rest. */
async function checkParent(
  path: string,
  options: MountPointOptions,
  fail: Fail,
): Promise<void> {
  for (let parent = path;;) {
    parent = parent.slice(0, parent.lastIndexOf("/"));
    const name = parent === "" ? "/" : parent;
    try {
      const info = await Deno.stat(name);
      if (!info.isDirectory) throw fail(`${name} is not a directory`, "choose another");
      if (options.isWritable?.(name) ?? true) return;
      throw fail(`you may not make a directory in ${name}`, "choose a directory of yours");
    } catch (error) {
      if (error instanceof Failure) throw error;
      if (!(error instanceof Deno.errors.NotFound)) {
        throw fail(messageOf(error), "choose a directory of yours");
      }
    }
  }
}

/**
 * A mount point as getcwd(2) will show it there: without symbolic links. What does not exist yet,
 * or is a mount without a daemon, is taken as it is named.
 */
export async function realMountPoint(path: HostPath): Promise<HostPath> {
  const slash = path.lastIndexOf("/");
  if (slash < 0) return "" as HostPath;
  if (isAutomount(path)) return path;
  try {
    return await Deno.realPath(path) as HostPath;
  } catch {
    const parent = await realMountPoint(path.slice(0, slash) as HostPath);
    return `${parent}${path.slice(slash)}` as HostPath;
  }
}

/**
 * Makes the missing folders of a mount point, owned by the mount's owner. Returns those made,
 * outermost first, for removeMountPoint.
 */
export async function makeMountPoint(
  path: HostPath,
  owner: { readonly uid: number; readonly gid: number } | null,
): Promise<HostPath[]> {
  const missing: HostPath[] = [];
  for (let at: string = path; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
    if (await exists(at)) break;
    missing.unshift(at as HostPath);
  }
  const made: HostPath[] = [];
  try {
    for (const folder of missing) {
      // Others may look into a mount, so they must get there.
      await Deno.mkdir(folder, { mode: 0o755 });
      made.push(folder);
      if (owner !== null) changeOwner(folder, owner.uid, owner.gid);
    }
  } catch (error) {
    await removeMountPoint(made);
    throw new Failure(
      "usage",
      `Cannot mount at ${path}: ${messageOf(error)}; choose a directory of yours`,
      { cause: error },
    );
  }
  return made;
}

async function exists(path: string): Promise<boolean> {
  if (isAutomount(path)) return true;
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound || isNotDirectory(error));
  }
}

/** The last folders of a path, outermost first: what makeMountPoint made, by its number. */
export function lastFolders(path: HostPath, count: number): HostPath[] {
  const folders: HostPath[] = [];
  for (let at: string = path; at !== "" && folders.length < count;) {
    folders.unshift(at as HostPath);
    at = at.slice(0, at.lastIndexOf("/"));
  }
  return folders;
}

/** Removes the folders that makeMountPoint made, as far as they are empty. */
export async function removeMountPoint(made: readonly HostPath[]): Promise<void> {
  for (const folder of made.toReversed()) {
    try {
      await Deno.remove(folder);
    } catch {
      // Somebody has put something there: it is theirs now.
      return;
    }
  }
}
