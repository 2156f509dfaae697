/**
 * The scripts on a machine that has `sh`, `git` and one way to get Deno. Each way downloads once;
 * what does not depend on the way is tested with the deno that runs this.
 */

import assert from "node:assert/strict";
import { exists, Machine, NOBODY, pathOf, type Result, ROOT, zipOf } from "./bootstrap_support.ts";

const VERSION = Deno.version.deno;
const isRoot = Deno.uid() === 0;
const host = Deno.build.arch === "x86_64" ? "linux-x64" : "linux-arm64";

function succeeded(result: Result): Result {
  assert.equal(result.code, 0, `${result.stdout}\n${result.stderr}`);
  return result;
}

function denoOf(machine: Machine): string | undefined {
  const path = `${machine.checkout}/.tools/bin/deno`;
  if (!exists(path)) return undefined;
  const { stdout } = new Deno.Command(path, { args: ["--version"] }).outputSync();
  return new TextDecoder().decode(stdout).split(" ")[1];
}

/** Shows its arguments and nothing else. */
const SHOW_ARGS = "console.log(JSON.stringify(Deno.args)); Deno.exit(Deno.args.length);\n";

Deno.test({
  name: "npm alone, as another user: from nothing to a program, then at once and offline",
  ignore: pathOf("npm") === undefined,
  async fn() {
    using machine = await Machine.create();
    const user = isRoot ? { uid: NOBODY } : {};
    if (isRoot) machine.chown(NOBODY);
    const first = succeeded(
      await machine.sh(["scripts/afs", "--help"], { tools: ["npm"], ...user }),
    );
    assert.match(first.stderr, /with npm/);
    assert.notEqual(first.stdout, "");

    const second = succeeded(
      await machine.sh(["scripts/afs", "--help"], { isOffline: true }),
    );
    assert.equal(second.stdout, first.stdout);
    assert.equal(second.stderr, "");
    assert.ok(second.seconds < 5, `${second.seconds} s`);
    // A build needs no network either, once all is there.
    succeeded(await machine.sh(["scripts/build"], { isOffline: true }));
    assert.deepEqual(machine.strays(), []);
  },
});

Deno.test({
  name: "pip alone, without HOME",
  ignore: pathOf("pip3") === undefined,
  async fn() {
    using machine = await Machine.create();
    machine.seedDenort();
    const options = { tools: ["pip3", "python3"], isHomeUnset: true };
    const { stdout, stderr } = succeeded(await machine.sh(["scripts/setup"], options));
    assert.match(stderr, /with pip/);
    assert.equal(stdout, "");
    assert.equal(denoOf(machine), VERSION);
    const again = succeeded(
      await machine.sh(["scripts/setup"], { isOffline: true, isHomeUnset: true }),
    );
    assert.equal(again.stderr, "");
    assert.deepEqual(machine.strays(), []);
  },
});

Deno.test({
  name: "curl alone, with each program that unpacks",
  ignore: pathOf("curl") === undefined,
  async fn(t) {
    using releases = new Releases(Deno.readFileSync(Deno.execPath()));
    using machine = await Machine.create();
    machine.seedDenort();
    const env = { AFS_DENO_DOWNLOAD_BASE: releases.url };

    for (const unpacker of ["unzip", "python3", "bsdtar", "busybox"]) {
      await t.step({
        name: unpacker,
        ignore: pathOf(unpacker) === undefined,
        async fn() {
          const options = { tools: ["curl", unpacker], env };
          const { stderr } = succeeded(await machine.sh(["scripts/setup"], options));
          assert.match(stderr, /with curl/);
          assert.equal(denoOf(machine), VERSION);
          Deno.removeSync(`${machine.checkout}/.tools/bin/deno`);
        },
      });
    }
    await t.step("none", async () => {
      const { code, stderr } = await machine.sh(["scripts/setup"], { tools: ["curl"], env });
      assert.equal(code, 1);
      assert.match(stderr, /install unzip/);
    });
    assert.deepEqual(machine.strays(), []);
  },
});

Deno.test({
  name: "a download with other bytes is not used",
  ignore: pathOf("curl") === undefined || pathOf("python3") === undefined,
  async fn() {
    const bytes = Deno.readFileSync(Deno.execPath());
    bytes[bytes.length - 1]! ^= 1;
    using releases = new Releases(bytes);
    using machine = await Machine.create();
    const { code, stderr } = await machine.sh(["scripts/setup"], {
      tools: ["curl", "python3"],
      env: { AFS_DENO_DOWNLOAD_BASE: releases.url },
    });
    assert.equal(code, 1);
    assert.match(stderr, /checksum/);
    assert.equal(denoOf(machine), undefined);
  },
});

Deno.test("nothing to get Deno with, or a Deno of another version: says what to install", async () => {
  using machine = await Machine.create();
  const bin = `${machine.outside}/bin`;
  Deno.mkdirSync(bin);
  Deno.writeTextFileSync(`${bin}/deno`, "#!/bin/sh\necho deno 2.0.0\n", { mode: 0o755 });
  for (const path of ["", `${bin}:`]) {
    const command = `PATH=${path}$PATH exec sh scripts/afs mount x`;
    const { code, stdout, stderr } = await machine.sh(["-c", command]);
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /^Cannot set up: .*install npm, pip or curl.*\n$/);
  }
  const checks = await machine.sh([".ci/run"]);
  assert.equal(checks.code, 1);
  assert.equal(checks.stdout, "0 passed, 1 failed, 0 skipped\n");
});

Deno.test("a deno of the pinned version on PATH", async (t) => {
  using machine = await Machine.create();
  machine.seedDenort();
  machine.replaceProgram(SHOW_ARGS);
  const options = { tools: ["deno"] };
  const binary = `${machine.checkout}/dist/afs`;
  const builtAt = () => Deno.statSync(binary).ino;

  await t.step("is used, two scripts at the same moment build once", async () => {
    const args = ["scripts/afs", "a b", "", "--json", "*"];
    const both = await Promise.all([machine.sh(args, options), machine.sh(args, options)]);
    for (const { code, stdout, stderr } of both) {
      assert.equal(stdout, '["a b","","--json","*"]\n', stderr);
      assert.equal(code, 4);
    }
    const log = both.map(({ stderr }) => stderr).join("");
    assert.equal(log, "afs build: compiling dist/afs\n");
    assert.deepEqual(machine.strays(), []);
  });

  await t.step("two at the same moment without flock", async () => {
    Deno.removeSync(`${machine.checkout}/dist`, { recursive: true });
    Deno.removeSync(`${machine.checkout}/.tools/bin`, { recursive: true });
    const args = ["scripts/afs"];
    const slim = { ...options, without: ["flock"] };
    for (const result of await Promise.all([machine.sh(args, slim), machine.sh(args, slim)])) {
      assert.equal(succeeded(result).stdout, "[]\n");
    }
    const left = [...Deno.readDirSync(`${machine.checkout}/dist`)].map(({ name }) => name);
    assert.deepEqual(left, ["afs"]);
  });

  await t.step("the second run builds nothing and needs no network", async () => {
    const before = builtAt();
    const { stdout, stderr, seconds } = succeeded(
      await machine.sh(["scripts/afs"], { isOffline: true }),
    );
    assert.equal(stdout + stderr, "[]\n");
    assert.ok(seconds < 5, `${seconds} s`);
    assert.equal(builtAt(), before);
  });

  await t.step("a change of the sources builds again", async () => {
    machine.write("src/changed.ts", "");
    const before = builtAt();
    succeeded(await machine.sh(["scripts/afs"], options));
    const between = builtAt();
    assert.notEqual(between, before);
    Deno.removeSync(`${machine.checkout}/src/changed.ts`);
    succeeded(await machine.sh(["scripts/afs"], options));
    assert.notEqual(builtAt(), between);
  });

  await t.step("a build that fails leaves the old program and says why", async () => {
    const before = builtAt();
    machine.write("main.ts", 'import "./absent.ts";\n');
    const { code, stdout, stderr } = await machine.sh(["scripts/afs"], options);
    assert.notEqual(code, 0);
    assert.equal(stdout, "");
    assert.match(stderr, /absent\.ts/);
    assert.equal(builtAt(), before);
    machine.write("main.ts", SHOW_ARGS);
  });

  await t.step("from another folder", async () => {
    const command = 'cd / && exec sh "$OLDPWD/scripts/afs"';
    assert.equal(succeeded(await machine.sh(["-c", command], options)).stdout, "[]\n");
  });

  await t.step("targets", async () => {
    const refused = await machine.sh(["scripts/build", "--target", "darwin-arm64"], options);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^Cannot build for darwin-arm64: .*\n$/);
    for (const args of [["--target", "win32-x64"], ["--target"], ["--targt"]]) {
      assert.equal((await machine.sh(["scripts/build", ...args], options)).code, 129);
    }
    const other = host === "linux-x64" ? "linux-arm64" : "linux-x64";
    succeeded(await machine.sh(["scripts/build", "--target", other], options));
    const machineOf = (path: string) => Deno.readFileSync(path)[18];
    const EM_X86_64 = 62;
    const EM_AARCH64 = 183;
    const expected = other === "linux-x64" ? EM_X86_64 : EM_AARCH64;
    assert.equal(machineOf(`${machine.checkout}/dist/afs-${other}`), expected);
    assert.deepEqual(machine.strays(), []);
  });
});

Deno.test("the program is quiet about programs of --allow-run that are not installed", async () => {
  const binary = `${ROOT}/dist/afs`;
  const { stderr } = await new Deno.Command(binary, {
    args: ["--help"],
    env: { PATH: "/nonexistent" },
  }).output();
  assert.doesNotMatch(new TextDecoder().decode(stderr), /allow-run/);
});

/** A folder laid out as Deno's own download host, with one executable. */
class Releases {
  readonly #dir = Deno.makeTempDirSync({ prefix: "afs-releases-" });
  readonly url = `file://${this.#dir}`;

  constructor(executable: Uint8Array) {
    const triple = `${Deno.build.arch}-unknown-linux-gnu`;
    Deno.mkdirSync(`${this.#dir}/v${VERSION}`);
    using zip = Deno.openSync(`${this.#dir}/v${VERSION}/deno-${triple}.zip`, {
      write: true,
      create: true,
    });
    for (const part of zipOf("deno", executable)) {
      for (let at = 0; at < part.length;) at += zip.writeSync(part.subarray(at));
    }
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#dir, { recursive: true });
  }
}
