import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { hasTable, openDatabase, openDatabaseToRead, transaction } from "./mod.ts";

async function inFolder(fn: (path: string) => void | Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await fn(`${dir}/x.sqlite`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const FIRST = "CREATE TABLE a (x INTEGER)";
const SECOND = "ALTER TABLE a ADD COLUMN y INTEGER";

Deno.test("openDatabase: migrations run once, in order", async () => {
  await inFolder((path) => {
    openDatabase(path, { migrations: [FIRST] }).close();
    using db = openDatabase(path, { migrations: [FIRST, SECOND] });
    db.exec("INSERT INTO a (x, y) VALUES (1, 2)");
    assert.ok(hasTable(db, "a"));
    assert.ok(!hasTable(db, "b"));
    assert.throws(() => openDatabase(path, { migrations: [FIRST] }), (error: unknown) => {
      assert.ok(error instanceof Failure);
      return error.kind === "fatal" && /newer afs/.test(error.message);
    });
  });
});

Deno.test("openDatabase: a migration that fails leaves nothing", async () => {
  await inFolder((path) => {
    const bad = [`${FIRST}; INSERT INTO none VALUES (1)`];
    assert.throws(() => openDatabase(path, { migrations: bad }), Failure);
    using db = openDatabase(path, { migrations: [] });
    assert.ok(!hasTable(db, "a"));
  });
});

for (const umask of [0o000, 0o077]) {
  Deno.test(`openDatabase: all files are 0600 with umask ${umask.toString(8)}`, async () => {
    await inFolder((path) => {
      const before = Deno.umask(umask);
      try {
        using db = openDatabase(path, { migrations: [FIRST] });
        db.exec("INSERT INTO a VALUES (1)");
        for (const suffix of ["", "-wal", "-shm"]) {
          assert.equal((Deno.statSync(path + suffix).mode ?? 0) & 0o777, 0o600);
        }
      } finally {
        Deno.umask(before);
      }
    });
  });
}

Deno.test("openDatabase: out of reach, no database, none to read", async () => {
  await inFolder((path) => {
    assert.throws(() => openDatabase("/nowhere/x", { migrations: [] }), Failure);
    assert.equal(openDatabaseToRead(path), null);
    Deno.writeTextFileSync(path, "not a database".repeat(100));
    assert.throws(() => openDatabase(path, { migrations: [] }), Failure);
  });
});

Deno.test("transaction: all or nothing, and two writers wait for each other", async () => {
  await inFolder(async (path) => {
    using db = openDatabase(path, { migrations: [FIRST] });
    assert.throws(() =>
      transaction(db, () => {
        db.exec("INSERT INTO a VALUES (1)");
        throw new Error("no");
      }), /no/);
    assert.equal(transaction(db, () => db.prepare("SELECT count(*) AS n FROM a").get()?.["n"]), 0);
    const writer = `
      import { openDatabase, transaction } from ${JSON.stringify(import.meta.resolve("./mod.ts"))};
      const db = openDatabase(${JSON.stringify(path)}, { migrations: [${JSON.stringify(FIRST)}] });
      for (let i = 0; i < 50; i++) transaction(db, () => db.exec("INSERT INTO a VALUES (1)"));`;
    const runs = [1, 2, 3].map(() =>
      new Deno.Command(Deno.execPath(), { args: ["eval", writer] }).output()
    );
    for (const { success, stderr } of await Promise.all(runs)) {
      assert.ok(success, new TextDecoder().decode(stderr));
    }
    assert.equal(db.prepare("SELECT count(*) AS n FROM a").get()?.["n"], 150);
  });
});
