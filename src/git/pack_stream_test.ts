import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { constants, deflateSync } from "node:zlib";
import {
  objectOid,
  ObjectWriter,
  packHeader,
  Random,
  TreeBuilder,
} from "../../tests/support/git_objects.ts";
import { git, tempDir } from "../../tests/support/run.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import type { RandomFile } from "./pack_index.ts";
import { type Named, PackStream, type ReceivedPack } from "./pack_stream.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A file in memory that grows. */
class GrowingFile {
  #bytes = new Uint8Array(64);
  sizeBytes = 0;
  readonly file: RandomFile;

  constructor() {
    const grown = () => this.sizeBytes;
    this.file = {
      get sizeBytes() {
        return grown();
      },
      readAt: (offset, into) => {
        const part = this.#bytes.subarray(offset, Math.min(this.sizeBytes, offset + into.length));
        into.set(part);
        return part.length;
      },
      close: () => {},
    };
  }

  write(bytes: Uint8Array): void {
    if (this.sizeBytes + bytes.length > this.#bytes.length) {
      const into = new Uint8Array(2 * (this.sizeBytes + bytes.length));
      into.set(this.#bytes);
      this.#bytes = into;
    }
    this.#bytes.set(bytes, this.sizeBytes);
    this.sizeBytes += bytes.length;
  }
}

interface Outcome extends ReceivedPack {
  readonly named: Map<Oid, number>;
}

/** Receives `pack` in pieces of so many bytes. */
async function receive(pack: Bytes, format: ObjectFormat, piece: number): Promise<Outcome> {
  const named = new Map<Oid, number>();
  const oidBytes = OID_BYTES[format];
  const stream = new PackStream(format, new GrowingFile(), ({ oids, offsets }: Named) => {
    offsets.forEach((offset, i) => named.set(hexOf(oids, i * oidBytes, oidBytes), offset));
  });
  try {
    for (let at = 0; at < pack.length; at += piece) {
      await stream.write(pack.subarray(at, at + piece));
    }
    return { ...await stream.finish(), named };
  } finally {
    stream.close();
  }
}

interface Sample {
  readonly format: ObjectFormat;
  readonly pack: Bytes;
  readonly index: Bytes;
}

/** What git makes of a repository with versions of texts, so that there are deltas. */
async function sample(
  format: ObjectFormat,
  packArgs: readonly string[],
  options: { readonly files: number; readonly bigBytes?: number },
): Promise<Sample> {
  await using dir = await tempDir();
  const repo = dir.at("repo.git");
  await git(["init", "-q", "--bare", "-b", "main", `--object-format=${format}`, repo]);
  const writer = new ObjectWriter(format);
  const random = new Random(3);
  const builder = new TreeBuilder();
  let text = random.text(4000);
  for (let i = 0; i < options.files; i++) {
    const at = random.below(text.length);
    text = new Uint8Array([...text.subarray(0, at), ...random.text(20), ...text.subarray(at)]);
    builder.put(`dir${i % 3}/file${i}`, "100644", writer.blob(text));
  }
  if (options.bigBytes !== undefined) {
    builder.put("big", "100644", writer.blob(random.bytes(options.bigBytes)));
    builder.put("zeros", "100644", writer.blob(new Uint8Array(3 * options.bigBytes)));
  }
  const commit = writer.commit(builder.write(writer), [], 1, "first");
  await writer.flush(repo);
  await git(["-C", repo, "update-ref", "refs/heads/main", commit]);
  const { stdoutBytes: pack } = await git(
    ["-C", repo, "pack-objects", "--all", "--stdout", "-q", ...packArgs],
    { stdin: "" },
  );
  await Deno.writeFile(dir.at("x.pack"), pack);
  await git(["-C", repo, "index-pack", "-o", dir.at("x.idx"), dir.at("x.pack")]);
  return { format, pack: new Uint8Array(pack), index: await Deno.readFile(dir.at("x.idx")) };
}

const OFS = ["--delta-base-offset", "--no-reuse-delta", "--window=20"];
const REF = ["--no-reuse-delta", "--window=20"];

for (const format of ["sha1", "sha256"] as const) {
  for (const [name, args] of [["ofs", OFS], ["ref", REF], ["no", ["--window=0"]]] as const) {
    Deno.test(`${format}, ${name} deltas: the index is git's, and all is named`, async () => {
      const { pack, index } = await sample(format, args, { files: 40 });
      for (const piece of [7, 1000, 65_515, pack.length]) {
        const received = await receive(pack, format, piece);
        assert.deepEqual(received.index, index, `pieces of ${piece}`);
        assert.equal(received.named.size, new DataView(pack.buffer).getUint32(8));
      }
    });
  }
}

Deno.test("big objects are inflated in pieces", async () => {
  const bigBytes = 3 * 1024 * 1024;
  const { pack, index } = await sample("sha1", ["--window=0"], { files: 5, bigBytes });
  for (const piece of [65_515, 1_000_001, pack.length]) {
    assert.deepEqual((await receive(pack, "sha1", piece)).index, index, `pieces of ${piece}`);
  }
});

Deno.test("an object that grew by being compressed", async () => {
  // The fixed code has nine bits for these.
  const content = new Random(5).bytes(70_001).map((byte) => byte | 0x90);
  const { Z_FIXED } = constants;
  const stream = deflateSync(content, { strategy: Z_FIXED, level: 1 });
  assert.ok(stream.length > content.length);
  const head = [...new TextEncoder().encode("PACK"), 0, 0, 0, 2, 0, 0, 0, 1];
  const size = [
    0xb0 | content.length & 15,
    0x80 | content.length >> 4 & 0x7f,
    content.length >> 11,
  ];
  const body = Uint8Array.from([...head, ...size, ...stream]);
  const pack = Uint8Array.from([...body, ...createHash("sha1").update(body).digest()]);
  for (const piece of [1000, 65_515]) {
    const { named } = await receive(pack, "sha1", piece);
    assert.deepEqual([...named.keys()], [objectOid("blob", content, "sha1")]);
  }
});

/** Each makes 7 MB of what the one before made: nothing of it is kept, so each makes all again. */
function chainPack(deltas: number): Bytes {
  const varint = (value: number) => {
    const bytes: number[] = [];
    for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value & 0x7f | 0x80);
    return [...bytes, value];
  };
  const header = (type: number, size: number) =>
    size < 16
      ? [type << 4 | size]
      : [type << 4 | size & 15 | 0x80, ...varint(Math.floor(size / 16))];
  const copy = (size: number) => [0xf0, size & 0xff, size >> 8 & 0xff, size >> 16];
  const [small, large] = [700_000, 7_000_000];
  const base = deflateSync(new Uint8Array(small));
  const bytes = [...packHeader(deltas + 1), ...header(3, small), ...base];
  let before = 12;
  for (let i = 0; i < deltas; i++) {
    const at = bytes.length;
    const delta = i === 0
      ? [
        ...varint(small),
        ...varint(large),
        ...Array.from({ length: 10 }, () => copy(small)).flat(),
      ]
      : [...varint(large), ...varint(large), ...copy(large)];
    const distance = at - before;
    assert.ok(distance < 0x4000);
    const far = distance < 0x80 ? [distance] : [(distance >> 7) - 1 | 0x80, distance & 0x7f];
    bytes.push(...header(6, delta.length), ...far, ...deflateSync(Uint8Array.from(delta)));
    before = at;
  }
  const body = Uint8Array.from(bytes);
  return Uint8Array.from([...body, ...createHash("sha1").update(body).digest()]);
}

Deno.test("deltas that would take for ever are left to git", async () => {
  const { index } = await receive(chainPack(300), "sha1", 65_515);
  assert.equal(index, null);
});

Deno.test("a pack that is cut anywhere is refused", async () => {
  const { pack } = await sample("sha1", OFS, { files: 6 });
  for (let end = 0; end < pack.length; end++) {
    await assert.rejects(receive(pack.subarray(0, end), "sha1", 500), { name: "CorruptPack" });
  }
});

Deno.test("a pack with something behind it is refused", async () => {
  const { pack } = await sample("sha1", OFS, { files: 6 });
  for (const piece of [500, pack.length + 1]) {
    const more = new Uint8Array(pack.length + 1);
    more.set(pack);
    await assert.rejects(receive(more, "sha1", piece), { name: "CorruptPack" });
  }
});

Deno.test("a pack with any byte changed is refused, and nothing wrong is named", async () => {
  const { pack } = await sample("sha1", OFS, { files: 6 });
  const { named } = await receive(pack, "sha1", 500);
  for (let at = 0; at < pack.length; at++) {
    const changed = pack.slice();
    changed[at] = (changed[at] as number) ^ 0x21;
    const seen: Oid[] = [];
    const stream = new PackStream("sha1", new GrowingFile(), ({ oids }) => {
      for (let i = 0; i < oids.length; i += 20) seen.push(hexOf(oids, i, 20));
    });
    const received = (async () => {
      for (let from = 0; from < changed.length; from += 300) {
        await stream.write(changed.subarray(from, from + 300));
      }
      return await stream.finish();
    })();
    await assert.rejects(received, { name: "CorruptPack" }, `byte ${at}`);
    stream.close();
    assert.ok(seen.length <= named.size);
  }
});
