import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { tempDir } from "../../tests/support/run.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath, Name, RepoPath } from "../path.ts";
import { pwriteAll } from "../sys/mod.ts";
import { CONTENT, type Inode } from "./inode.ts";
import { CHANGED, Journal } from "./journal.ts";
import { Overlay } from "./overlay.ts";
import { Reserve } from "./reserve.ts";
import { OverlayReader, OverlayStore } from "./store.ts";

const FIRST_INO = 2 ** 52;
const name = (text: string) => text as Name;

function inode(ino: number, fields: Partial<Inode> = {}): Inode {
  return {
    ino,
    mode: 0o100644,
    uid: 1,
    gid: 2,
    rdev: 0,
    nlink: 1,
    atimeSeconds: 3,
    atimeNanoseconds: 4,
    mtimeSeconds: -5,
    mtimeNanoseconds: 6,
    ctimeSeconds: 7,
    ctimeNanoseconds: 999_999_999,
    content: CONTENT.upper,
    oid: null,
    target: null,
    ...fields,
  };
}

function open(path: string, warnings: string[] = []): Overlay {
  return new Overlay(path as HostPath, {
    warn: (message) => warnings.push(message),
    firstId: "f1",
    bootId: "boot",
  });
}

Deno.test("rows come back as they were put, every field", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  const oid = "ab".repeat(32) as Oid;
  const all = [
    inode(FIRST_INO),
    inode(FIRST_INO + 1, { mode: 0o120777, target: Uint8Array.of(0xff, 1), content: 0 }),
    inode(FIRST_INO + 2, { oid, content: CONTENT.base, rdev: 0x12345, nlink: 3 }),
  ];
  overlay.commit((store) => {
    for (const each of all) store.putInode(each);
    store.putDentry(1, name("\xff\n"), FIRST_INO);
    store.putDentry(1, name("gone"), null);
  });
  overlay.close();
  const again = open(dir.path);
  for (const each of all) assert.deepEqual(again.store.inode(each.ino), each);
  assert.deepEqual(again.store.dentries(1), [
    { name: "gone", ino: null, mode: 0 },
    { name: "\xff\n", ino: FIRST_INO, mode: 0o100644 },
  ]);
  assert.equal(again.store.inode(5), null);
  again.close();
});

Deno.test("a transaction that throws leaves nothing", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  assert.throws(() =>
    overlay.commit((store) => {
      store.putInode(inode(7));
      throw new Error("no");
    })
  );
  assert.equal(overlay.store.inode(7), null);
  overlay.commit((store) => store.putInode(inode(8)));
  assert.notEqual(overlay.store.inode(8), null);
  overlay.close();
});

Deno.test("an ino is never given twice, also after a kill", async () => {
  await using dir = await tempDir();
  const seen = new Set<number>();
  for (let round = 0; round < 3; round++) {
    const overlay = open(dir.path);
    for (let i = 0; i < 1500; i++) {
      const ino = overlay.allocateIno();
      assert.ok(ino >= FIRST_INO && !seen.has(ino));
      seen.add(ino);
    }
    // Rounds 0 and 1 end as a kill does, without close.
    if (round === 2) overlay.close();
  }
});

Deno.test("backing files without a row are removed after a kill only", async () => {
  await using dir = await tempDir();
  const killed = open(dir.path);
  pwriteAll(killed.upper.create(FIRST_INO), new TextEncoder().encode("kept"), 0);
  killed.commit((store) => store.putInode(inode(FIRST_INO)));
  killed.upper.create(FIRST_INO + 1);
  killed.upper.create(77);
  const again = open(dir.path);
  assert.deepEqual(again.upper.inos(), [FIRST_INO]);
  again.upper.create(78);
  again.close();
  const orderly = open(dir.path);
  assert.deepEqual(orderly.upper.inos().sort(), [FIRST_INO, 78].sort());
  orderly.close();
});

Deno.test("a backing file that the disk has lost is empty, and said so", async () => {
  await using dir = await tempDir();
  const warnings: string[] = [];
  const overlay = open(dir.path, warnings);
  overlay.upper.create(5);
  overlay.upper.release(5);
  await Deno.remove(dir.at("upper/5"));
  const stat = overlay.upper.stat(5, {} as Parameters<typeof overlay.upper.stat>[1]);
  assert.equal(stat.sizeBytes, 0);
  assert.deepEqual(warnings, ["Backing file was lost; it is empty now"]);
  overlay.close();
});

Deno.test("more files than descriptors are kept open", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  const count = 600;
  for (let ino = 1; ino <= count; ino++) {
    pwriteAll(overlay.upper.create(ino), Uint8Array.of(ino & 0xff), 0);
  }
  for (let ino = 1; ino <= count; ino++) {
    pwriteAll(overlay.upper.fd(ino), Uint8Array.of(1), 1);
    assert.equal(Deno.statSync(dir.at(`upper/${ino}`)).size, 2);
  }
  overlay.close();
});

Deno.test("removing an inode takes its attributes and whiteouts along", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  overlay.commit((store) => {
    store.putInode(inode(9, { mode: 0o040755, content: CONTENT.none }));
    store.putDentry(9, name("hidden"), null);
    store.putXattr(9, name("user.a"), Uint8Array.of(1));
  });
  overlay.commit((store) => store.deleteInode(9));
  assert.deepEqual(overlay.store.dentries(9), []);
  assert.deepEqual(overlay.store.xattrNames(9), []);
  overlay.close();
});

Deno.test("everything is private to its owner, and another connection may look", async () => {
  await using dir = await tempDir();
  assert.equal(OverlayReader.open(dir.at("overlay.sqlite") as HostPath), null);
  const overlay = open(dir.path);
  overlay.upper.create(5);
  overlay.commit((store) => {
    store.putInode(inode(5));
    store.putDentry(1, name("a"), 5);
  });
  const reader = OverlayReader.open(dir.at("overlay.sqlite") as HostPath);
  assert.deepEqual(reader?.dentries(1), [{ name: "a", ino: 5, mode: 0o100644 }]);
  reader?.close();
  const modeOf = (path: string) => (Deno.statSync(dir.at(path)).mode ?? 0) & 0o777;
  assert.deepEqual(
    ["upper", "upper/5", "overlay.sqlite", "overlay.sqlite-wal", "reserve"].map(modeOf),
    [0o700, 0o600, 0o600, 0o600, 0o600],
  );
  overlay.close();
});

Deno.test("a backing file that could not be removed is removed at the next start", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  overlay.upper.create(5);
  overlay.upper.remove = () => {
    throw new Error("the disk is broken");
  };
  overlay.removeBackingFile(5);
  overlay.close();
  const again = open(dir.path);
  assert.deepEqual(again.upper.inos(), []);
  again.close();
});

Deno.test("a small change writes a few KiB, since fsync has to write all of it again", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  const logBytes = () => Deno.statSync(dir.at("overlay.sqlite-wal")).size;
  const before = logBytes();
  const create = (i: number) =>
    overlay.commit((store) => {
      store.putInode(inode(FIRST_INO + i));
      store.putInode(inode(1, { mode: 0o40755, content: CONTENT.none, ctimeSeconds: i }));
      store.putDentry(1, name(`file-${i}`), FIRST_INO + i);
    });
  const count = 200;
  for (let i = 0; i < count; i++) create(i);
  const each = (logBytes() - before) / count;
  assert.ok(each < 5000, `${each} bytes for each`);

  // One more part of the log's index would be needed when the disk is full, and be EIO then.
  for (let i = 0; i < 3000; i++) create(count + i);
  assert.equal(Deno.statSync(dir.at("overlay.sqlite-shm")).size, 32768);
  overlay.close();
});

Deno.test("what an fsync made durable stays until the disk knows that its row is gone", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  const [kept, young] = [inode(FIRST_INO), inode(FIRST_INO + 1)];
  for (const each of [kept, young]) {
    overlay.createBackingFile(each.ino);
    overlay.commit((store) => store.putInode(each));
  }
  overlay.sync(kept, { dataOnly: false });
  for (const { ino } of [kept, young]) {
    overlay.commit((store) => store.deleteInode(ino));
    overlay.removeBackingFile(ino);
  }
  assert.deepEqual(overlay.upper.inos(), [kept.ino]);
  overlay.sync(null, { dataOnly: false });
  assert.deepEqual(overlay.upper.inos(), []);
  overlay.close();
});

Deno.test("many durable files are removed with few syncs, and a big one at once", async () => {
  await using dir = await tempDir();
  const overlay = open(dir.path);
  for (let ino = 1; ino <= 200; ino++) overlay.upper.create(ino);
  pwriteAll(overlay.upper.create(1000), new Uint8Array(5 << 20).fill(1), 0);
  for (let ino = 1; ino <= 200; ino++) overlay.removeBackingFile(ino);
  assert.ok(overlay.upper.inos().length < 70);
  overlay.removeBackingFile(1000);
  assert.deepEqual(overlay.upper.inos(), []);
  overlay.close();
});

Deno.test("the first fsync after a kill reaches what was written before it", async () => {
  await using dir = await tempDir();
  const killed = open(dir.path);
  killed.createBackingFile(FIRST_INO);
  killed.commit((store) => store.putInode(inode(FIRST_INO)));
  killed.abandon();
  const syncs = () => {
    const db = new DatabaseSync(dir.at("overlay.sqlite"), { readOnly: true });
    const row = db.prepare("SELECT syncs FROM meta").get();
    db.close();
    return row?.["syncs"] as number;
  };
  const before = syncs();
  // Looking for orphans at the start is one.
  const again = open(dir.path);
  again.sync(again.store.inode(FIRST_INO), { dataOnly: false });
  assert.ok(syncs() > before);
  again.close();
});

Deno.test("a reserve from before the last start is there to be given up", async () => {
  await using dir = await tempDir();
  await Deno.writeFile(dir.at("reserve"), new Uint8Array(4096).fill(1));
  const reserve = new Reserve(dir.at("reserve") as HostPath);
  assert.equal(reserve.give(), true);
  assert.equal(reserve.give(), false);
});

Deno.test("the journal stays small when nobody asks, and says so to who asks late", async () => {
  await using dir = await tempDir();
  const store = new OverlayStore(dir.at("overlay.sqlite") as HostPath);
  const options = { firstId: "f1", bootId: "boot", wasClean: true, rowsMax: 10 };
  const journal = new Journal(store, options);
  const old = journal.issue();
  let late = "";
  for (let i = 0; i < 200; i++) {
    if (i === 195) late = journal.issue();
    const rows = [{ kind: CHANGED.path, path: `file${i}` as RepoPath }];
    journal.mark();
    store.transaction(() => journal.write(rows));
    journal.wrote(rows);
  }
  assert.ok(store.journalSince(0, 1000).length <= 41);
  assert.equal(journal.since(old), null);
  assert.deepEqual(journal.since(late)?.map(({ path }) => path), [
    "file195",
    "file196",
    "file197",
    "file198",
    "file199",
  ]);
  store.close({ clean: true });
});
