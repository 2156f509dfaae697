/**
 * One process of several that count in one database: `sqlite_main.ts PATH JOURNAL COUNT`.
 * JOURNAL is wal or delete. Adds COUNT to the counter in as many transactions, then prints what it
 * has seen: whether the counter ever went back, and whether the database is whole.
 */

import { DatabaseSync } from "node:sqlite";

const [path = "", journal = "", count = ""] = Deno.args;
const db = new DatabaseSync(path);
// Far longer than all other writers need together.
db.exec("PRAGMA busy_timeout = 120000");
const mode = db.prepare(`PRAGMA journal_mode = ${journal}`).get()?.["journal_mode"];
const read = db.prepare("SELECT n FROM counter");
const add = db.prepare("UPDATE counter SET n = n + 1");
const log = db.prepare("INSERT INTO log (pid, n, padding) VALUES (?, ?, zeroblob(3000))");

// SQLite's locks are not fair: a writer that takes it again at once starves those that back off.
const pause = new Int32Array(new SharedArrayBuffer(4));
const PAUSE_MS = 5;

let last = 0;
let wentBack = 0;
for (let i = 0; i < Number(count); i++) {
  db.exec("BEGIN IMMEDIATE");
  add.run();
  const n = Number(read.get()?.["n"]);
  if (n <= last) wentBack++;
  last = n;
  log.run(Deno.pid, n);
  db.exec("COMMIT");
  Atomics.wait(pause, 0, 0, PAUSE_MS * Math.random());
}
const check = db.prepare("PRAGMA integrity_check").get()?.["integrity_check"];
db.close();
console.log(JSON.stringify({ mode, wentBack, check }));
