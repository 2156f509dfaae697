/**
 * Holds things of a mount while its work tree becomes another commit: a directory that it is in, an
 * open file, a mapping that it has not looked at, a listing, and a name that was not there.
 *
 *     deno run -A switch_hold_main.ts DIRECTORY OPEN MAPPED MISSING
 *
 * Prints "ready", waits for a line, then prints what it sees, as JSON.
 */

import * as raw from "../support/raw_fs.ts";

export interface HeldJson {
  readonly opened: string;
  readonly mapped: string;
  readonly nlink: number;
  readonly cwd: string;
  readonly names: readonly string[];
  readonly missing: string;
  /** Of the path that is open. */
  readonly now: string;
}

function textOf(path: string): string {
  return raw.errnoOf(() => raw.lstat(raw.fromUtf8(path))) || new TextDecoder().decode(
    raw.readFile(raw.fromUtf8(path)),
  );
}

const namesOf = (path: string) =>
  raw.readdir(raw.fromUtf8(path)).map(({ name }) => raw.printable(name))
    .filter((name) => name !== "." && name !== "..").sort();

if (import.meta.main) {
  const [directory = "", open = "", mapped = "", missing = ""] = Deno.args;
  Deno.chdir(directory);
  const fd = raw.open(raw.fromUtf8(open));
  const mappedFd = raw.open(raw.fromUtf8(mapped));
  const mapping = raw.mmap(mappedFd, Number(raw.fstat(mappedFd).size));
  namesOf(".");
  if (textOf(missing) !== "ENOENT") throw new Error(`${missing} is there`);
  console.log(JSON.stringify("ready"));
  await Deno.stdin.read(new Uint8Array(1));
  const buffer = new Uint8Array(1 << 20);
  const held: HeldJson = {
    opened: new TextDecoder().decode(buffer.slice(0, raw.pread(fd, buffer, 0))),
    mapped: new TextDecoder().decode(mapping.bytes.slice()),
    nlink: Number(raw.fstat(fd).nlink),
    cwd: Deno.cwd(),
    names: namesOf("."),
    missing: textOf(missing),
    now: textOf(open),
  };
  mapping.unmap();
  console.log(JSON.stringify(held));
}
