import assert from "node:assert/strict";
import { git, run, type TempDir, tempDir, waitFor } from "../../tests/support/run.ts";
import { type BaseId, baseIdOf } from "../git/base_id.ts";
import { type Conversion, formOf, suffixOfForm } from "../git/conversion.ts";
import { type ObjectFormat, type Oid, oid as checkedOid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { ContextBuilder, ContextStore } from "../snapshot/contexts.ts";
import { closeFd, effectiveUid, O, openFd } from "../sys/mod.ts";
import { type Converted, Converter, forgetOtherBoots, takeFile } from "./converter.ts";
import { layoutOf } from "./layout.ts";
import type { RepoRecord } from "./types.ts";

const CRLF: Conversion = { eol: "text", ident: false, encoding: null, filter: null };
const by = (name: string, path: string): Conversion => ({
  eol: null,
  ident: false,
  encoding: null,
  filter: { name, path },
});

class World implements AsyncDisposable {
  readonly told: Converted[] = [];
  progress = 0;
  readonly #ids = new ContextBuilder();
  #converter: Converter | null = null;

  private constructor(readonly dir: TempDir, readonly format: ObjectFormat) {}

  static async make(format: ObjectFormat = "sha1"): Promise<World> {
    const dir = await tempDir();
    const world = new World(dir, format);
    for (const folder of ["repos", "gitdirs", "convert", "empty", "stores", "stores/s"]) {
      await Deno.mkdir(dir.at(folder));
    }
    await Deno.mkdir(world.layout.repo("r").dir);
    for (const gitDir of [world.layout.repo("r").userGitDir, world.layout.store("s").gitDir]) {
      await git(["init", "-q", "--bare", `--object-format=${format}`, gitDir]);
    }
    return world;
  }

  get layout() {
    return layoutOf(this.dir.path as HostPath);
  }

  get record(): RepoRecord {
    return {
      id: "r",
      name: "test",
      storeId: "s",
      objectFormat: this.format,
      baseCommitOid: "1".repeat(40) as Oid,
      uid: effectiveUid(),
      gid: 0,
    } as RepoRecord;
  }

  async configure(key: string, value: string): Promise<void> {
    await git(["--git-dir", this.layout.repo("r").userGitDir, "config", key, value]);
  }

  async id(content: string, conversion: Conversion): Promise<BaseId> {
    const args = ["--git-dir", this.layout.store("s").gitDir, "hash-object", "-w", "--stdin"];
    const { stdout } = await git(args, { stdin: content });
    return this.idOf(checkedOid(stdout.trim()), conversion);
  }

  idOf(blobOid: Oid, conversion: Conversion): BaseId {
    this.#ids.add(`f${this.#ids.forms.size}`, conversion);
    return baseIdOf(blobOid, suffixOfForm(formOf(conversion)));
  }

  /** Answers to all. */
  async convert(ids: readonly BaseId[]): Promise<Map<BaseId, number>> {
    const before = this.told.length;
    await this.ask(ids);
    const count = new Set(ids).size;
    await waitFor(() => this.told.length >= before + count, "all answers");
    return new Map(this.told.slice(before));
  }

  async ask(ids: readonly BaseId[]): Promise<void> {
    const { contextsDir, contextsPath } = this.layout.repo("r");
    await Deno.mkdir(contextsDir, { recursive: true });
    const store = new ContextStore(contextsPath);
    await store.put(this.#ids);
    store.close();
    this.#converter ??= new Converter({
      layout: this.layout,
      record: this.record,
      onConverted: (converted) => this.told.push(...converted),
      onProgress: () => this.progress++,
    });
    this.#converter.convert(ids);
  }

  async bytes(id: BaseId): Promise<string> {
    const { convertedDir } = this.layout.repo("r");
    const made = await Deno.readTextFile(`${convertedDir}/made/${id}`).catch(() => null);
    return made ?? await Deno.readTextFile(`${convertedDir}/kept/${id}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#converter?.stop();
    await this.dir.remove();
  }
}

Deno.test("converter: what a checkout writes, by id, many at once", async () => {
  await using world = await World.make();
  const ids = await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      world.id(
        `${i}\nx\n`,
        i % 2 === 0 ? CRLF : {
          ...CRLF,
          encoding: "UTF-16BE",
        },
      )),
  );
  const sizes = await world.convert([...ids, ids[0] as BaseId]);
  assert.equal(world.told.length, 30, "each is answered once");
  assert.equal(await world.bytes(ids[0] as BaseId), "0\r\nx\r\n");
  assert.equal(sizes.get(ids[0] as BaseId), 6);
  assert.equal(sizes.get(ids[1] as BaseId), 12);
  // Nothing is left where git wrote.
  const lane = `${world.layout.repo("r").convertDir}/plain/work`;
  assert.deepEqual([...Deno.readDirSync(lane)], []);
});

Deno.test("converter: sha256 names", async () => {
  await using world = await World.make("sha256");
  const ident: Conversion = { ...CRLF, ident: true };
  const id = await world.id("$Id$\n", ident);
  assert.equal((await world.convert([id])).get(id), "$Id$\r\n".length + ": ".length + 64 + 1);
  assert.match(await world.bytes(id), /^\$Id: [0-9a-f]{64} \$\r\n$/);
});

Deno.test("converter: one that fails fails alone", async () => {
  await using world = await World.make();
  const good = await Promise.all(["a\n", "b\n"].map((text) => world.id(text, CRLF)));
  const missing = world.idOf("2".repeat(40) as Oid, CRLF);
  const unknown = baseIdOf("3".repeat(40) as Oid, suffixOfForm("never put"));
  const sizes = await world.convert([good[0] as BaseId, missing, good[1] as BaseId, unknown]);
  assert.deepEqual(
    [good[0], missing, good[1], unknown].map((id) => sizes.get(id as BaseId)),
    [3, -1, 3, -1],
  );
  // It has come meanwhile.
  assert.equal((await world.convert([await world.id("c\n", CRLF)])).size, 1);
});

Deno.test("converter: a driver is told the file's path, and only the owner's is run", async () => {
  await using world = await World.make();
  const path = 'a "b/c$d.x';
  const id = await world.id("lower\n", by("up", path));
  const same = await world.id("lower\n", by("up", "other"));
  const raw = await world.id("lower\n", by("gone", path));
  await world.configure("filter.up.smudge", 'tr a-z A-Z; printf "%s" %f');
  await world.configure("filter.up.required", "true");
  const sizes = await world.convert([id, same, raw]);
  assert.equal(await world.bytes(id), `LOWER\n${path}`);
  assert.equal(await world.bytes(same), "LOWER\nother");
  assert.equal(sizes.get(raw), 6, "a driver that is not there any more does nothing");
});

Deno.test("converter: a driver that hangs holds up nothing that needs none", async () => {
  await using world = await World.make();
  await world.configure("filter.hang.smudge", "sleep 1000");
  const hanging = await world.id("x\n", by("hang", "x"));
  const plain = await world.id("a\n", CRLF);
  await world.ask([hanging, plain]);
  await waitFor(() => world.told.length === 1, "the one that needs no driver");
  assert.deepEqual(world.told, [[plain, 3]]);
});

Deno.test("converter: what a power failure may have cut is made anew", async () => {
  await using world = await World.make();
  await world.configure("filter.up.smudge", "tr a-z A-Z");
  const id = await world.id("a\n", CRLF);
  const driven = await world.id("a\n", by("up", "x"));
  await world.convert([id, driven]);
  const { convertedDir } = world.layout.repo("r");
  await forgetOtherBoots(world.record, world.layout);
  assert.equal(await world.bytes(id), "a\r\n", "of this boot");
  await Deno.writeTextFile(`${convertedDir}/boot`, "another");
  await forgetOtherBoots(world.record, world.layout);
  await assert.rejects(world.bytes(id), Deno.errors.NotFound);
  assert.equal(await world.bytes(driven), "A\n", "which is on the disk");
});

Deno.test("converter: a hostile work tree gives nothing but files of its owner", async () => {
  await using dir = await tempDir();
  const [work, out] = [dir.at("work"), dir.at("out")];
  await Deno.mkdir(work);
  await Deno.mkdir(out);
  await Deno.writeTextFile(dir.at("secret"), "secret");
  await Deno.writeTextFile(`${work}/file`, "good");
  await Deno.symlink(dir.at("secret"), `${work}/link`);
  await Deno.symlink(dir.path, `${work}/folder-link`);
  await Deno.mkdir(`${work}/folder`);
  await run("mkfifo", [`${work}/fifo`]);
  const fd = openFd(work, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  const uid = effectiveUid();
  const to = { folder: out, durable: false };
  try {
    for (const name of ["link", "folder", "folder-link", "fifo", "absent"]) {
      assert.equal(await takeFile(fd, name, uid, { ...to, name: "x" }), -1, name);
    }
    assert.equal(await takeFile(fd, "file", uid + 1, { ...to, name: "x" }), -1, "somebody else's");
    assert.deepEqual([...Deno.readDirSync(out)], []);
    assert.equal(await takeFile(fd, "file", uid, { ...to, name: "x" }), 4);
    assert.equal(await Deno.readTextFile(`${out}/x`), "good");
    assert.equal((Deno.statSync(`${out}/x`).mode ?? 0) & 0o777, 0o600);
    // Another directory in its place is never looked at: the descriptor is the first one's.
    await Deno.rename(work, dir.at("moved"));
    await Deno.symlink("/etc", work);
    assert.equal(await takeFile(fd, "passwd", uid, { ...to, name: "y" }), -1);
    assert.throws(() => openFd(work, O.RDONLY | O.DIRECTORY | O.NOFOLLOW));
  } finally {
    closeFd(fd);
  }
});

Deno.test("converter: a big file is copied in turns", async () => {
  await using dir = await tempDir();
  const bytes = new Uint8Array(20 * 1024 * 1024 + 7).map((_, i) => i % 251);
  await Deno.mkdir(dir.at("work"));
  await Deno.mkdir(dir.at("out"));
  await Deno.writeFile(dir.at("work", "file"), bytes);
  const fd = openFd(dir.at("work"), O.RDONLY | O.DIRECTORY);
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  try {
    const size = await takeFile(fd, "file", effectiveUid(), {
      folder: dir.at("out"),
      name: "x",
      durable: true,
    });
    assert.equal(size, bytes.length);
    assert.ok(turns > 0);
    assert.deepEqual(await Deno.readFile(dir.at("out", "x")), bytes);
  } finally {
    clearInterval(timer);
    closeFd(fd);
  }
});
