import assert from "node:assert/strict";
import { completionScript, type Shell } from "./completion_scripts.ts";
import { definitionOf } from "./definitions.ts";
import { makeProgram } from "./main.ts";
import { manualPage } from "./manual_page.ts";

const DEFINITION = definitionOf(makeProgram());

/** What `afs list-repos` prints; a shell must not run what is in a name. */
const REPOS = [
  "repo=one state=mounted mount=/a",
  'repo="two words" state=mounted mount=/b',
  "repo=$(touch${IFS}$MARK) state=unmounted mount=/c",
  "repo=`touch` state=unmounted mount=/d",
  "repo=two.x-1 state=failed mount=/e",
  "repo=* state=failed mount=/f",
];

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program with a fake `afs` on its path; null: there is no such program. */
async function withShell(
  program: string,
  args: (dir: string) => string[],
): Promise<Ran | null> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${dir}/bin`);
    await Deno.mkdir(`${dir}/folder`);
    const lines = REPOS.map((line) => `'${line}'`).join(" ");
    await Deno.writeTextFile(`${dir}/bin/afs`, `#!/bin/sh\nprintf '%s\\n' ${lines}\n`);
    await Deno.chmod(`${dir}/bin/afs`, 0o755);
    for (const shell of ["bash", "zsh", "fish"] as const) {
      await Deno.writeTextFile(`${dir}/afs.${shell}`, completionScript(shell, DEFINITION));
    }
    await Deno.writeTextFile(`${dir}/afs.1`, manualPage(DEFINITION, "1.2.3"));
    const { code, stdout, stderr } = await new Deno.Command(program, {
      args: args(dir),
      cwd: dir,
      env: { PATH: `${dir}/bin:${Deno.env.get("PATH")}`, HOME: dir, MARK: `${dir}/ran` },
      stdin: "null",
    }).output();
    await assert.rejects(Deno.lstat(`${dir}/ran`), Deno.errors.NotFound);
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function isInstalled(program: string): Promise<boolean> {
  try {
    await new Deno.Command(program, { args: ["--version"], stdout: "null", stderr: "null" })
      .output();
    return true;
  } catch {
    return false;
  }
}

/** A test that needs a program; skipped by name without it. */
async function testWith(program: string, name: string, fn: () => Promise<void>): Promise<void> {
  const ignore = !await isInstalled(program);
  Deno.test({ name: ignore ? `${name} (skipped: there is no ${program})` : name, ignore, fn });
}

/** Words typed, and what is offered for the last. */
const CASES: readonly (readonly [words: readonly string[], offered: readonly string[]])[] = [
  [["st"], ["status"]],
  [["status", "--w"], ["--watch"]],
  [["status", "--name", ""], ["one", "two.x-1"]],
  [["status", "--json", "--name", "t"], ["two.x-1"]],
  [["mount", "--wait", ""], ["history"]],
  [["log-level", "w"], ["warning"]],
  [["completion", ""], ["bash", "fish", "zsh"]],
];

await testWith(
  "bash",
  "bash completes verbs, flags, values, repositories, directories",
  async () => {
    const cases: typeof CASES = [
      ...CASES,
      // As bash splits `--name=t`.
      [["status", "--name", "=", "t"], ["two.x-1"]],
      [["status", "--name", "="], ["one", "two.x-1"]],
      [["--v"], ["--version"]],
      [["unmount", "fol"], ["folder"]],
      // A new name is nobody's.
      [["mount", "--name", ""], []],
      [["shutdown", "x"], []],
    ];
    for (const [words, offered] of cases) {
      const script = 'source "$0/afs.bash"; COMP_WORDS=(afs "$@"); COMP_CWORD=$#; _afs afs; ' +
        '[[ ${#COMPREPLY[@]} = 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"';
      const ran = await withShell("bash", (dir) => ["-uc", script, dir, ...words]);
      assert.equal(ran?.stderr, "", words.join(" "));
      assert.deepEqual(ran?.stdout.split("\n").filter(Boolean).sort(), offered, words.join(" "));
    }
  },
);

await testWith("fish", "fish completes verbs, flags, values and repositories", async () => {
  for (const [words, offered] of CASES) {
    const script = `source $argv[1]/afs.fish; complete -C $argv[2]`;
    const line = ["afs", ...words].join(" ");
    const ran = await withShell("fish", (dir) => ["--no-config", "-c", script, dir, line]);
    const found = ran?.stdout.split("\n").filter(Boolean).map((each) => each.split("\t")[0]);
    assert.deepEqual(found?.sort(), offered, `${line}: ${ran?.stderr}`);
  }
});

await testWith("zsh", "zsh takes the completion", async () => {
  const script = 'compdef() { print $1 $2 }; source "$1/afs.zsh"; _afs_repos';
  const compadd = "compadd() { print $names }; ";
  const ran = await withShell("zsh", (dir) => ["-f", "-c", compadd + script, "zsh", dir]);
  assert.deepEqual([ran?.stdout, ran?.stderr], ["_afs afs\none two.x-1\n", ""]);
});

Deno.test("every verb and flag is in every script, and nothing that is hidden", () => {
  assert.ok(DEFINITION.verbs.length > 15);
  for (const shell of ["bash", "zsh", "fish"] as Shell[]) {
    const script = completionScript(shell, DEFINITION);
    for (const { name, flags } of DEFINITION.verbs) {
      assert.ok(script.includes(name), `${shell}: ${name}`);
      for (const flag of flags.flatMap(({ names }) => names)) {
        const typed = shell === "fish" ? flag.replace(/^-+/, "") : flag;
        if (shell !== "bash" || flag.startsWith("--")) assert.ok(script.includes(typed), flag);
      }
    }
    assert.doesNotMatch(script, /--background|-l background/);
  }
});

Deno.test("manual page: sections in order, every verb and flag, no line that forges a macro", () => {
  const page = manualPage(DEFINITION, "1.2.3");
  const macros = [".TH", ".SH", ".SS", ".TP", ".B", ".I"];
  for (const line of page.split("\n")) {
    if (/^[.']/.test(line)) assert.ok(macros.includes(line.split(" ")[0] as string), line);
  }
  assert.deepEqual([...page.matchAll(/^\.SH (.*)$/gm)].map(([, name]) => name), [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "COMMANDS",
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
  ]);
  for (const { name, flags } of DEFINITION.verbs) {
    assert.match(page, new RegExp(`^\\.SS "afs ${name.replaceAll("-", "\\\\-")}\\b`, "m"));
    for (const flag of flags.flatMap(({ names }) => names)) {
      assert.ok(page.includes(`\\fB${flag.replaceAll("-", "\\-")}\\fR`), flag);
    }
  }
});

await testWith("man", "man shows the manual page without a warning", async () => {
  const args = (dir: string) => ["--warnings", "-l", "-P", "cat", `${dir}/afs.1`];
  const ran = await withShell("man", args);
  assert.deepEqual([ran?.code, ran?.stderr], [0, ""]);
  // deno-lint-ignore no-control-regex -- how nroff prints bold
  const plain = ran?.stdout.replace(/.\x08|\x1b\[[0-9;]*m/g, "") ?? "";
  assert.match(plain, /^NAME\n\s+afs\s+-\s+mounts Git repositories/m);
  assert.match(plain, /--metrics-port <port>/);
  assert.match(plain, /^EXIT STATUS$/m);
});
