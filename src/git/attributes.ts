/**
 * Which conversions a tree's files have, by git's own word: `git check-attr` with an index of the
 * tree, in the user's git directory and as its owner, so that attributes of the tree, of info/, of
 * the owner and of the system count as they do for the owner's git. No work tree is looked at.
 */

import { bytesOf, byteString } from "../path.ts";
import { turn } from "../promises.ts";
import { ATTRIBUTES, type Attributes, type ConversionConfig } from "./conversion.ts";
import { isOid, type Oid } from "./oid.ts";
import { runGit, type RunOptions } from "./process.ts";
import { probeOptions, TIMEOUT_MS, type UserGitDir } from "./user_git_dir.ts";
import { runShell } from "./user_shell.ts";

/** A user's git directory, and what makes git read its owner's configuration there. */
export interface OwnersGit extends UserGitDir {
  readonly env: Readonly<Record<string, string>>;
  /** Of the owner, where git looks unless told: what is in it counts for every repository. */
  readonly attributesFile: string | null;
}

export interface OwnersConfig extends ConversionConfig {
  /** Commands of drivers, by name. */
  readonly commands: ReadonlyMap<string, string>;
  /** core.attributesFile. */
  readonly attributesFile: string | null;
}

/** An index that nobody else writes. */
export interface TreeIndex {
  readonly path: string;
}

/** How long a large repository may take. */
const LIST_MS = 10 * TIMEOUT_MS;
const LIST_BYTES_MAX = 1024 ** 3;
const PATHS_AT_ONCE = 5000;
/** Records taken without a pause: some ms. */
const RECORDS_PER_TURN = 5000;
/** Where distributions have the system's attributes. */
const SYSTEM_FILES = ["/etc/gitattributes", "/usr/local/etc/gitattributes"];

export function ownersOptions(git: OwnersGit, signal?: AbortSignal): RunOptions {
  return { ...probeOptions(git, signal), env: git.env };
}

/** The configuration of the owner in `gitDir`. Throws GitError. */
export async function readOwnersConfig(
  git: OwnersGit,
  signal?: AbortSignal,
): Promise<OwnersConfig> {
  const { stdout } = await runGit(["config", "--null", "--list"], ownersOptions(git, signal));
  return parseConfig(byteString(stdout));
}

export function parseConfig(list: string): OwnersConfig {
  let autocrlf: ConversionConfig["autocrlf"] = "false";
  let eol: ConversionConfig["eol"] = "lf";
  let attributesFile: string | null = null;
  const smudge = new Map<string, string>();
  const process = new Map<string, string>();
  for (const line of list.split("\0")) {
    const end = line.indexOf("\n");
    const key = end < 0 ? line : line.slice(0, end);
    const value = end < 0 ? null : line.slice(end + 1);
    if (key === "core.autocrlf") {
      autocrlf = value?.toLowerCase() === "input" ? "input" : isTrue(value) ? "true" : "false";
    } else if (key === "core.eol") eol = value?.toLowerCase() === "crlf" ? "crlf" : "lf";
    else if (key === "core.attributesfile") attributesFile = value;
    else if (key.startsWith("filter.")) {
      const name = key.slice("filter.".length, key.lastIndexOf("."));
      if (key.endsWith(".smudge")) smudge.set(name, value ?? "");
      else if (key.endsWith(".process")) process.set(name, value ?? "");
    }
  }
  // apply_filter: of both, the process.
  const commands = new Map([...smudge, ...process].filter(([, command]) => command !== ""));
  return { autocrlf, eol, filters: new Set(commands.keys()), commands, attributesFile };
}

/** git_config_bool. */
function isTrue(value: string | null): boolean {
  if (value === null) return true;
  return /^(?:true|yes|on)$/i.test(value) ||
    (/^[-+]?\d+[kmg]?$/i.test(value) && !/^[-+]?0+[kmg]?$/i.test(value));
}

/** Something counts that is not in the tree: every file has to be asked for. */
export async function mattersEverywhere(git: OwnersGit, config: OwnersConfig): Promise<boolean> {
  if (config.autocrlf === "true" || (config.autocrlf === "false" && config.eol === "crlf")) {
    return true;
  }
  if (config.attributesFile !== null) return true;
  const own = [`${git.gitDir}/info/attributes`, git.attributesFile].filter((path) => path !== null);
  if (await (git.owner === null ? isAnyThere(own) : isAnyThereFor(git, own))) return true;
  return await isAnyThere(SYSTEM_FILES);
}

async function isAnyThere(paths: readonly string[]): Promise<boolean> {
  for (const path of paths) if (await isThere(path)) return true;
  return false;
}

/** 1: none is. */
const FIND = 'for path; do if [ -L "$path" ] || [ -s "$path" ]; then exit 0; fi; done; exit 1';

/** The owner looks: what is theirs may lead to where a thread of ours would wait for itself. */
async function isAnyThereFor(git: OwnersGit, paths: readonly string[]): Promise<boolean> {
  return (await runShell(git, FIND, { args: paths })).code !== 1;
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await Deno.lstat(path)).size > 0;
  } catch {
    return false;
  }
}

/**
 * Whether an attributes file of the tree can change what a checkout writes. Bytes. `eol=lf`, which
 * many have for all files, takes nothing away from what is in the repository.
 */
export function hasConversions(text: string): boolean {
  text = text.replaceAll(/(?<=\s)eol=lf(?=\s|$)/g, "");
  return /\b(?:eol|ident|working-tree-encoding|filter|crlf)\b/.test(text);
}

/** Makes an index of a tree at `path`, in a folder that the owner may write. Throws GitError. */
export async function makeTreeIndex(
  git: OwnersGit,
  treeOid: Oid,
  path: string,
  signal?: AbortSignal,
): Promise<TreeIndex> {
  const index = { path };
  await runGit(["read-tree", treeOid], {
    ...indexOptions(git, index, signal),
    config: ["core.splitIndex=false", "core.sparseCheckout=false", "index.sparse=false"],
  });
  return index;
}

/** The attributes files of an index. Throws GitError. */
export async function attributesFiles(
  git: OwnersGit,
  index: TreeIndex,
  signal?: AbortSignal,
): Promise<Oid[]> {
  const listed = await listIndex(git, index, ["--", ":(top,glob)**/.gitattributes"], signal);
  return [...new Set(listed.map(({ oid }) => oid))];
}

interface Listed {
  readonly path: string;
  readonly oid: Oid;
}

/** Files of an index that may be converted, links and submodules apart. */
async function listIndex(
  git: OwnersGit,
  index: TreeIndex,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<Listed[]> {
  const { stdout } = await runGit(["ls-files", "--stage", "-z", ...args], {
    ...indexOptions(git, index, signal),
    stdoutMaxBytes: LIST_BYTES_MAX,
  });
  const files: Listed[] = [];
  for (const record of await recordsOf(stdout)) {
    const match = /^100(?:644|755) ([0-9a-f]+) 0\t/.exec(record);
    const oid = match?.[1] ?? "";
    if (match !== null && isOid(oid)) files.push({ path: record.slice(match[0].length), oid });
    if (files.length % RECORDS_PER_TURN === 0) await turn();
  }
  return files;
}

function indexOptions(git: OwnersGit, { path }: TreeIndex, signal?: AbortSignal): RunOptions {
  const options = ownersOptions(git, signal);
  return { ...options, env: { ...options.env, GIT_INDEX_FILE: path }, timeoutMs: LIST_MS };
}

/** Tells the attributes of each file of an index; the blobs of its attributes files are here. */
export async function checkAttributes(
  git: OwnersGit,
  index: TreeIndex,
  take: (path: string, attributes: Attributes) => void,
  signal?: AbortSignal,
): Promise<void> {
  const paths = (await listIndex(git, index, [], signal)).map((file) => file.path);
  const args = ["check-attr", "--cached", "--stdin", "-z", ...ATTRIBUTES];
  for (let at = 0; at < paths.length; at += PATHS_AT_ONCE) {
    const part = paths.slice(at, at + PATHS_AT_ONCE);
    const { stdout } = await runGit(args, {
      ...indexOptions(git, index, signal),
      stdin: bytesOf(part.map((path) => `${path}\0`).join("")),
      stdoutMaxBytes: LIST_BYTES_MAX,
    });
    const records = await recordsOf(stdout);
    const step = 3 * ATTRIBUTES.length;
    for (let from = 0; from + step <= records.length; from += step) {
      const values = ATTRIBUTES.map((name, i) => [name, records[from + 3 * i + 2]]);
      take(records[from] as string, Object.fromEntries(values));
      if (from % RECORDS_PER_TURN < step) await turn();
    }
  }
}

/** What ends with a NUL each. */
async function recordsOf(bytes: Uint8Array): Promise<string[]> {
  const records: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(0, at);
    if (end < 0) break;
    records.push(byteString(bytes.subarray(at, end)));
    at = end + 1;
    if (records.length % RECORDS_PER_TURN === 0) await turn();
  }
  return records;
}
