import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Random } from "../../tests/support/git_objects.ts";
import { git, tempDir } from "../../tests/support/run.ts";
import type { ObjectType } from "./cat_file.ts";
import { bytesOfOid, hexOf, type ObjectFormat, type Oid } from "./oid.ts";
import { PackIndex, type RandomFile } from "./pack_index.ts";
import { OBJECT_BYTES_MAX } from "./pack_object.ts";
import { type PackFolder, PackReader } from "./pack_reader.ts";

type Bytes = Uint8Array<ArrayBuffer>;

interface GitObject {
  readonly oid: Oid;
  readonly type: ObjectType;
  readonly bytes: Bytes;
}

/** Files in memory, that can be damaged; counts what is open. */
class MemoryFolder implements PackFolder {
  readonly files = new Map<string, Bytes>();
  opened = 0;
  looked = 0;
  reads = 0;

  names(): string[] {
    this.looked++;
    return [...this.files.keys()];
  }

  open(name: string): RandomFile {
    const bytes = this.files.get(name);
    if (bytes === undefined) throw new Error(`no ${name}`);
    this.opened++;
    return {
      sizeBytes: bytes.length,
      readAt: (offset, into) => {
        this.reads++;
        const part = bytes.subarray(offset, offset + into.length);
        into.set(part);
        return part.length;
      },
      close: () => this.opened--,
    };
  }
}

/** What git itself reads, of every object. */
async function objectsOf(gitDir: string): Promise<GitObject[]> {
  const { stdoutBytes } = await git(
    ["-C", gitDir, "cat-file", "--batch-all-objects", "--batch"],
  );
  const objects: GitObject[] = [];
  for (let at = 0; at < stdoutBytes.length;) {
    const end = stdoutBytes.indexOf(10, at);
    const line = new TextDecoder().decode(stdoutBytes.subarray(at, end));
    const [oid = "", type = "", size = ""] = line.split(" ");
    at = end + 1 + Number(size) + 1;
    const bytes = stdoutBytes.slice(end + 1, at - 1);
    objects.push({ oid: oid as Oid, type: type as ObjectType, bytes });
  }
  return objects;
}

async function packsOf(gitDir: string): Promise<Map<string, Bytes>> {
  const files = new Map<string, Bytes>();
  for await (const { name } of Deno.readDir(`${gitDir}/objects/pack`)) {
    files.set(name, await Deno.readFile(`${gitDir}/objects/pack/${name}`));
  }
  return files;
}

/** Texts that are small edits of each other, so that git makes chains of deltas. */
function versions(random: Random): Bytes[] {
  const lines = Array.from({ length: 30 + random.below(200) }, () => `${random.next32()}\n`);
  return Array.from({ length: 2 + random.below(60) }, () => {
    const at = random.below(lines.length);
    lines.splice(at, random.below(3), ...Array(random.below(4)).fill(`${random.next32()}\n`));
    return new TextEncoder().encode(lines.join(""));
  });
}

/** `deepEqual` of a MiB takes minutes. */
function assertBytes(read: Bytes | undefined, right: Bytes, what = ""): void {
  assert.ok(read !== undefined, `${what} is read`);
  assert.equal(Buffer.compare(read, right), 0, `${what} is right`);
}

interface Made {
  readonly objects: readonly GitObject[];
  readonly files: ReadonlyMap<string, Bytes>;
}

async function makePacked(
  seed: number,
  format: ObjectFormat,
  config: readonly string[] = [],
): Promise<Made> {
  await using dir = await tempDir();
  const gitDir = dir.at("r.git");
  const random = new Random(seed);
  await git(["init", "--quiet", "--bare", `--object-format=${format}`, gitDir]);
  const blobs = Array.from({ length: 3 }, () => versions(random)).flat();
  // Chunks of a delta are copied from far behind, and by 64 KiB, only in big ones.
  const big = random.bytes(300_000);
  const edited = big.slice();
  edited.set(random.bytes(20), 250_000);
  blobs.push(new Uint8Array(), new Uint8Array(1), big, edited, random.bytes(9_000));
  const paths = blobs.map((_, i) => dir.at(`f${String(i).padStart(3, "0")}`));
  blobs.forEach((bytes, i) => Deno.writeFileSync(paths[i] as string, bytes));
  const { stdout: oids } = await git(["-C", gitDir, "hash-object", "-w", "--stdin-paths"], {
    stdin: paths.map((path) => `${path}\n`).join(""),
  });
  const entries = oids.trim().split("\n").map((oid, i) =>
    `100644 blob ${oid}\t${(paths[i] as string).slice(-4)}\n`
  );
  const { stdout: tree } = await git(["-C", gitDir, "mktree"], { stdin: entries.join("") });
  const { stdout: commit } = await git(["-C", gitDir, "commit-tree", "-m", "x", tree.trim()]);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", commit.trim()]);
  await git(["-C", gitDir, ...config, "repack", "-adfq", "--depth=50", "--window=50"]);
  return { objects: await objectsOf(gitDir), files: await packsOf(gitDir) };
}

function readerOf({ files }: Made, format: ObjectFormat = "sha1") {
  const folder = new MemoryFolder();
  for (const [name, bytes] of files) folder.files.set(name, bytes);
  return { folder, reader: new PackReader(folder, format) };
}

function assertAll({ objects }: Made, reader: PackReader): void {
  for (const { oid, type, bytes } of objects) {
    assert.equal(reader.size(oid), bytes.length, oid);
    assertBytes(reader.read(oid, type), bytes, oid);
  }
}

/** At most so long a chain is in there; git says so. */
async function longestChain({ files }: Made): Promise<number> {
  await using dir = await tempDir();
  for (const [name, bytes] of files) await Deno.writeFile(dir.at(name), bytes);
  const idx = [...files.keys()].find((name) => name.endsWith(".idx")) ?? "";
  const { stdout } = await git(["verify-pack", "--verbose", dir.at(idx)]);
  return Math.max(0, ...[...stdout.matchAll(/^chain length = (\d+)/gm)].map(([, n]) => Number(n)));
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`every object of a pack with deltas is read as git reads it (${format})`, async () => {
    for (const seed of [1, 2]) {
      const made = await makePacked(seed, format);
      if (format === "sha1") assert.ok(await longestChain(made) >= 5, "there are deltas");
      const { reader, folder } = readerOf(made, format);
      assertAll(made, reader);
      // In another order: what was kept of the first time is of use, and right.
      for (const { oid, type, bytes } of [...made.objects].reverse()) {
        assertBytes(reader.read(oid, type), bytes);
      }
      reader.close();
      assert.equal(folder.opened, 0);
    }
  });

  Deno.test(`deltas that name their base (${format})`, async () => {
    const made = await makePacked(3, format, ["-c", "repack.useDeltaBaseOffset=false"]);
    const { reader } = readerOf(made, format);
    assertAll(made, reader);
    reader.close();
  });
}

Deno.test("offsets of 64 bits", async () => {
  const made = await makePacked(4, "sha1");
  await using dir = await tempDir();
  const [name = ""] = [...made.files.keys()].filter((each) => each.endsWith(".pack"));
  await Deno.writeFile(dir.at("p.pack"), made.files.get(name) as Bytes);
  await git(["index-pack", "--index-version=2,64", "-o", dir.at("p.idx"), dir.at("p.pack")]);
  const files = new Map(made.files);
  files.set(name.replace(/pack$/, "idx"), await Deno.readFile(dir.at("p.idx")));
  const { reader } = readerOf({ objects: made.objects, files });
  assertAll(made, reader);
  reader.close();
});

Deno.test("an object is read only as what it is, and only when it is small enough", async () => {
  const made = await makePacked(5, "sha1");
  const { reader } = readerOf(made);
  for (const { oid, type, bytes } of made.objects) {
    assert.equal(reader.read(oid, type === "blob" ? "tree" : "blob"), undefined);
    assertBytes(reader.read(oid, type, bytes.length), bytes);
    if (bytes.length > 0) assert.equal(reader.read(oid, type, bytes.length - 1), undefined);
  }
  reader.close();
});

Deno.test("an object that is too big is not inflated", async () => {
  await using dir = await tempDir();
  const gitDir = dir.at("r.git");
  await git(["init", "--quiet", "--bare", gitDir]);
  const random = new Random(14);
  const blobs = [random.bytes(OBJECT_BYTES_MAX), random.bytes(OBJECT_BYTES_MAX + 1)];
  const oids: Oid[] = [];
  for (const bytes of blobs) {
    await Deno.writeFile(dir.at("blob"), bytes);
    const { stdout } = await git(["-C", gitDir, "hash-object", "-w", dir.at("blob")]);
    oids.push(stdout.trim() as Oid);
  }
  await git(["-C", gitDir, "pack-objects", "-q", `${gitDir}/objects/pack/pack`], {
    stdin: oids.map((each) => `${each}\n`).join(""),
  });
  const made = { objects: [], files: await packsOf(gitDir) };
  const { reader } = readerOf(made);
  assertBytes(reader.read(oids[0] as Oid, "blob"), blobs[0] as Bytes);
  assert.equal(reader.read(oids[1] as Oid, "blob"), undefined);
  assert.deepEqual(oids.map((each) => reader.size(each)), blobs.map(({ length }) => length));
  reader.close();
});

Deno.test("damage anywhere gives right bytes or none, and no object more than there is", async () => {
  for (const format of ["sha1", "sha256"] as const) {
    const made = await makePacked(6, format);
    const random = new Random(7);
    const names = [...made.files.keys()].filter((name) => /\.(idx|pack)$/.test(name));
    let lost = 0;
    for (let round = 0; round < 150; round++) {
      const { folder, reader } = readerOf(made, format);
      const name = names[round % names.length] as string;
      const bytes = (made.files.get(name) as Bytes).slice();
      const kind = random.below(3);
      // The beginning of an index decides about all of it.
      const at = random.below(random.below(3) === 0 ? 1100 : bytes.length);
      if (kind === 0) folder.files.set(name, bytes.slice(0, at));
      else {
        const length = kind === 1 ? 1 : 1 + random.below(64);
        bytes.set(random.bytes(length), Math.min(at, bytes.length - length));
        folder.files.set(name, bytes);
      }
      for (const { oid, type, bytes: right } of made.objects) {
        const read = reader.read(oid, type);
        if (read === undefined) lost++;
        else assertBytes(read, right, `${oid}, ${name} damaged at ${at}`);
      }
      reader.close();
      assert.equal(folder.opened, 0);
    }
    assert.ok(lost > 0, "some damage is seen");
  }
});

Deno.test("what is damaged in one pack is read from another", async () => {
  const made = await makePacked(8, "sha1");
  const { folder, reader } = readerOf(made);
  for (const [name, bytes] of made.files) {
    const damaged = bytes.slice();
    if (name.endsWith(".pack")) damaged.fill(0, 12);
    folder.files.set(`damaged-${name}`, damaged);
  }
  assertAll(made, reader);
  reader.close();
});

Deno.test("the folder is looked at on a miss, once for each time that packs were expected", async () => {
  const made = await makePacked(9, "sha1");
  const { folder, reader } = readerOf({ objects: [], files: new Map() });
  const { oid, type, bytes } = made.objects[0] as GitObject;
  for (let i = 0; i < 3; i++) assert.equal(reader.read(oid, type), undefined);
  assert.equal(folder.looked, 1);
  for (const [name, file] of made.files) folder.files.set(name, file);
  assert.equal(reader.read(oid, type), undefined);
  reader.expectPacks();
  for (let i = 0; i < 3; i++) assertBytes(reader.read(oid, type), bytes);
  reader.expectPacks();
  for (let i = 0; i < 3; i++) assertBytes(reader.read(oid, type), bytes);
  assert.equal(folder.looked, 2);
  reader.close();
});

Deno.test("a file that cannot be read, and one that is no pack, are passed over", async () => {
  const made = await makePacked(10, "sha1");
  const { folder, reader } = readerOf(made);
  folder.files.set("pack-alone.idx", [...made.files.values()][0] as Bytes);
  folder.files.set("pack-empty.idx", new Uint8Array());
  folder.files.set("pack-empty.pack", new Uint8Array());
  assertAll(made, reader);
  reader.close();
  assert.equal(folder.opened, 0);
});

Deno.test("many packs: few are open, the newest among them", async () => {
  const made = await makePacked(11, "sha1");
  const { folder, reader } = readerOf({ objects: [], files: new Map() });
  const [idx = ""] = [...made.files.keys()].filter((name) => name.endsWith(".idx"));
  const pack = made.files.get(idx.replace(/idx$/, "pack")) as Bytes;
  for (let i = 0; i < 300; i++) {
    folder.files.set(`pack-${i}.idx`, made.files.get(idx) as Bytes);
    folder.files.set(`pack-${i}.pack`, i < 299 ? new Uint8Array() : pack);
  }
  assertAll(made, reader);
  assert.ok(folder.opened <= 256, `${folder.opened} open`);
  reader.close();
});

Deno.test("an object of a few KB is one read of the pack", async () => {
  const made = await makePacked(12, "sha1");
  const { folder, reader } = readerOf(made);
  const small = made.objects.filter(({ type, bytes }) => type === "blob" && bytes.length < 5_000);
  assert.ok(small.length > 0);
  reader.read(made.objects[0]!.oid, "blob");
  for (const { oid } of made.objects) {
    folder.reads = 0;
    reader.read(oid, "blob");
    // Oids and offset of the index, then the object; the most is a chain of deltas.
    if (folder.reads > 3) continue;
    return;
  }
  assert.fail("none was");
});

Deno.test("an index is searched, however many oids begin alike", () => {
  const random = new Random(13);
  const oids = [
    ...new Set(Array.from({ length: 5000 }, (_, i) => {
      const bytes = random.bytes(20);
      if (i % 10 !== 0) bytes[0] = 0x42;
      return hexOf(bytes);
    })),
  ].sort();
  const count = oids.length;
  const bytes = new Uint8Array(8 + 1024 + count * 28 + 40);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xff744f63);
  view.setUint32(4, 2);
  for (let first = 0; first < 256; first++) {
    const upTo = oids.filter((each) => Number.parseInt(each.slice(0, 2), 16) <= first).length;
    view.setUint32(8 + 4 * first, upTo);
  }
  for (const [rank, each] of oids.entries()) {
    for (let i = 0; i < 20; i++) {
      bytes[1032 + 20 * rank + i] = Number.parseInt(each.slice(2 * i, 2 * i + 2), 16);
    }
    view.setUint32(1032 + 24 * count + 4 * rank, 1000 + rank);
  }
  const folder = new MemoryFolder();
  folder.files.set("a.idx", bytes);
  const index = new PackIndex(folder.open("a.idx"), "sha1");
  for (const [rank, each] of oids.entries()) {
    assert.equal(index.offsetOf(bytesOfOid(each)), 1000 + rank);
  }
  for (let i = 0; i < 1000; i++) {
    const other = random.bytes(20);
    if (i % 2 === 0) other[0] = 0x42;
    assert.equal(index.offsetOf(other), undefined);
  }
  index.close();
});
