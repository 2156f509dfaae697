/**
 * What the compiled binary's workers may do (design section 2). The real code starts them, with the
 * permissions it really sets: a copy of the sources is compiled as scripts/build does. Only the
 * entries of the workers, and the program's own, are probes that try things and write down what
 * came of it.
 */

import assert from "node:assert/strict";
import { run, withTempDir } from "../support/run.ts";

const ROOT = decodeURIComponent(new URL("../..", import.meta.url).pathname);

/** Runs in each worker; `dir` is the folder that is its own. */
const PROBE = `
type Outcome = "yes" | "no" | string;
async function attempt(work: () => unknown): Promise<Outcome> {
  try {
    await work();
    return "yes";
  } catch (error) {
    return error instanceof Deno.errors.NotCapable ? "no" : String(error);
  }
}
const REMOTE_PORT = 9;
export async function probe(dir: string, other: string): Promise<Record<string, Outcome>> {
  const command = (name: string, ...args: string[]) =>
    new Deno.Command(name, { args, stdout: "null", stderr: "null", clearEnv: true }).output();
  return {
    "read its folder": await attempt(() => Deno.readTextFileSync(dir + "/mine")),
    "write its folder": await attempt(() => Deno.writeTextFileSync(dir + "/written", "")),
    "read another folder": await attempt(() => Deno.readTextFileSync(other + "/secret")),
    "read by ..": await attempt(() => Deno.readTextFileSync(dir + "/../other/secret")),
    "list the folder above": await attempt(() => [...Deno.readDirSync(dir + "/..")]),
    "write another folder": await attempt(() => Deno.writeTextFileSync(other + "/written", "")),
    "make a link out": await attempt(() => Deno.symlinkSync(other, dir + "/new-link")),
    "read /etc/passwd": await attempt(() => Deno.readTextFileSync("/etc/passwd")),
    "run git": await attempt(() => command("git", "--version")),
    "run sh": await attempt(() => command("sh", "-c", "true")),
    "run ssh": await attempt(() => command("ssh", "-V")),
    "connect": await attempt(() => Deno.connect({ hostname: "127.0.0.1", port: 80 })),
    "connect to the remote": await attempt(async () => (await Deno.connect({ hostname: "127.0.0.1", port: REMOTE_PORT })).close()),
    "listen": await attempt(() => Deno.listen({ port: 0 }).close()),
    "connect to the host of the socket": await attempt(() => Deno.connect({ hostname: "localhost", port: 80 })),
    "ffi": await attempt(() => Deno.dlopen("libc.so.6", { getpid: { parameters: [], result: "i32" } })),
    "env SECRET": await attempt(() => Deno.env.get("AFS_SECRET")),
    "env all": await attempt(() => Deno.env.toObject()),
    "env PATH": await attempt(() => Deno.env.get("PATH")),
    "hostname": await attempt(() => Deno.hostname()),
    "worker with more": await attempt(() =>
      new Worker("data:text/javascript,", { type: "module", deno: { permissions: { run: true, net: true } } })),
  };
}
`;

const WORKER = (file: string) => `
import { probe } from "../../probe.ts";
let started = false;
self.onmessage = (event) => {
  if (started) return;
  started = true;
  const data = event.data;
  const base = data.basePath ?? data.config.basePath;
  const dir = base.slice(0, base.lastIndexOf("/"));
  probe(dir, dir + "/../other").then((outcome) =>
    Deno.writeTextFileSync(dir + "/" + ${JSON.stringify(file)}, JSON.stringify(outcome)));
};
`;

/** It may write nowhere. */
const NOTIFIER = `
import { probe } from "../../probe.ts";
self.onmessage = ({ data }) => probe(data, data + "/../other").then((outcome) => self.postMessage(outcome));
`;

const MAIN = `
import { StoreWorkers } from "./src/daemon/store_workers.ts";
import { MountHandle, spawnMountWorker } from "./src/mount/handle.ts";
import { spawnNotifier } from "./src/mount/notifier.ts";
import { layoutOf } from "./src/repo/layout.ts";

const root = Deno.args[0];
const layout = layoutOf(root);
const store = layout.store("own");
const ended = (cause) => { console.error(cause); Deno.exit(1); };
const options = {
  layout: store, remoteUrl: "http://127.0.0.1:9/x", hydrationConcurrency: 1, onFetched() {}, onCrash: ended,
};
new StoreWorkers(options).start("sha1");
new MountHandle({
  repoId: "0123456789abcdef", repoName: "probe", mountPoint: "/nowhere", source: "probe", basePath: store.basePath,
  overlayDir: store.dir + "/overlay", xattrs: false, umask: 18, readOnly: false,
  uid: 0, gid: 0,
  userGitDir: "", isGitDirElsewhere: false, stateRoot: root,
}, { objectFormat: "sha1", rootTreeId: "", baseTimeSeconds: 0 },
  spawnMountWorker([store.dir]), () => {}).started().catch(ended);
const notifier = spawnNotifier();
notifier.onmessage = ({ data }) => Deno.writeTextFileSync(store.dir + "/notifier", JSON.stringify(data));
notifier.postMessage(store.dir);
const files = ["hydrator", "indexer", "mount", "notifier"].map((name) => store.dir + "/" + name);
const there = (path) => { try { return Deno.statSync(path).size > 0; } catch { return false; } };
const timer = setInterval(() => {
  if (!files.every(there)) return;
  clearInterval(timer);
  const read = (path) => [path.split("/").at(-1), JSON.parse(Deno.readTextFileSync(path))];
  console.log(JSON.stringify(Object.fromEntries(files.map(read))));
  Deno.exit(0);
}, 20);
`;

/** For all of them. */
const CONFINED = {
  "read its folder": "yes",
  "write its folder": "yes",
  "read another folder": "no",
  "read by ..": "no",
  "list the folder above": "no",
  "write another folder": "no",
  // Deno compares paths and does not resolve links, so this is what keeps the others true.
  "make a link out": "no",
  "read /etc/passwd": "no",
  "run ssh": "no",
  "connect": "no",
  "connect to the remote": "no",
  "listen": "no",
  "connect to the host of the socket": "no",
  "env SECRET": "no",
  "env all": "no",
  "hostname": "no",
  "worker with more": "no",
};

Deno.test("workers: what each may do in a compiled program", () =>
  withTempDir(async (dir) => {
    const checkout = dir.at("checkout");
    await Deno.mkdir(checkout);
    const parts = ["src", "scripts", "deno.json", "deno.lock"];
    await run("cp", ["-r", ...parts.map((part) => ROOT + part), checkout]);
    // Denort and deno lie there, where they are not on PATH.
    await Deno.symlink(`${ROOT}.tools`, `${checkout}/.tools`);
    await Deno.writeTextFile(`${checkout}/probe.ts`, PROBE);
    await Deno.writeTextFile(`${checkout}/main.ts`, MAIN);
    for (
      const [path, file] of [["hydrate", "hydrator"], ["snapshot", "indexer"], ["mount", "mount"]]
    ) {
      await Deno.writeTextFile(`${checkout}/src/${path}/worker.ts`, WORKER(file ?? ""));
    }
    await Deno.writeTextFile(`${checkout}/src/mount/notifier_worker.ts`, NOTIFIER);
    await run("sh", [`${checkout}/scripts/build`], { timeoutMs: 300_000 });

    const root = dir.at("state");
    const own = `${root}/stores/own`;
    await run("mkdir", ["-p", own, `${root}/stores/other`, `${root}/repos/own`]);
    await Deno.writeTextFile(`${own}/mine`, "");
    await Deno.writeTextFile(`${root}/stores/other/secret`, "");
    const { stdout } = await run(`${checkout}/dist/afs`, [root], { env: { AFS_SECRET: "secret" } });
    const outcomes = JSON.parse(stdout);
    const store = { ...CONFINED, "run git": "yes", "ffi": "no", "env PATH": "no" };
    assert.equal(outcomes.indexer["connect to the remote"], "no");
    for (const name of ["hydrator", "indexer"]) {
      // Git runs any command that its configuration names, so a shell beside it opens nothing more.
      delete outcomes[name]["run sh"];
      // There is no server, but the hydrator may look for it.
      const remote = outcomes[name]["connect to the remote"];
      if (name === "hydrator") assert.match(remote, /refused/);
      assert.deepEqual({ ...outcomes[name], "connect to the remote": "no" }, store, name);
    }
    // Only these may use ffi, which reaches everything: they see names and oids, no packs.
    const withFfi = {
      ...CONFINED,
      "run git": "no",
      "run sh": "no",
      "ffi": "yes",
      "env PATH": "no",
    };
    assert.deepEqual(outcomes.mount, withFfi);
    const nothing = { "read its folder": "no", "write its folder": "no" };
    assert.deepEqual(outcomes.notifier, { ...withFfi, ...nothing });
  }));
