/**
 * The first `git status` in a mount, with a plain folder in the place of the mount: the files of the
 * monitor are real files here, and what git must not look at is not there at all.
 */

import assert from "node:assert/strict";
import { Random } from "../../tests/support/git_objects.ts";
import { readFsmonitor } from "../git/fsmonitor.ts";
import { type Index, parseIndex } from "../git/index_file.ts";
import { readUntrackedCache, type UntrackedDirectory } from "../git/untracked_cache.ts";
import { firstToken, syntheticDirName } from "../monitor_names.ts";
import { inoOf } from "../vfs/ino.ts";
import { BASE_INOS } from "./base_stats.ts";
import { type Ground, onGround } from "./testing.ts";
import type { RepoRecord } from "./types.ts";

/** What git did, from its own trace. */
interface Looks {
  readonly stdout: string;
  readonly stderr: string;
  /** Directories opened, and files lstat-ed. */
  readonly opened: number;
  readonly stats: number;
  /** Runs of the hook. */
  readonly asked: number;
}

interface TraceEvent {
  readonly event: string;
  readonly key?: string;
  readonly value?: string;
  readonly argv?: readonly string[];
}

class Place {
  readonly record: RepoRecord;
  readonly ground: Ground;
  readonly dir: string;
  readonly indexPath: string;

  constructor(ground: Ground, record: RepoRecord) {
    this.ground = ground;
    this.record = record;
    this.dir = record.mountPoint;
    this.indexPath = `${ground.layout.repo(record.id).userGitDir}/index`;
  }

  /** An empty work tree but for its gitfile. */
  async make(): Promise<void> {
    await Deno.mkdir(this.dir);
    const { userGitDir } = this.ground.layout.repo(this.record.id);
    await Deno.writeTextFile(`${this.dir}/.git`, `gitdir: ${userGitDir}\n`);
  }

  /** All files of the commit. */
  async fill(): Promise<void> {
    const tree = await this.ground.workTreeOf(this.record);
    await Deno.remove(`${tree}/.git`);
    for await (const { name } of Deno.readDir(tree)) {
      await Deno.rename(`${tree}/${name}`, `${this.dir}/${name}`);
    }
  }

  /** What the monitor answers for a token. */
  async answer(token: string, paths: readonly string[], next = `${token}+`): Promise<void> {
    const folder = `${this.dir}/${syntheticDirName(this.record.id)}/fsmonitor`;
    await Deno.mkdir(folder, { recursive: true });
    const text = [next, ...paths].map((each) => `${each}\0`).join("");
    await Deno.writeTextFile(`${folder}/t-${token}`, text);
    // A file answers here, whoever asks.
    const config = `${this.ground.layout.repo(this.record.id).userGitDir}/config`;
    const before = await Deno.readTextFile(config);
    await Deno.writeTextFile(config, before.replace("~$$", () => ""));
  }

  get token(): string {
    return firstToken(this.record.id);
  }

  async index(): Promise<Index> {
    return parseIndex(await Deno.readFile(this.indexPath), this.record.objectFormat);
  }

  async git(...args: string[]): Promise<Looks> {
    const trace = `${this.ground.dir}/trace-${crypto.randomUUID()}`;
    const output = await new Deno.Command("git", {
      args,
      cwd: this.dir,
      env: {
        GIT_CONFIG_GLOBAL: "/dev/null",
        GIT_CONFIG_NOSYSTEM: "1",
        GIT_TRACE2_EVENT: trace,
        GIT_TRACE2_EVENT_NESTING: "10",
        XDG_CONFIG_HOME: "/nonexistent",
        HOME: "/nonexistent",
        LC_ALL: "C",
      },
    }).output();
    const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) =>
      new TextDecoder().decode(bytes)
    ) as [string, string];
    assert(output.success, stderr);
    const lines = (await Deno.readTextFile(trace)).trim().split("\n");
    const events = lines.map((line) => JSON.parse(line) as TraceEvent);
    const sum = (keys: readonly string[]) =>
      events.filter(({ key }) => key !== undefined && keys.includes(key))
        .reduce((total, { value }) => total + Number(value), 0);
    return {
      stdout,
      stderr,
      opened: sum(["opendir"]),
      stats: sum(["preload/sum_lstat", "refresh/sum_lstat"]),
      asked:
        events.filter(({ event, argv }) =>
          event === "child_start" && argv?.some((arg) => arg.includes("/fsmonitor/t-")) === true
        ).length,
    };
  }

  status(...args: string[]): Promise<Looks> {
    return this.git("status", "--porcelain", ...args);
  }
}

const CLEAN: Omit<Looks, "asked"> = { stdout: "", stderr: "", opened: 0, stats: 0 };

/** Adds files to a remote and commits them. */
async function commitFiles(
  ground: Ground,
  remote: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(`${remote}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${remote}/${path}`, text);
  }
  await ground.git(remote, "add", "-f", ".");
  await ground.git(remote, "commit", "-qm", "more");
}

/** Everything that git treats in its own way. */
const RARE: Readonly<Record<string, string>> = {
  ".gitignore": "*.o\n/ignored/\n",
  "a-b/x": "x",
  "a.c": "c",
  "a/.gitignore": "local\n",
  "a/b/c/deep": "deep",
  "ignored/tracked": "tracked although ignored",
  "ignored/sub/.gitignore": "x\n",
  "empty/.gitignore": "",
  "empty/in/x": "",
  "only/.gitignore": "nothing\n",
  "é/ü": "utf8",
};

async function placeOf(
  ground: Ground,
  files: Readonly<Record<string, string>> = RARE,
  objectFormat: "sha1" | "sha256" = "sha1",
): Promise<Place> {
  const remote = await ground.makeRemote({ objectFormat });
  await commitFiles(ground, remote, files);
  const place = new Place(ground, await ground.add(remote));
  await place.make();
  return place;
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`first status: asks once and looks at nothing (${format})`, async () => {
    await onGround(async (ground) => {
      const place = await placeOf(ground, RARE, format);
      // Nothing else is there: whatever git looked at would be missing to it.
      for (const [path, text] of Object.entries(RARE)) {
        if (!path.endsWith(".gitignore")) continue;
        await Deno.mkdir(`${place.dir}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
        await Deno.writeTextFile(`${place.dir}/${path}`, text);
      }
      await place.answer(place.token, []);
      const before = await Deno.readFile(place.indexPath);
      assert.deepEqual(await place.status(), { ...CLEAN, asked: 1 });
      assert.deepEqual(await place.git("diff"), { ...CLEAN, asked: 1 });
      assert.deepEqual(await Deno.readFile(place.indexPath), before, "nothing to write");
      const long = await place.git("status");
      assert.match(long.stdout, /nothing to commit, working tree clean/);
    });
  });
}

Deno.test("first status: what the monitor reports, and nothing else", async () => {
  await onGround(async (ground) => {
    const place = await placeOf(ground);
    await place.fill();
    const { dir, token } = place;
    await Deno.writeTextFile(`${dir}/a/b/c/deep`, "deed");
    await Deno.writeTextFile(`${dir}/a/b/new`, "new");
    await Deno.writeTextFile(`${dir}/a/b/new.o`, "ignored");
    await Deno.mkdir(`${dir}/fresh/in`, { recursive: true });
    await Deno.writeTextFile(`${dir}/fresh/in/x`, "x");
    await Deno.remove(`${dir}/a.c`);
    await Deno.writeTextFile(`${dir}/ignored/unseen`, "ignored");
    const paths = ["a/b/c/deep", "a/b/new", "a/b/new.o", "fresh/in/x", "a.c", "ignored/unseen"];
    await place.answer(token, paths);
    const expected = " D a.c\n M a/b/c/deep\n?? a/b/new\n?? fresh/\n";
    const first = await place.status();
    assert.equal(first.stdout, expected);
    assert.equal(first.asked, 1);
    // Without the monitor git sees the same.
    const index = await Deno.readFile(place.indexPath);
    assert.equal((await place.git("-c", "core.fsmonitor=false", ...STATUS)).stdout, expected);
    await Deno.writeFile(place.indexPath, index);
    // Again, from the token that the first one left.
    await place.answer(`${token}+`, [], `${token}+`);
    assert.equal((await place.status()).stdout, expected);
    // And when all is undone.
    await Deno.remove(`${dir}/fresh`, { recursive: true });
    await Deno.remove(`${dir}/a/b/new`);
    await Deno.writeTextFile(`${dir}/a/b/c/deep`, "deep");
    await Deno.writeTextFile(`${dir}/a.c`, "c");
    await place.answer(`${token}+`, [...paths, "fresh", "fresh/in"], `${token}++`);
    await place.answer(token, [...paths, "fresh", "fresh/in"], `${token}++`);
    assert.equal((await place.status()).stdout, "");
  });
});

const STATUS = ["status", "--porcelain"];

Deno.test("first status: right when the monitor knows nothing, or is not there", async () => {
  await onGround(async (ground) => {
    const place = await placeOf(ground);
    await place.fill();
    await Deno.writeTextFile(`${place.dir}/a/b/c/deep`, "deed");
    await Deno.writeTextFile(`${place.dir}/new`, "new");
    const first = await Deno.readFile(place.indexPath);
    const expected = " M a/b/c/deep\n?? new\n";
    const none = await place.status();
    assert.equal(none.stdout, expected);
    assert.equal(none.stderr, "");
    // The failure left an empty token.
    assert.equal((await place.status()).stdout, expected);
    await Deno.writeFile(place.indexPath, first);
    await place.answer(place.token, ["/"]);
    assert.equal((await place.status()).stdout, expected);
    // A second one does not read again what has not changed.
    await place.answer(`${place.token}+`, [], `${place.token}+`);
    assert.equal((await place.status()).stdout, expected);
  });
});

Deno.test("first status: git works on from this index", async () => {
  await onGround(async (ground) => {
    const place = await placeOf(ground);
    await place.fill();
    const { dir, token } = place;
    await place.answer(token, ["a/b/c/deep", "new"]);
    await place.answer(`${token}+`, ["a/b/c/deep", "new"]);
    await Deno.writeTextFile(`${dir}/a/b/c/deep`, "deed");
    await Deno.writeTextFile(`${dir}/new`, "new");
    // The synthetic directory, which a mount does not list, is listed here; it is excluded.
    await place.git("add", "-A");
    assert.equal((await place.status()).stdout, "M  a/b/c/deep\nA  new\n");
    await place.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "two");
    assert.equal((await place.status()).stdout, "");
    await place.git("fsck", "--no-dangling");
    const { stdout } = await place.git("diff", "--name-status", "HEAD~1");
    assert.equal(stdout, "M\ta/b/c/deep\nA\tnew\n");
  });
});

Deno.test("first index: entries are those of git, with the stat data of the mount", async () => {
  await onGround(async (ground) => {
    const place = await placeOf(ground);
    const list = async (...args: string[]) => (await place.git("ls-files", ...args)).stdout;
    const debug = await list("--debug");
    const { baseTimeSeconds: time, uid, gid } = place.record;
    const { entries } = await place.index();
    const text = entries.map(({ path, stat }) =>
      `${path}\n  ctime: ${time}:0\n  mtime: ${time}:0\n  dev: 0\tino: ${stat.ino}\n` +
      `  uid: ${uid}\tgid: ${gid}\n  size: 0\tflags: 0\n`
    ).join("");
    for (const { path, oid, stat } of entries) {
      const names = path.split("/");
      const name = names.pop() as string;
      const parentIno = names.reduce(BASE_INOS.ofDirectory, BASE_INOS.root);
      assert.equal(stat.ino, inoOf(parentIno, name, oid) % 2 ** 32, path);
    }
    const quoted = text.replace("\xc3\xa9/\xc3\xbc", '"\\303\\251/\\303\\274"');
    assert.equal(debug, quoted);
    const index = await Deno.lstat(place.indexPath);
    assert((index.mtime as Date).getTime() / 1000 > time, "older than the index");
    const ours = await list("--stage");
    await place.answer(place.token, []);
    // Lower case: valid for the file monitor.
    assert.equal(
      (await list("-f")).replaceAll(/^h /gm, ""),
      ours.replaceAll(/^.*\t/gm, ""),
    );
    await place.git("read-tree", "HEAD");
    assert.equal(await list("--stage"), ours);
  });
});

/** `path/ valid check-only oid [untracked]`, sorted; without what git finds to be ignored. */
function linesOf(root: UntrackedDirectory, without: readonly string[] = []): string[] {
  const lines: string[] = [];
  const walk = (directory: UntrackedDirectory, path: string) => {
    if (without.includes(path)) return;
    const { valid, checkOnly, ignoreOid, untracked } = directory;
    lines.push(`${path} ${valid} ${checkOnly} ${ignoreOid} [${untracked}]`);
    for (const each of directory.directories) walk(each, `${path}${each.name}/`);
  };
  walk(root, "");
  return lines;
}

Deno.test("first index: the untracked cache is the one that git makes", async () => {
  await onGround(async (ground) => {
    const place = await placeOf(ground);
    await place.fill();
    const ours = readUntrackedCache(await place.index());
    // Git's own, of the same work tree, made by looking at all of it.
    await place.git("-c", "core.untrackedCache=false", "update-index", "--no-untracked-cache");
    assert.equal(readUntrackedCache(await place.index()), null);
    const { opened } = await place.git("-c", "core.fsmonitor=false", ...STATUS);
    assert(opened > 0);
    const gits = readUntrackedCache(await place.index());
    assert(ours !== null && gits !== null);
    assert(ours.root !== null && gits.root !== null);
    assert.deepEqual({ ...ours, root: null }, { ...gits, root: null });
    assert.deepEqual(linesOf(ours.root, ["ignored/"]), linesOf(gits.root));
    assert.equal(linesOf(ours.root).length, 12);
  });
});

/** Git compares another hash there than the one that is in the index. */
Deno.test("first status: a .gitignore whose content git converts", async () => {
  await onGround(async (ground) => {
    for (const where of ["", "a/"]) {
      const files = { ...RARE, "z/y/.gitignore": "*.p\n", "z/y/x/w": "w" };
      const place = await placeOf(ground, {
        ...files,
        [`${where}.gitattributes`]: "* text=auto\n",
      });
      await place.fill();
      await place.answer(place.token, []);
      assert.deepEqual(await place.status(), { ...CLEAN, asked: 1 });
      const changes = ["a/new", "a/b/new.o", "a/b/c/local", "z/y/x/new.p", "z/y/x/new"];
      for (const path of changes) await Deno.writeTextFile(`${place.dir}/${path}`, "new");
      await place.answer(place.token, changes);
      const first = await place.status();
      assert.equal(first.stdout, "?? a/new\n?? z/y/x/new\n");
      await place.answer(`${place.token}+`, [], `${place.token}+`);
      assert.deepEqual(await place.status(), { ...CLEAN, stdout: first.stdout, asked: 1 });
    }
  });
});

Deno.test("first status: odd things in the place of a .gitignore", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await commitFiles(ground, remote, { "d/.gitignore/x": "x", "d/y": "y", "l/z": "z" });
    await Deno.symlink("z", `${remote}/l/.gitignore`);
    await Deno.symlink("l", `${remote}/link`);
    await commitFiles(ground, remote, {});
    const place = new Place(ground, await ground.add(remote));
    await place.make();
    await place.fill();
    await place.answer(place.token, []);
    assert.deepEqual(await place.status(), { ...CLEAN, asked: 1 });
    await Deno.writeTextFile(`${place.dir}/l/new`, "");
    await place.answer(place.token, ["l/new"]);
    assert.equal((await place.status()).stdout, "?? l/new\n");
  });
});

Deno.test("first index: gitlinks and names that a mount hides are not valid", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { stdout: blob } = { stdout: await ground.git(remote, "rev-parse", "HEAD:file") };
    const commit = (await ground.git(remote, "rev-parse", "HEAD")).trim();
    const long = `dir/${"n".repeat(256)}`;
    const info = [`160000,${commit},lib/sub`, `100644,${blob.trim()},${long}`];
    for (const each of info) {
      await ground.git(remote, "update-index", "--add", "--cacheinfo", each);
    }
    await ground.git(remote, "commit", "-qm", "gitlink");
    const place = new Place(ground, await ground.add(remote));
    await place.make();
    const index = await place.index();
    const monitor = readFsmonitor(index);
    assert(monitor !== null);
    assert.equal(monitor.token, firstToken(place.record.id));
    const dirty = index.entries.filter((_, rank) => monitor.dirty[rank] === 1);
    assert.deepEqual(dirty.map(({ path }) => path), [long, "lib/sub"]);
    // An empty folder is what a mount shows of a gitlink.
    await Deno.mkdir(`${place.dir}/lib/sub`, { recursive: true });
    await place.answer(place.token, []);
    const status = await place.status();
    assert.equal(status.stdout, ` D ${long}\n`);
    assert.equal(status.opened, 0);
    assert.equal(status.stats, 2);
    await Deno.writeTextFile(`${place.dir}/lib/new`, "");
    await place.answer(place.token, ["lib/new"]);
    assert.equal((await place.status()).stdout, ` D ${long}\n?? lib/new\n`);
  });
});

Deno.test("first status: a mount point behind a link, and one with odd characters", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await Deno.mkdir(`${ground.dir}/real`);
    await Deno.symlink("real", `${ground.dir}/linked`);
    for (const name of ["linked/mnt", "a 'b\" $é"]) {
      const mountPoint = `${ground.dir}/${name}` as RepoRecord["mountPoint"];
      const place = new Place(ground, await ground.add(remote, { mountPoint }));
      await place.make();
      await place.answer(place.token, []);
      assert.deepEqual(await place.status(), { ...CLEAN, asked: 1 });
    }
  });
});

Deno.test("first index: a commit without files", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await ground.git(remote, "rm", "-rq", ".");
    await ground.git(remote, "commit", "-qm", "empty");
    const place = new Place(ground, await ground.add(remote));
    await place.make();
    await place.answer(place.token, []);
    assert.deepEqual(await place.status(), { ...CLEAN, asked: 1 });
    await Deno.writeTextFile(`${place.dir}/new`, "");
    await place.answer(place.token, ["new"]);
    assert.equal((await place.status()).stdout, "?? new\n");
  });
});

/** Names that meet patterns, names that sort around a slash, and names of the two files. */
const WORDS = ["a", "a-b", "a.o", "b", "dir", "local", ".gitignore", "x"] as const;
const PATTERNS = ["*.o\n", "local\n", "/b/\n", "!a.o\n", "dir\n", "x\n!/x\n"] as const;

/** A path, and its content. */
function randomFile(random: Random): [string, string] {
  const pick = <T>(of: readonly T[]) => of[random.below(of.length)] as T;
  const folders = Array.from({ length: random.below(4) }, () => pick(["a", "a-b", "b", "dir"]));
  const name = pick(WORDS);
  const text = name === ".gitignore" ? pick(PATTERNS) : `${random.below(1000)}`;
  return [[...folders, name].join("/"), text];
}

/** False: something is in the way. */
async function write(root: string, path: string, text: string): Promise<boolean> {
  try {
    await Deno.mkdir(`${root}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${root}/${path}`, text);
    return true;
  } catch {
    return false;
  }
}

Deno.test("first status: random trees and changes, against git without monitor and cache", async () => {
  await onGround(async (ground) => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed);
      const remote = await ground.makeRemote();
      for (let i = 0; i < 30; i++) await write(remote, ...randomFile(random));
      if (seed % 3 === 0) await write(remote, "a/.gitattributes", "* text=auto\n");
      await commitFiles(ground, remote, {});
      const place = new Place(ground, await ground.add(remote));
      await place.make();
      await place.fill();
      const changed = new Set<string>();
      const tokens = [place.token];
      for (let step = 1; step <= 5; step++) {
        for (let i = random.below(4); i > 0; i--) {
          const [path, text] = randomFile(random);
          if (random.below(3) > 0) await write(place.dir, path, text);
          else await Deno.remove(`${place.dir}/${path}`).catch(() => {});
          // Also the folders that were made with it.
          for (let at = path; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("/")))) {
            changed.add(at);
          }
        }
        const token = `${place.token}+${step}`;
        for (const before of tokens) await place.answer(before, [...changed], token);
        tokens.push(token);
        const { stdout } = await place.status();
        const plain = ["-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"];
        const kept = await Deno.readFile(place.indexPath);
        const expected = await place.git(...plain, ...STATUS);
        await Deno.writeFile(place.indexPath, kept);
        assert.equal(stdout, expected.stdout, `seed ${seed}, step ${step}`);
      }
    }
  });
});
