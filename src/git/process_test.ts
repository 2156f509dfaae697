import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { gitCauseOf, gitFailure } from "./errors.ts";
import { checkVersion, GitError, gitText, gitVersion, runGit } from "./process.ts";

Deno.test("runGit: output, input, failure", async () => {
  assert.match(await gitVersion(), /^\d+\.\d+/);
  const stdin = new TextEncoder().encode("hello\n");
  assert.equal(
    await gitText(["hash-object", "--stdin"], { stdin }),
    "ce013625030ba8dba906f756967f9e9ca394464a",
  );
  await assert.rejects(runGit(["rev-parse"], { gitDir: "/nowhere" }), (error: unknown) => {
    assert.ok(error instanceof GitError);
    assert.equal(error.code, 128);
    return /not a git repository/.test(error.message);
  });
});

Deno.test("runGit: other repositories and traces of the environment do not reach git", async () => {
  const child = await new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `import { runGit } from ${JSON.stringify(import.meta.resolve("./process.ts"))};
       const { stdout, stderr } = await runGit(["-c", "alias.env=!env", "env"]);
       console.log(new TextDecoder().decode(stdout), stderr);`,
    ],
    env: {
      GIT_INDEX_FILE: "/x",
      GIT_OBJECT_DIRECTORY: "/x",
      GIT_TRACE: "1",
      GIT_TRACE_CURL: "1",
      GIT_SSH_COMMAND: "my-ssh",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "http.proxy",
      GIT_CONFIG_VALUE_0: "http://proxy",
    },
  }).output();
  const text = new TextDecoder().decode(child.stdout);
  assert.doesNotMatch(text, /GIT_INDEX_FILE|GIT_OBJECT_DIRECTORY|trace:/);
  assert.match(text, /^GIT_TERMINAL_PROMPT=0$/m, new TextDecoder().decode(child.stderr));
  assert.match(text, /^GIT_SSH_COMMAND=my-ssh$/m);
  assert.match(text, /^GIT_CONFIG_VALUE_0=http:\/\/proxy$/m);
});

Deno.test("runGit: progress and redaction", async () => {
  const lines: string[] = [];
  const script =
    `!printf 'A: 10%%\\rA: 20%%\\rh: no\\r\\nfatal: https://u:pw12@host/x\\n' >&2; exit 1; :`;
  const run = runGit(["say"], { config: [`alias.say=${script}`], onStderr: (l) => lines.push(l) });
  await assert.rejects(
    run,
    (error: unknown) => {
      assert.ok(error instanceof GitError);
      assert.equal(error.stderr, "h: no\nfatal: https://***@host/x\n");
      return !/pw12/.test(error.message);
    },
  );
  assert.deepEqual(lines.slice(0, 2), ["A: 10%", "A: 20%"]);
  assert.doesNotMatch(lines.join(), /pw12/);
});

Deno.test("runGit: an abort and a time limit end helpers too", async () => {
  const config = ["alias.wait=!sleep 30 & wait; :"];
  const start = Date.now();
  await assert.rejects(runGit(["wait"], { config, timeoutMs: 100 }), { name: "TimeoutError" });
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error("stop")), 100);
  await assert.rejects(runGit(["wait"], { config, signal: abort.signal }), /stop/);
  assert.ok(Date.now() - start < 10_000);
});

Deno.test("checkVersion", () => {
  assert.equal(checkVersion("git version 2.39.5 (Apple Git-154)"), "2.39.5");
  assert.equal(checkVersion("git version 3.0.0"), "3.0.0");
  for (const text of ["git version 2.35.1", "git version 1.9", "busybox"]) {
    assert.throws(() => checkVersion(text), Failure);
  }
});

Deno.test("gitFailure: kinds of git's failures", () => {
  const cases: [string, string, Failure["kind"]][] = [
    ["fatal: repository 'https://h/x/' not found", "no-repository", "failed"],
    [
      "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
      "no-repository",
      "failed",
    ],
    ["fatal: '/x' does not appear to be a git repository", "no-repository", "failed"],
    [
      "fatal: could not read Username for 'https://h': terminal prompts disabled",
      "authentication",
      "authentication",
    ],
    ["fatal: Authentication failed for 'https://h/x/'", "authentication", "authentication"],
    [
      "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
      "authentication",
      "authentication",
    ],
    [
      "fatal: unable to access 'https://h/': The requested URL returned error: 403",
      "authentication",
      "authentication",
    ],
    [
      "Host key verification failed.\nfatal: Could not read from remote repository.",
      "host-key",
      "authentication",
    ],
    ["fatal: unable to access 'https://h/': Could not resolve host: h", "network", "network"],
    [
      "fatal: unable to access 'http://h/': Failed to connect to h port 1: Connection refused",
      "network",
      "network",
    ],
    [
      "fatal: unable to access 'http://h/': The requested URL returned error: 503",
      "network",
      "network",
    ],
    [
      "error: RPC failed; curl 18 transfer closed\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
      "network",
      "network",
    ],
    [
      "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
      "network",
      "network",
    ],
    ["fatal: http://h/x/info/refs not valid: is this a git repository?", "not-git", "failed"],
    [
      "warning: Could not find remote branch b to clone.\nfatal: Remote branch b not found in upstream origin",
      "no-branch",
      "failed",
    ],
    [
      "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output",
      "disk-full",
      "failed",
    ],
    ["fatal: detected dubious ownership in repository at '/x'", "ownership", "failed"],
    [
      "fatal: dumb http transport does not support shallow capabilities",
      "shallow-unsupported",
      "failed",
    ],
    ["fatal: transport 'ext' not allowed", "protocol", "usage"],
    ["fatal: something new", "other", "failed"],
  ];
  for (const [stderr, cause, kind] of cases) {
    const error = new GitError("clone", 128, `${stderr}\n`);
    assert.equal(gitCauseOf(error), cause, stderr);
    const failure = gitFailure("mount https://h/x", error);
    assert.equal(failure.kind, kind, stderr);
    assert.match(failure.message, /^Cannot mount https:\/\/h\/x: [^\n]+$/);
  }
});
