/** Listing directories: completeness, positions, changes while somebody reads. */

import { begin, by, end, fails, named, type PosixCase } from "../case.ts";
import { MANY, manyName } from "../fixture.ts";
import * as c from "../syscalls.ts";

/** Enough for some ten names: many calls for one directory. */
const SMALL_BUFFER = 512;

/**
 * Reads an open directory to its end. Does `change` that many times, one behind each call as long
 * as there are calls, so that what is there at the end does not depend on their number.
 */
function readSlowly(
  s: c.Sys,
  name: string,
  changes: number,
  change: (n: number) => void,
): string[] {
  const names: string[] = [];
  let done = 0;
  for (;;) {
    const entries = s.dirents(name, SMALL_BUFFER);
    if (entries.length === 0) break;
    for (const entry of entries) names.push(entry.name);
    if (done < changes) change(done++);
  }
  while (done < changes) change(done++);
  return names;
}

/** What is wrong with a listing in which all of these must be once. */
function wrongIn(names: readonly string[], expected: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [
    ...expected.filter((name) => !counts.has(name)).map((name) => `no ${name}`),
    ...[...counts].filter(([, count]) => count > 1).map(([name, count]) =>
      `${name} ${count} times`
    ),
  ];
}

const everyName = Array.from({ length: MANY }, (_, n) => manyName(n).slice("many/".length));

export const DIRECTORIES: readonly PosixCase[] = [
  {
    name: "readdir: all entries, kinds and inodes",
    fixture: ["small", "many"],
    steps: [
      (s) => s.list("."),
      (s) => s.list("many"),
      (s) => s.list("many", SMALL_BUFFER),
      (s) => s.list("many", 64),
      (s) => {
        s.mkdir("made");
        for (let i = 0; i < 200; i++) s.put(`made/${i}`, "");
        return s.list("made", SMALL_BUFFER);
      },
      (s) => s.open("d", "many"),
      fails("EINVAL", (s) => s.dirents("d", 16)),
      (s) => s.open("f", "text"),
      fails("ENOTDIR", (s) => s.dirents("f", SMALL_BUFFER)),
      fails("ENOTDIR", (s) => s.list("file")),
    ],
  },
  {
    name: "readdir: an empty directory",
    steps: [
      (s) => s.mkdir("empty"),
      (s) => s.list("empty"),
      () => c.readdir("empty").map(({ name }) => name).sort(),
      (s) => s.rmdir("empty"),
    ],
  },
  {
    name: "readdir: what changes between two readings shows",
    fixture: ["small"],
    steps: [
      (s) => s.list("dir"),
      (s) => s.put("dir/new", "x"),
      (s) => s.list("dir"),
      (s) => s.unlink("dir/a"),
      (s) => s.list("dir"),
      (s) => s.rename("dir/b", "dir/c"),
      (s) => s.list("dir"),
      (s) => s.open("d", "dir"),
      (s) => s.listFd("d"),
      (s) => s.mkdir("dir/later"),
      (s) => s.listFd("d"),
      (s) => s.seek("d", 0),
      (s) => s.listFd("d"),
      by("peer", (s) => s.unlink("dir/new")),
      (s) => s.seek("d", 0),
      (s) => s.listFd("d"),
      (s) => s.unlink("dir/c"),
      (s) => s.symlink("x", "dir/c"),
      (s) => s.list("dir"),
    ],
  },
  {
    name: "readdir: entries that stay are there once, whatever is made meanwhile",
    fixture: ["many"],
    steps: [
      (s) => s.open("d", "many"),
      named("create while reading", (s) => {
        const names = readSlowly(s, "d", 10, (n) => {
          for (let i = 0; i < 5; i++) s.put(`many/new-${n}-${i}`, "");
        });
        return wrongIn(names, everyName);
      }),
      named("remove the new ones while reading", (s) => {
        s.seek("d", 0);
        const names = readSlowly(s, "d", 10, (n) => {
          for (let i = 0; i < 5; i++) s.unlink(`many/new-${n}-${i}`);
        });
        return wrongIn(names, everyName);
      }),
      named("remove and make again, rename and rename back while reading", (s) => {
        s.seek("d", 0);
        const names = readSlowly(s, "d", 10, (n) => {
          s.unlink(manyName(n));
          s.put(manyName(n), "again");
          s.rename(manyName(10 + n), "held");
          s.rename("held", manyName(10 + n));
        });
        const isUntouched = (name: string) => everyName.indexOf(name) >= 20;
        return wrongIn(names.filter(isUntouched), everyName.filter(isUntouched));
      }),
    ],
  },
  {
    name: "readdir: removing all that is read, as rm -r does",
    fixture: ["many"],
    steps: [
      (s) => s.open("d", "many"),
      named("remove while reading", (s) => {
        let removed = 0;
        for (;;) {
          const entries = s.dirents("d", SMALL_BUFFER);
          if (entries.length === 0) return removed;
          for (const { name } of entries) {
            if (name === "." || name === "..") continue;
            s.unlink(`many/${name}`);
            removed++;
          }
        }
      }),
      (s) => s.rmdir("many"),
      fails("ENOENT", (s) => s.listFd("d")),
    ],
  },
  {
    name: "readdir: another process makes and removes files all the time",
    fixture: ["many"],
    steps: [
      begin("peer", (s) => {
        for (let i = 0; i < 400; i++) {
          s.put(`many/churn${i % 20}`, "");
          if (i % 3 === 0) s.rename(`many/churn${i % 20}`, "many/renamed");
          else s.unlink(`many/churn${i % 20}`);
        }
      }),
      named("20 listings", (s) => {
        const wrong = new Set<string>();
        for (let i = 0; i < 20; i++) {
          s.open("d", "many");
          const names = readSlowly(s, "d", 0, () => {});
          const stable = names.filter((name) => !/churn|renamed/.test(name));
          for (const line of wrongIn(stable, everyName)) wrong.add(line);
          s.close("d");
        }
        return [...wrong];
      }),
      end("peer"),
      (s) => s.list("many").length,
    ],
  },
  {
    name: "readdir: telldir and seekdir",
    fixture: ["many"],
    steps: [
      (s) => s.open("d", "many"),
      named("go back to each position", (s) => {
        const entries = c.readdirFd(s.fd("d"), SMALL_BUFFER);
        const wrong: string[] = [];
        for (let i = 0; i + 1 < entries.length; i += 7) {
          c.lseek(s.fd("d"), entries[i]?.offset ?? 0n, c.SEEK_SET);
          const next = s.dirents("d", SMALL_BUFFER)[0]?.name;
          if (next !== entries[i + 1]?.name) wrong.push(`after ${i}: ${next}`);
        }
        return wrong;
      }),
      named("positions are all different", (s) => {
        s.seek("d", 0);
        const entries = c.readdirFd(s.fd("d"), SMALL_BUFFER);
        return new Set(entries.map(({ offset }) => offset)).size === entries.length;
      }),
      named("a position outlives the removal of what was before it", (s) => {
        s.seek("d", 0);
        const first = s.dirents("d", SMALL_BUFFER);
        const position = first.at(-1)?.offset ?? 0n;
        const rest = c.readdirFd(s.fd("d"), SMALL_BUFFER).map(({ name }) => name);
        for (const { name } of first) {
          if (name !== "." && name !== "..") s.unlink(`many/${name}`);
        }
        c.lseek(s.fd("d"), position, c.SEEK_SET);
        return wrongIn(c.readdirFd(s.fd("d"), SMALL_BUFFER).map(({ name }) => name), rest);
      }),
      named("clear what is left", (s) => {
        for (let n = 0; n < MANY; n++) {
          if (c.errnoOf(() => s.lstat(manyName(n))) === "") s.unlink(manyName(n));
        }
      }),
    ],
  },
  {
    name: "directories: two that are open have a position each",
    fixture: ["many"],
    steps: [
      (s) => s.open("a", "many"),
      (s) => s.open("b", "many"),
      named("in turns", (s) => {
        const a: string[] = [];
        const b: string[] = [];
        for (let more = true; more;) {
          const [left, right] = [s.dirents("a", SMALL_BUFFER), s.dirents("b", 2 * SMALL_BUFFER)];
          a.push(...left.map(({ name }) => name));
          b.push(...right.map(({ name }) => name));
          more = left.length + right.length > 0;
        }
        return [wrongIn(a, everyName), wrongIn(b, everyName)];
      }),
    ],
  },
  {
    name: "directories: inodes in listings are those of stat, after changes too",
    fixture: ["small"],
    steps: [
      (s) => s.append("file", "x"),
      (s) => s.rename("dir", "moved"),
      (s) => s.chmod("exec", 0o700),
      (s) => s.link("text", "text2"),
      () =>
        c.readdir(".").filter(({ name, ino }) => name !== ".." && ino !== c.lstat(name).ino)
          .map(({ name }) => name),
      () =>
        c.readdir("moved").filter(({ name, ino }) => ino !== c.lstat(`moved/${name}`).ino)
          .map(({ name }) => name),
    ],
  },
];
