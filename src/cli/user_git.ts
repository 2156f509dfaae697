/**
 * Git as the user would run it, in their work tree and with their configuration, hooks and
 * terminal. (Git of ours, which does none of that, is src/git/process.ts.)
 */

import { Failure } from "../failure.ts";

/** They would lead git to another repository than the one it is run in. */
const OTHERS = [
  "GIT_DIR",
  "GIT_WORK_TREE",
  "GIT_COMMON_DIR",
  "GIT_INDEX_FILE",
  "GIT_OBJECT_DIRECTORY",
  "GIT_NAMESPACE",
  "GIT_PREFIX",
];

/**
 * Its exit code. Ctrl-C is the child's, which ends by it. `quiet`: what it prints goes to standard
 * error.
 */
export async function runUserGit(
  dir: string,
  args: readonly string[],
  { quiet = false }: { readonly quiet?: boolean } = {},
): Promise<number> {
  const ignore = () => {};
  Deno.addSignalListener("SIGINT", ignore);
  try {
    const child = spawn(dir, args, { stdout: quiet ? "piped" : "inherit", stderr: "inherit" });
    if (quiet) await child.stdout.pipeTo(Deno.stderr.writable, { preventClose: true });
    return (await child.status).code;
  } finally {
    Deno.removeSignalListener("SIGINT", ignore);
  }
}

/** What it prints, without its last newline; null when it fails. */
export async function userGitText(dir: string, args: readonly string[]): Promise<string | null> {
  const child = spawn(dir, args, { stdout: "piped", stderr: "null" });
  const [text, { success }] = await Promise.all([new Response(child.stdout).text(), child.status]);
  return success ? text.replace(/\n$/, "") : null;
}

function spawn(
  dir: string,
  args: readonly string[],
  streams: Pick<Deno.CommandOptions, "stdout" | "stderr">,
): Deno.ChildProcess {
  try {
    const stdin = streams.stderr === "inherit" ? "inherit" : "null";
    const options: Deno.CommandOptions = { args: ["-C", dir, ...args], stdin, ...streams };
    for (const name of OTHERS) Deno.env.delete(name);
    return new Deno.Command("git", hasCwd() ? options : { ...options, cwd: "/" }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure("fatal", "Cannot run git: it is not in PATH", { cause: error });
  }
}

/** Nothing can be started in a directory that has gone. Git keeps the one that it is started in. */
function hasCwd(): boolean {
  try {
    Deno.cwd();
    return true;
  } catch {
    return false;
  }
}
