import assert from "node:assert/strict";
import fc from "fast-check";
import { FsError } from "../errno.ts";
import type { Name } from "../path.ts";
import {
  Lab,
  Link,
  Module,
  op,
  overwrite,
  path,
  put,
  run,
  type Spec,
  spec,
  Tool,
} from "../../tests/fakes/commit_lab.ts";
import { checkInvariants } from "../../tests/support/overlay_invariants.ts";
import { CHANGED } from "../overlay/journal.ts";
import { bytesOf } from "../path.ts";
import { type SwitchedTree, SwitchRefused } from "./switch.ts";

/** A commit that has no submodules. */
const plainSpec = spec.map(withoutModules);

function withoutModules(from: Spec): Spec {
  const entries = Object.entries(from).filter(([, value]) => !(value instanceof Module))
    .map(([name, value]) => [
      name,
      typeof value === "string" || value instanceof Tool || value instanceof Link
        ? value
        : withoutModules(value as Spec),
    ]);
  return Object.fromEntries(entries);
}

/** What shows, by path, without the links of directories and of files with other names. */
function viewOf(lab: Lab): Map<string, string> {
  return new Map(
    lab.driver.snapshot().map((line) => {
      const [at = ""] = line.split(" ");
      return [at, line.slice(at.length + 1).replace(/ nlink=\d+/, "")];
    }),
  );
}

const fresh = (commit: Spec): Map<string, string> => {
  using lab = new Lab(commit);
  return viewOf(lab);
};

const isDirectory = (line: string | undefined) => line?.startsWith("4") ?? false;
const fileOf = (line: string | undefined) => isDirectory(line) ? undefined : line;
/** Kind, a file's executable bit, and content, however it was converted: what git compares. */
const asGit = (line: string | undefined) =>
  line?.replace(
    /^(\d+)(\d)\d\d \S+/,
    (_, kind, owner) => kind === "120" ? kind : `${kind}${Number(owner) & 1}`,
  ).replace(/ size=\d+ "(.*?)!?"$/, (_, text) => ` ${text.toLowerCase()}`);

/** The view after a switch that was not refused. Throws AssertionError when it had to be. */
function expectedView(
  before: Map<string, string>,
  a: Map<string, string>,
  b: Map<string, string>,
): Map<string, string> {
  const expected = new Map<string, string>();
  const paths = [...new Set([...before.keys(), ...a.keys(), ...b.keys()])];
  for (const at of paths) {
    const was = fileOf(before.get(at));
    const [old, next] = [fileOf(a.get(at)), fileOf(b.get(at))];
    const shown = old === next ? was : next;
    if (old !== next) assert.equal(asGit(was), asGit(old), `${at}: not what the commit has`);
    if (shown !== undefined) expected.set(at, shown);
  }
  const isMade = (at: string) => isDirectory(before.get(at)) && !isDirectory(a.get(at));
  const kept = [...expected.keys(), ...paths.filter(isMade)];
  for (const at of paths) {
    const was = before.get(at);
    const isInOld = isDirectory(a.get(at));
    const isInNext = isDirectory(b.get(at));
    const stays = isDirectory(was) && (isInNext || !isInOld);
    const isNeeded = kept.some((each) => each.startsWith(at === "/" ? at : `${at}/`));
    if (!stays && !isNeeded && !(isInNext && !isInOld)) continue;
    expected.set(at, (isDirectory(was) ? was : b.get(at)) ?? "");
  }
  return expected;
}

const sorted = (view: Map<string, string>) => [...view].sort(([a], [b]) => (a < b ? -1 : 1));

function attempt(work: () => SwitchedTree): SwitchedTree | null {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SwitchRefused)) throw error;
    assert.match(error.message, /^[^\n]+$/);
    return null;
  }
}

Deno.test("property: a clean work tree becomes the other commit, and has no changes", async () => {
  await fc.assert(
    fc.asyncProperty(
      plainSpec,
      plainSpec,
      plainSpec,
      fc.array(path),
      fc.boolean(),
      async (a, b, c, held, kill) => {
        using lab = new Lab(a);
        let from = a;
        for (const to of [b, c, a, b]) {
          for (const each of held) run(lab.driver, (driver) => driver.hold(each));
          lab.switchTo(from, to);
          assert.deepEqual(
            lab.driver.snapshot(),
            new Lab(to).end((other) => other.driver.snapshot()),
          );
          assert.deepEqual(await lab.counts(), [0, 0, 0]);
          assert.deepEqual(lab.world.overlay.upper.inos(), []);
          const shown = lab.snapshot();
          lab.rebase(to);
          assert.deepEqual(lab.snapshot(), shown);
          from = to;
        }
        const shown = lab.snapshot();
        lab.reopen({ kill });
        assert.deepEqual(lab.snapshot(), shown, "after a restart");
        assert.deepEqual(await lab.counts(), [0, 0, 0]);
        lab.switchTo(b, a);
        assert.deepEqual(sorted(viewOf(lab)), sorted(fresh(a)));
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("property: refused and nothing has changed, or what was changed is kept", () => {
  let done = 0;
  fc.assert(
    fc.property(spec, spec, fc.array(op, { maxLength: 5 }), fc.array(path), (a, b, ops, held) => {
      using lab = new Lab(a);
      for (const each of ops) run(lab.driver, each);
      for (const each of held) run(lab.driver, (driver) => driver.hold(each));
      const before = viewOf(lab);
      const all = lab.snapshot();
      const { sequence } = lab.world.overlay.journal;
      const switched = attempt(() => lab.switchTo(a, b));
      if (switched === null) {
        assert.deepEqual(lab.snapshot(), all);
        assert.equal(lab.world.overlay.journal.sequence, sequence);
      } else {
        done++;
        assert.deepEqual(sorted(viewOf(lab)), sorted(expectedView(before, fresh(a), fresh(b))));
        for (const { path, ino } of switched.files) {
          lab.driver.with(
            path,
            (nodeid) => assert.equal(lab.world.filesystem.getattr(nodeid).attr.ino, ino),
          );
        }
      }
      const shown = lab.snapshot();
      lab.reopen({ kill: false });
      assert.deepEqual(lab.snapshot(), shown, "after a restart");
      for (const each of ops) run(lab.driver, each);
    }),
    { numRuns: 150 },
  );
  assert.ok(done > 10, `${done} were not refused`);
});

const A: Spec = {
  dir: { deep: { one: "one", same: "same" }, gone: "gone" },
  file: "file",
  link: new Link("file"),
  old: { x: "x", y: { z: "z" } },
  same: { s: "s" },
  tool: new Tool("tool"),
};
const B: Spec = {
  dir: { deep: { one: "another one", same: "same" }, new: "new" },
  file: "another file",
  fresh: { f: "f", sub: { g: "g" } },
  link: "a file now",
  same: { s: "s" },
  tool: "tool",
};

const refusals: readonly [string, (lab: Lab) => void, RegExp][] = [
  ["a changed file", ({ driver }) => overwrite(driver, "file", "mine"), /^file: /],
  ["a file with the same bytes", ({ driver }) => overwrite(driver, "file", "file"), /^file: /],
  ["a removed file", ({ driver }) => driver.unlink("dir/gone"), /^dir\/gone: was removed/],
  ["an executable bit", ({ driver }) => driver.setattr("file", { mode: 0o755 }), /^file: /],
  ["a file that is another one", ({ driver }) => driver.rename("dir/deep/one", "file"), /: /],
  ["a file in the way", ({ driver }) => driver.create("fresh"), /^fresh: /],
  ["a file in the way below", ({ driver }) => {
    driver.mkdir("fresh");
    driver.create("fresh/f");
  }, /^fresh\/f: /],
  ["a directory in the way", ({ driver }) => driver.mkdir("dir/new"), /^dir\/new: /],
  ["a link in the way", ({ driver }) => driver.symlink("dir", "fresh"), /^fresh: /],
  ["a file that became a directory", ({ driver }) => {
    driver.unlink("file");
    driver.mkdir("file");
  }, /^file: /],
  ["a directory that is another one", ({ driver }) => {
    driver.rename("old", "elsewhere");
    driver.rename("same", "old");
  }, /^old: is another directory/],
  ["a moved directory in the way", ({ driver }) => driver.rename("old", "fresh"), /: /],
  ["a directory of ours moved into the way", ({ driver }) => {
    driver.rename("same", "fresh");
  }, /^fresh: is another directory/],
  ["a directory that was made again", ({ driver }) => {
    driver.unlink("dir/deep/one");
    driver.unlink("dir/deep/same");
    driver.rmdir("dir/deep");
    driver.mkdir("dir/deep");
  }, /^dir\/deep: is another directory/],
];

for (const [name, change, reason] of refusals) {
  Deno.test(`refused, and nothing has changed: ${name}`, () => {
    using lab = new Lab(A);
    change(lab);
    const before = lab.snapshot();
    assert.throws(() => lab.switchTo(A, B), { name: "SwitchRefused", message: reason });
    assert.deepEqual(lab.snapshot(), before);
  });
}

Deno.test("what the file monitor had named before is told", () => {
  using lab = new Lab(A);
  const { filesystem, overlay } = lab.world;
  const [from, to] = [put(lab.objects, A), put(lab.objects, B)];
  const token = overlay.journal.issue();
  lab.driver.create("untracked");
  overlay.journal.issue();
  assert.deepEqual(filesystem.switchTo({ from, to, token }).changedBefore, ["untracked"]);
  const back = { from: to, to: from, token: overlay.journal.issue() };
  assert.deepEqual(filesystem.switchTo(back).changedBefore, []);
  for (const unknown of ["", "ffffffffffffffff-1", "1700000000"]) {
    const again = { from, to: from, token: unknown };
    assert.deepEqual(filesystem.switchTo(again).changedBefore, ["/"]);
  }
});

Deno.test("refused: another base, a tree that is not here", () => {
  using lab = new Lab(A);
  const { filesystem, overlay } = lab.world;
  const [from, to] = [put(lab.objects, A), put(lab.objects, B)];
  assert.throws(() => lab.switchTo(B, A), { name: "SwitchRefused", message: /does not follow/ });
  lab.driver.create("untracked");
  const before = lab.snapshot();
  const inner = put(lab.objects, B["fresh"] as Spec);
  lab.objects.trees.delete(inner);
  const now = overlay.journal.issue();
  assert.throws(() => filesystem.switchTo({ from, to, token: now }), { message: /not here yet/ });
  assert.deepEqual(lab.snapshot(), before);
  put(lab.objects, B);
  lab.switchTo(A, B);
});

Deno.test("a file of which the first write waits for bytes is not taken away", () => {
  using lab = new Lab(A);
  const { filesystem } = lab.world;
  const { nodeid } = lab.driver.hold("dir/deep/one");
  const contents = new Map(lab.objects.contents);
  lab.objects.contents.clear();
  const bytes = Uint8Array.of(65);
  assert.throws(() => filesystem.write(nodeid, 0, bytes, null));
  assert.throws(() => lab.switchTo(A, B), { message: /^dir\/deep\/one: is being written/ });
  assert.throws(() => lab.switchTo(A, { ...A, dir: {} }), { message: /is being written/ });
  lab.switchTo(A, { ...A, file: "other" });
  for (const [oid, each] of contents) lab.objects.contents.set(oid, each);
  filesystem.write(nodeid, 0, bytes, null);
  assert.equal(lab.driver.read(nodeid), "Ane");
});

Deno.test("what is open keeps its bytes, directories stay, names lead to the new files", () => {
  using lab = new Lab(A);
  const { driver } = lab;
  const { filesystem } = lab.world;
  const held = {
    one: driver.hold("dir/deep/one").nodeid,
    gone: driver.hold("dir/gone").nodeid,
    same: driver.hold("dir/deep/same").nodeid,
    deep: driver.hold("dir/deep").nodeid,
    z: driver.hold("old/y/z").nodeid,
    y: driver.hold("old/y").nodeid,
  };
  const before = filesystem.getattr(held.same).attr;
  lab.switchTo(A, B);
  const nlink = (nodeid: number) => filesystem.getattr(nodeid).attr.nlink;
  assert.deepEqual([held.one, held.gone, held.z, held.y].map(nlink), [0, 0, 0, 0]);
  assert.equal(driver.read(held.one), "one");
  assert.equal(driver.read(held.gone), "gone");
  assert.deepEqual(driver.names(held.y), []);
  assert.equal(filesystem.lookup(held.y, "z" as Name).nodeid, 0);
  assert.throws(() =>
    filesystem.mknod(held.y, "z" as Name, 0o100644, 0, { uid: 0, gid: 0, pid: 1 })
  );
  driver.with("dir/deep", (nodeid) => assert.equal(nodeid, held.deep));
  driver.with("dir/deep/same", (nodeid) => assert.equal(nodeid, held.same));
  assert.deepEqual(filesystem.getattr(held.same).attr, before);
  filesystem.write(held.one, 0, bytesOf("written"), null);
  assert.equal(driver.read(held.one), "written");
  driver.with("dir/deep/one", (nodeid) => {
    assert.notEqual(nodeid, held.one);
    assert.equal(driver.read(nodeid), "another one");
  });
  // Back: what was open before is not what is there now, though it was once.
  lab.switchTo(B, A);
  driver.with("dir/deep/one", (nodeid) => assert.notEqual(nodeid, held.one));
  assert.equal(driver.read(held.one), "written");
});

Deno.test("times and inos: of what changed and came new ones, and of nothing else", () => {
  using lab = new Lab(A);
  const { filesystem } = lab.world;
  const attrOf = (at: string) => lab.driver.with(at, (nodeid) => filesystem.getattr(nodeid).attr);
  const before = new Map(
    ["", "dir", "dir/deep", "dir/deep/one", "file"].map((at) => [at, attrOf(at)]),
  );
  const { files, time, directories } = lab.switchTo(A, B);
  const paths = files.map(({ path }) => path).sort() as string[];
  assert.deepEqual(paths, [
    "dir/deep/one",
    "dir/new",
    "file",
    "fresh/f",
    "fresh/sub/g",
    "link",
    "tool",
  ]);
  for (const { path, ino } of files) {
    const attr = attrOf(path);
    assert.equal(attr.ino, ino);
    assert.notEqual(ino, before.get(path)?.ino);
    const { mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds } = attr;
    assert.deepEqual({ seconds: mtimeSeconds, nanoseconds: mtimeNanoseconds }, time);
    assert.deepEqual({ seconds: ctimeSeconds, nanoseconds: ctimeNanoseconds }, time);
  }
  assert.deepEqual([...directories].sort(), ["", "dir", "fresh", "fresh/sub"]);
  for (const at of directories) assert.equal(attrOf(at).mtimeNanoseconds, time.nanoseconds);
  assert.deepEqual(attrOf("dir/deep"), before.get("dir/deep"));
  assert.equal(attrOf("").ino, before.get("")?.ino);
  assert.equal(attrOf("tool").mode & 0o777, 0o644);
  assert.ok(lab.switchTo(B, A).time.nanoseconds !== time.nanoseconds);
});

Deno.test("a directory of which the commit has nothing any more stays with what is not git's", () => {
  using lab = new Lab(A);
  const { driver } = lab;
  driver.create("old/y/untracked");
  driver.mkdir("old/empty");
  const held = driver.hold("old/y").nodeid;
  const { directories } = lab.switchTo(A, B);
  const shown = driver.snapshot().map((line) => line.split(" ")[0]).filter((at) =>
    /old/.test(at ?? "")
  );
  assert.deepEqual(shown, ["/old", "/old/empty", "/old/y", "/old/y/untracked"]);
  assert.ok(["old", "old/y"].every((at) => (directories as readonly string[]).includes(at)));
  driver.with("old/y", (nodeid) => assert.equal(nodeid, held));
  assert.throws(() => lab.switchTo(B, { ...B, old: "a file" }), { message: /^old: / });
  lab.switchTo(B, A);
  driver.with("old/y", (nodeid) => assert.equal(nodeid, held));
  assert.deepEqual(driver.names(held).sort(), ["untracked", "z"]);
  // Its own file is in the way of one of the commit.
  const to = { ...A, old: { x: "x", y: { untracked: "theirs", z: "z" } } };
  assert.throws(() => lab.switchTo(A, to), { message: /^old\/y\/untracked: / });
});

Deno.test("other names of a file keep it", () => {
  using lab = new Lab({ a: "text", b: "text", c: "c" });
  const { driver } = lab;
  driver.link("a", "other");
  const other = driver.hold("other").nodeid;
  driver.unlink("b");
  driver.link("a", "b");
  lab.switchTo({ a: "text", b: "text", c: "c" }, { c: "c" });
  const { attr } = lab.world.filesystem.getattr(other);
  assert.equal(attr.nlink, 1);
  assert.deepEqual(driver.names(1).sort(), [".git", "c", "other"]);
  driver.write("other", 0, "T");
  assert.equal(driver.read(other), "Text");
  lab.reopen({ kill: false });
  assert.deepEqual(lab.driver.names(1).sort(), [".git", "c", "other"]);
});

Deno.test("what the kernel has to forget: of the nodes that it knows", () => {
  using lab = new Lab(A);
  const { driver } = lab;
  assert.deepEqual(
    lab.switchTo(A, { ...A, dir: { gone: "gone" } }).stale,
    { entries: [{ parentNodeid: 1, name: "dir" }].slice(1), directories: [], files: [] },
    "only names in a directory that nobody has looked up",
  );
  lab.switchTo({ ...A, dir: { gone: "gone" } }, A);
  const dir = driver.hold("dir").nodeid;
  const gone = driver.hold("dir/gone").nodeid;
  const y = driver.hold("old/y").nodeid;
  const old = driver.hold("old").nodeid;
  const { entries, directories, files } = lab.switchTo(A, B).stale;
  assert.deepEqual(
    entries.map(({ parentNodeid, name }) => `${parentNodeid} ${name}`).sort(),
    [
      ...["file", "fresh", "link", "old", "tool"].map((name) => `1 ${name}`),
      ...["gone", "new"].map((name) => `${dir} ${name}`),
      ...["x", "y"].map((name) => `${old} ${name}`),
      `${y} z`,
    ].sort(),
  );
  assert.deepEqual([...directories].sort(), [1, dir, old, y].sort());
  assert.deepEqual(files, [gone]);
});

Deno.test("every older token hears of it", () => {
  using lab = new Lab(A);
  const { journal } = lab.world.overlay;
  const before = journal.issue();
  const { token } = lab.switchTo(A, B);
  assert.deepEqual(journal.since(token), []);
  const paths = journal.since(before)?.map(({ path, kind }) => `${path} ${kind}`).sort();
  assert.deepEqual(paths, [
    `dir/deep/one ${CHANGED.path}`,
    `dir/gone ${CHANGED.path}`,
    `dir/new ${CHANGED.path}`,
    `file ${CHANGED.path}`,
    `fresh ${CHANGED.directory}`,
    `fresh/f ${CHANGED.path}`,
    `fresh/sub ${CHANGED.directory}`,
    `fresh/sub/g ${CHANGED.path}`,
    `link ${CHANGED.path}`,
    `old ${CHANGED.path}`,
    `old/ ${CHANGED.path}`,
    `old/x ${CHANGED.path}`,
    `old/y ${CHANGED.path}`,
    `old/y/ ${CHANGED.path}`,
    `old/y/z ${CHANGED.path}`,
    `tool ${CHANGED.path}`,
  ]);
});

Deno.test("a transaction that fails leaves all as it was; a kill after it all as it is", () => {
  using lab = new Lab(A);
  lab.driver.create("old/untracked");
  lab.driver.hold("old/y");
  const before = lab.snapshot();
  lab.failAt = 1;
  assert.throws(() => lab.switchTo(A, B), FsError);
  lab.failAt = 0;
  assert.deepEqual(lab.snapshot(), before);
  lab.reopen({ kill: true });
  checkInvariants(lab.dir, false);
  assert.deepEqual(lab.snapshot(), before);
  lab.switchTo(A, B);
  const after = lab.snapshot();
  lab.reopen({ kill: true });
  checkInvariants(lab.dir, false);
  assert.deepEqual(lab.snapshot(), after);
});

Deno.test("a listing under way gives what stays once, and nothing twice", () => {
  const many = (from: number, to: number): Spec =>
    Object.fromEntries(Array.from({ length: to - from }, (_, i) => [`n${from + i}`, String(i)]));
  const commits = [many(100, 180), many(150, 260), many(0, 120), {}, many(100, 180)]
    .map((dir): Spec => ({ dir: { ...dir, stays: "stays" } }));
  const [first] = commits as [Spec];
  using lab = new Lab(first);
  const { driver } = lab;
  driver.create("dir/own");
  const { nodeid } = driver.hold("dir");
  const seen: string[] = [];
  let cookie = 0;
  let from = first;
  for (let ended = false, i = 1; !ended; i++) {
    const part = lab.readSome(nodeid, cookie, 7);
    seen.push(...part.names);
    ({ cookie, ended } = part);
    const to = commits[i % commits.length] as Spec;
    lab.switchTo(from, to);
    from = to;
    assert.deepEqual(
      driver.names(nodeid).sort(),
      [...Object.keys(to["dir"] as Spec), "own"].sort(),
    );
  }
  assert.deepEqual(seen.filter((name) => name === "own" || name === "stays").sort(), [
    "own",
    "stays",
  ]);
});
