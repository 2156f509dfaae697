/** Shell scripts in the user's git directory, for what git has no command for: with its owner's rights. */

import { TIMEOUT_MS, type UserGitDir } from "./user_git_dir.ts";

export interface ShellOptions {
  /** `$1` and on. */
  readonly args?: readonly string[];
  readonly input?: Uint8Array;
}

export interface ShellOutput {
  readonly code: number;
  readonly stdout: Uint8Array<ArrayBuffer>;
}

/** GIT_DIR names the directory. A script that hangs is ended. */
export async function runShell(
  dir: UserGitDir,
  script: string,
  { args = [], input = new Uint8Array() }: ShellOptions = {},
): Promise<ShellOutput> {
  const child = new Deno.Command("sh", {
    args: ["-c", script, "sh", ...args],
    cwd: "/",
    env: { GIT_DIR: dir.gitDir, LC_ALL: "C" },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...(dir.owner === null ? {} : { uid: dir.owner.uid, gid: dir.owner.gid }),
  }).spawn();
  const writer = child.stdin.getWriter();
  const written = writer.write(input).then(() => writer.close()).catch(() => {});
  const [stdout, { code }] = await Promise.all([
    new Response(child.stdout).arrayBuffer(),
    child.status,
    written,
  ]);
  return { code, stdout: new Uint8Array(stdout) };
}
