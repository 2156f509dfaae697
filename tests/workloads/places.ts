/**
 * The same work in a mount and in a clone on local disk. Both are seen at one path, each in a mount
 * namespace of its own, so that also what holds absolute paths (debug information, lock files)
 * must be the same byte for byte.
 */

import assert from "node:assert/strict";
import { type Lab } from "../mount/harness.ts";
import { git, type RunResult } from "../support/run.ts";
import type { Files } from "./projects.ts";

export interface Places {
  readonly mount: string;
  readonly local: string;
  /** Where the work sees its tree. */
  readonly work: string;
}

/** A repository with one commit of these files. "PATH" ending in `.sh` is executable. */
export async function commitFiles(gitDir: string, files: Files): Promise<void> {
  let script = "commit refs/heads/main\ncommitter T <t@example.com> 1700000000 +0000\ndata 0\n";
  for (const [path, content] of files) {
    const mode = path.endsWith(".sh") ? "100755" : "100644";
    script += `M ${mode} inline ${path}\ndata ${new TextEncoder().encode(content).length}\n`;
    script += `${content}\n`;
  }
  await git(["init", "-q", "--bare", gitDir]);
  await git(["-C", gitDir, "fast-import", "--quiet"], { stdin: script });
  await git(["-C", gitDir, "config", "uploadpack.allowFilter", "true"]);
  await git(["-C", gitDir, "config", "uploadpack.allowAnySHA1InWant", "true"]);
}

/** Starts a daemon; a mount and a clone of the repository. */
export async function makePlaces(lab: Lab, gitDir: string): Promise<Places> {
  await lab.startDaemon();
  const url = `file://${gitDir}`;
  const places = {
    mount: await lab.mount(url, "tree", "--wait=history"),
    local: lab.at("local"),
    work: lab.at("work"),
  };
  await git(["clone", "-q", url, places.local]);
  await Deno.mkdir(places.work);
  return places;
}

const IN_PLACE = `mount --bind "$1" "$2"; cd "$2"; umask 022; eval "$3"`;

/** Runs a shell script in a tree, seen at `work`. */
export async function inPlace(
  lab: Lab,
  { work }: Places,
  tree: string,
  script: string,
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  // A private namespace: the bind mount is gone when the last process of it has ended.
  return await lab.sh('exec unshare -m sh -euc "$@"', [IN_PLACE, "sh", tree, work, script], {
    env: { ...TOOL_ENV, ...env },
    timeoutMs: 20 * 60_000,
  });
}

/** Where tools look for what they need, although HOME is the test's. */
const TOOL_ENV: Readonly<Record<string, string>> = (() => {
  const home = Deno.env.get("HOME") ?? "";
  const network = ["http_proxy", "https_proxy", "no_proxy"].flatMap((name) => [
    name,
    name.toUpperCase(),
  ]).concat("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO");
  return {
    ...Object.fromEntries(network.flatMap((name) => {
      const value = Deno.env.get(name);
      return value === undefined ? [] : [[name, value]];
    })),
    RUSTUP_HOME: Deno.env.get("RUSTUP_HOME") ?? `${home}/.rustup`,
    CARGO_HOME: Deno.env.get("CARGO_HOME") ?? `${home}/.cargo`,
    npm_config_userconfig: `${home}/.npmrc`,
    DENO_DIR: Deno.env.get("DENO_DIR") ?? `${home}/.cache/deno`,
    GIT_AUTHOR_NAME: "T",
    GIT_AUTHOR_EMAIL: "t@example.com",
    GIT_AUTHOR_DATE: "1700000001 +0000",
    GIT_COMMITTER_NAME: "T",
    GIT_COMMITTER_EMAIL: "t@example.com",
    GIT_COMMITTER_DATE: "1700000001 +0000",
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "protocol.file.allow",
    GIT_CONFIG_VALUE_0: "always",
  };
})();

/**
 * Kinds, modes, link counts, sizes, link targets and bytes; what git says differs. Paths that match
 * the extended regular expression are left out; the root's `.git` always.
 */
const STATE = `{
  find . -mindepth 1 ! -type d -printf '%P %y %m %n %s %l\\n'
  find . -mindepth 1 -type d -printf '%P %y %m\\n'
  find . -type f -exec sha256sum {} +
  git status --porcelain -uall
} | grep -Ev -e '^([0-9a-f]{64}  \\./)?\\.git[/ ]|^[0-9a-f]{64}  \\./\\.git$' \${IGNORE:+-e "$IGNORE"} |
  LC_ALL=C sort`;

export async function stateOf(
  lab: Lab,
  places: Places,
  tree: string,
  ignore = "",
): Promise<string> {
  return (await inPlace(lab, places, tree, STATE, { IGNORE: ignore })).stdout;
}

/**
 * Does the work in both places; what it prints and what it leaves must be the same, and it must not
 * complain. Returns what it printed.
 */
export async function same(
  lab: Lab,
  places: Places,
  script: string,
  { ignore = "", silent = true }: { ignore?: string; silent?: boolean } = {},
): Promise<string> {
  const local = await inPlace(lab, places, places.local, script);
  const mount = await inPlace(lab, places, places.mount, script);
  assert.equal(mount.stdout, local.stdout);
  if (silent) assert.deepEqual([mount.stderr, local.stderr], ["", ""]);
  const expected = await stateOf(lab, places, places.local, ignore);
  assert.equal(await stateOf(lab, places, places.mount, ignore), expected);
  return mount.stdout;
}
