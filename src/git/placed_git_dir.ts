/**
 * A user's git directory that lies where its user wants it. The folder that it lies in may be its
 * owner's, who may put a link to anywhere in its place at any moment: so everything there is done
 * by processes that run as the owner, and what they say is believed of that moment only.
 *
 * One that afs puts there is copied from where it was made (`placeCopy`). One that somebody has made
 * with `git init` and that has nothing but a remote (`readFresh`) is filled in place, since it may
 * be mounted elsewhere already (`fillFresh`).
 *
 * Invariants
 *  1. What afs has put there has the file `afs-repo`, with the repository's id, from before anything
 *     else until after everything else. Nothing without it is removed.
 *  2. In one that was there before, files get another content and keep their rights.
 *
 * Write order: mark, objects and refs, index, configuration, HEAD. All can be taken back.
 */

import { byteString } from "../path.ts";
import type { ConfigEntry } from "./config_file.ts";
import { formatOf, type ObjectFormat, type Oid } from "./oid.ts";
import { GitError, runGit } from "./process.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";
import { runShell, type ShellOptions } from "./user_shell.ts";

/** Why a path cannot be used, as the end of a sentence. */
export class UnusableGitDir extends Error {
  override readonly name = "UnusableGitDir";
}

const CAUSES: Readonly<Record<number, string>> = {
  10: "the folder it is to lie in does not exist, or its owner may not go there",
  11: "it is a symbolic link",
  12: "it exists and is not its owner's to write",
  13: "it exists and is not empty",
  14: "it is not a directory",
  15: "its owner may not make it there",
  20: "it does not exist, or its owner may not go there",
  21: "it is not its owner's",
  22: "it is no git directory",
  23: "it has commits, an index or refs already, and only a fresh one can be prepared",
};

async function run(dir: UserGitDir, script: string, options: ShellOptions): Promise<Uint8Array> {
  const { code, stdout } = await runShell(dir, script, options);
  if (code === 0) return stdout;
  const cause = CAUSES[code];
  if (cause !== undefined) throw new UnusableGitDir(cause);
  throw new GitError("gitdir", code, `fatal: ${dir.gitDir} could not be written`);
}

/** $1: the folder it is to lie in. */
const INSPECT = `
cd -P "$1" 2>/dev/null || exit 10
if [ -L "$GIT_DIR" ]; then exit 11; fi
if [ -d "$GIT_DIR" ]; then
  [ -O "$GIT_DIR" ] && [ -w "$GIT_DIR" ] || exit 12
  [ -z "$(ls -A "$GIT_DIR")" ] || exit 13
  state=empty
elif [ -e "$GIT_DIR" ]; then exit 14
elif [ -w . ]; then state=absent
else exit 15
fi
printf '%s ' "$state"
pwd -P
`;

export interface Place {
  /** An empty directory is there already, and stays when the repository goes. */
  readonly state: "absent" | "empty";
  /** Without symbolic links. */
  readonly path: string;
}

/** Whether a git directory can be put at `dir.gitDir`. Throws UnusableGitDir. */
export async function inspectPlace(dir: UserGitDir): Promise<Place> {
  const slash = dir.gitDir.lastIndexOf("/");
  const args = [dir.gitDir.slice(0, slash) || "/"];
  const text = new TextDecoder().decode(await run(dir, INSPECT, { args })).replace(/\n$/, "");
  const [, state, parent] = /^(absent|empty) (\/[^\n]*)$/.exec(text) ?? [];
  if (state === undefined || parent === undefined) throw new UnusableGitDir(CAUSES[10] as string);
  const path = `${parent === "/" ? "" : parent}${dir.gitDir.slice(slash)}`;
  return { state: state as Place["state"], path };
}

/** $1: what is copied; $2: the repository's id. */
const COPY = {
  absent: `
umask 077
new=$GIT_DIR.new-$2
rm -rf "$new" && cp -a "$1" "$new" && printf '%s\\n' "$2" > "$new/afs-repo" &&
  mv -T "$new" "$GIT_DIR" && exit 0
rm -rf "$new"
exit 1
`,
  empty: `
umask 077
printf '%s\\n' "$2" > "$GIT_DIR/afs-repo" && cp -a "$1/." "$GIT_DIR/"
`,
};

/** Copies the directory `from`, which the owner can read. Throws GitError. */
export async function placeCopy(
  dir: UserGitDir,
  from: string,
  repoId: string,
  state: Place["state"],
): Promise<void> {
  await run(dir, COPY[state], { args: [from, repoId] });
}

/** $1: the repository's id. */
const REMOVE = {
  absent: `
rm -rf "$GIT_DIR.new-$1"
[ "$(head -c 64 "$GIT_DIR/afs-repo" 2>/dev/null)" = "$1" ] || exit 0
rm -rf "$GIT_DIR"
`,
  empty: `
cd "$GIT_DIR" 2>/dev/null || exit 0
[ "$(head -c 64 afs-repo 2>/dev/null)" = "$1" ] || exit 0
for entry in * .[!.]* ..?*; do
  [ "$entry" = afs-repo ] || rm -rf "./$entry" || exit 1
done
rm -f afs-repo
`,
};

/** Removes what placeCopy has put there, or what of it is there. Throws GitError. */
export async function removeCopy(
  dir: UserGitDir,
  repoId: string,
  state: Place["state"],
): Promise<void> {
  await run(dir, REMOVE[state], { args: [repoId] });
}

/** Goes there. A `worktrees` or `modules` is of somebody who works there. */
const CHECK_FRESH = `
cd -P "$GIT_DIR" 2>/dev/null || exit 20
[ -O . ] && [ -w . ] || exit 21
[ -f HEAD ] && [ -f config ] && [ -d objects ] && [ -d refs ] || exit 22
for name in index index.lock HEAD.lock packed-refs shallow logs commondir gitdir worktrees \\
  modules objects/info/alternates afs-repo; do
  if [ -e "$name" ] || [ -L "$name" ]; then exit 23; fi
done
[ -z "$(find refs objects ! -type d | head -n 1)" ] || exit 23
IFS= read -r line < HEAD
case $line in
  "ref: refs/heads/"*) ;;
  *) exit 23 ;;
esac
`;

const LIST_FRESH = `${CHECK_FRESH}
pwd -P
find . -mindepth 1 -maxdepth 1 -print0
`;

const FILE_MAX_BYTES = 1024 * 1024;

/** A git directory as `git init` makes it. */
export interface FreshGitDir {
  /** Without symbolic links. */
  readonly path: string;
  /** What is in it, which is to stay. */
  readonly names: readonly string[];
  readonly files: FreshFiles;
  readonly config: ReadonlyMap<string, readonly string[]>;
  readonly objectFormat: ObjectFormat;
  /** `remote.origin.url`, which may hold credentials. */
  readonly remoteUrl: string;
}

/** Those that get another content. */
export interface FreshFiles {
  readonly config: Uint8Array;
  readonly HEAD: Uint8Array;
  /** Null: there is none. */
  readonly "info/exclude": Uint8Array | null;
}

/** Throws UnusableGitDir, GitError. */
export async function readFresh(dir: UserGitDir): Promise<FreshGitDir> {
  const listed = byteString(await run(dir, LIST_FRESH, {}));
  const end = listed.indexOf("\n");
  const names = listed.slice(end + 1).split("\0").filter((name) => name !== "")
    .map((name) => name.slice("./".length));
  const path = decode(listed.slice(0, end));
  const config = await readFile(dir, "config");
  const head = await readFile(dir, "HEAD");
  if (config === null || head === null) throw new UnusableGitDir(CAUSES[22] as string);
  const files = { config, HEAD: head, "info/exclude": await readFile(dir, "info/exclude") };
  return { path, names: names.map(decode), files, ...await readSettings(dir) };
}

function decode(bytes: string): string {
  return new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
}

async function readFile(dir: UserGitDir, name: string): Promise<Uint8Array | null> {
  const args = [name, String(FILE_MAX_BYTES + 1)];
  const { code, stdout } = await runShell(dir, 'exec head -c "$2" "$GIT_DIR/$1"', { args });
  if (stdout.length > FILE_MAX_BYTES) throw new UnusableGitDir(`its ${name} is too large`);
  return code === 0 ? stdout : null;
}

async function readSettings(
  dir: UserGitDir,
): Promise<Pick<FreshGitDir, "config" | "objectFormat" | "remoteUrl">> {
  const config = await readConfig(dir);
  const other = [...config.keys()].find((key) =>
    key === "core.worktree" || key.startsWith("extensions.") && key !== "extensions.objectformat"
  );
  if (other !== undefined) throw new UnusableGitDir(`its configuration has ${other}`);
  const remoteUrl = config.get("remote.origin.url")?.[0];
  if (remoteUrl === undefined) {
    throw new UnusableGitDir('it has no remote "origin"; see git help remote');
  }
  const format = config.get("extensions.objectformat")?.at(-1) ?? "sha1";
  if (format !== "sha1" && format !== "sha256") throw new UnusableGitDir(CAUSES[22] as string);
  return { config, objectFormat: format, remoteUrl };
}

/** Its own configuration, no included files; values by key, as git writes keys. */
async function readConfig(dir: UserGitDir): Promise<Map<string, string[]>> {
  const { stdout } = await runGit(["config", "--file", `${dir.gitDir}/config`, "--list", "-z"], {
    ...probeOptions(dir),
    stdoutMaxBytes: FILE_MAX_BYTES,
  });
  const config = new Map<string, string[]>();
  for (const line of new TextDecoder().decode(stdout).split("\0")) {
    if (line === "") continue;
    const [key = "", ...value] = line.split("\n");
    config.set(key, [...config.get(key) ?? [], value.join("\n")]);
  }
  return config;
}

/** What a fresh directory is filled with. */
export interface Filling {
  /** A directory that the owner can read, with the refs, index and files for it. */
  readonly from: string;
  readonly repoId: string;
  readonly head: { readonly ref: string | null; readonly commitOid: Oid };
  /** Of one that afs would have made. */
  readonly config: readonly ConfigEntry[];
  /** Entries whose values take the place of those that are there; all others are kept. */
  readonly replaces: (key: string) => boolean;
}

/** $1: what it is filled from; $2: the repository's id. */
const FILL = `
umask 022
${CHECK_FRESH}
printf '%s\\n' "$2" > afs-repo || exit 1
mkdir -p objects/info info || exit 1
cat "$1/info/exclude" > info/exclude && cp -R "$1/refs/." refs/ || exit 1
if [ -d "$1/logs" ]; then cp -R "$1/logs" logs || exit 1; fi
for name in objects/info/alternates packed-refs shallow index; do
  if [ -f "$1/$name" ]; then cp "$1/$name" "$name" || exit 1; fi
done
`;

const WRITE_FILE = 'cat > "$GIT_DIR/$1"';
const WRITE_HEAD =
  'umask 022; cat > "$GIT_DIR/HEAD.lock" && mv -f "$GIT_DIR/HEAD.lock" "$GIT_DIR/HEAD"';

/** Throws UnusableGitDir (nothing was changed), GitError (see restoreFresh). */
export async function fillFresh(dir: UserGitDir, filling: Filling): Promise<FreshFiles> {
  const { from, repoId, head, config, replaces } = filling;
  if (formatOf(head.commitOid) !== (await readSettings(dir)).objectFormat) {
    throw new UnusableGitDir("its object format is not the remote's; see git help init");
  }
  await run(dir, FILL, { args: [from, repoId] });
  await configure(dir, config, replaces);
  const text = head.ref === null ? head.commitOid : `ref: ${head.ref}`;
  const input = new TextEncoder().encode(`${text}\n`);
  await run(dir, WRITE_HEAD, { input });
  const now = async (name: string) => await readFile(dir, name);
  return {
    config: await now("config") ?? new Uint8Array(),
    HEAD: input,
    "info/exclude": await now("info/exclude"),
  };
}

async function configure(
  dir: UserGitDir,
  entries: readonly ConfigEntry[],
  replaces: Filling["replaces"],
): Promise<void> {
  const known = await readConfig(dir);
  const wanted = new Map<string, string[]>();
  for (const [section, subsection, name, value] of entries) {
    const key = [section, ...(subsection === null ? [] : [subsection]), name.toLowerCase()].join(
      ".",
    );
    wanted.set(key, [...wanted.get(key) ?? [], value]);
  }
  const edit = (...args: string[]) =>
    runGit(["config", "--file", `${dir.gitDir}/config`, ...args], probeOptions(dir));
  for (const [key, values] of wanted) {
    const there = known.get(key) ?? [];
    if (there.length > 0 && (!replaces(key) || there.join("\n") === values.join("\n"))) continue;
    const [first = "", ...others] = values;
    await edit("--replace-all", key, first);
    for (const other of others) await edit("--add", key, other);
  }
}

/**
 * $1: the repository's id; then the names that stay. What is not there any more, or is not ours,
 * stays as it is (5).
 */
const EMPTY = `
cd "$GIT_DIR" 2>/dev/null || exit 5
[ "$(head -c 64 afs-repo 2>/dev/null)" = "$1" ] || exit 5
shift
for entry in * .[!.]* ..?*; do
  stays=
  for name in afs-repo "$@"; do
    if [ "$entry" = "$name" ]; then stays=1; fi
  done
  [ -n "$stays" ] || rm -rf "./$entry" || exit 1
done
find refs objects ! -type d -exec rm -f {} +
find refs objects -mindepth 1 -depth -type d ! -path refs/heads ! -path refs/tags \\
  ! -path objects/info ! -path objects/pack -exec rmdir {} \\;
`;

/**
 * Makes it what it was, without commits, index and refs. Configuration and excluded paths that were
 * changed `since` stay as they are. Safe to repeat. Throws GitError.
 */
export async function restoreFresh(
  dir: UserGitDir,
  repoId: string,
  before: Pick<FreshGitDir, "names" | "files">,
  since: FreshFiles | null,
): Promise<void> {
  const { code } = await runShell(dir, EMPTY, { args: [repoId, ...before.names] });
  if (code === 5) return;
  if (code !== 0) throw new GitError("gitdir", code, `fatal: ${dir.gitDir} could not be emptied`);
  await run(dir, WRITE_HEAD, { input: before.files.HEAD });
  for (const name of ["config", "info/exclude"] as const) {
    const content = before.files[name];
    const now = await readFile(dir, name);
    const isOurs = since === null || now !== null && isSame(now, since[name]);
    if (!isOurs) continue;
    if (content !== null) await run(dir, WRITE_FILE, { args: [name], input: content });
    else await runShell(dir, 'rm -f "$GIT_DIR/$1"', { args: [name] });
  }
  await run(dir, 'rm -f "$GIT_DIR/afs-repo"', {});
}

function isSame(a: Uint8Array, b: Uint8Array | null): boolean {
  return b !== null && byteString(a) === byteString(b);
}

/** 1: it is not there; anything else: who knows. */
const FIND = `
if [ -d "$GIT_DIR" ]; then exit 0; fi
cd "\${GIT_DIR%/*}/" 2>/dev/null || exit 2
if [ -e "$GIT_DIR" ]; then exit 2; fi
exit 1
`;

/** Whether the directory is there at all. Throws GitError when that cannot be told. */
export async function hasGitDir(dir: UserGitDir): Promise<boolean> {
  const { code } = await runShell(dir, FIND);
  if (code === 0 || code === 1) return code === 0;
  throw new GitError("gitdir", code, `fatal: ${dir.gitDir} cannot be found`);
}

/** $1: the file. */
const READ_GITFILE = '[ -f "$1" ] && [ ! -L "$1" ] && exec head -c 8192 "$1"';

/** Whether a file is one that names the directory as its repository's. */
export async function isGitfileOf(dir: UserGitDir, path: string): Promise<boolean> {
  const { code, stdout } = await runShell(dir, READ_GITFILE, { args: [path] });
  return code === 0 && new TextDecoder().decode(stdout).trimEnd() === `gitdir: ${dir.gitDir}`;
}
