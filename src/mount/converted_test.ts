/** What a mount worker does with ids that have a suffix, while main has not converted yet. */

import assert from "node:assert/strict";
import { fakeOid, rawTree } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import { ERRNO, FsError } from "../errno.ts";
import { type BaseId, baseIdOf, suffixOf } from "../git/base_id.ts";
import { type Conversion, formOf, suffixOfForm } from "../git/conversion.ts";
import type { Oid } from "../git/oid.ts";
import { PackDirectory } from "../git/pack_directory.ts";
import { PackReader } from "../git/pack_reader.ts";
import type { HostPath, Name } from "../path.ts";
import { ContextBuilder, ContextStore } from "../snapshot/contexts.ts";
import { BaseStore } from "../snapshot/store.ts";
import { ConvertedFiles } from "./converted.ts";
import type { MountCommand, MountEvent } from "./messages.ts";
import { PortObjects } from "./port_objects.ts";

const CRLF: Conversion = { eol: "text", ident: false, encoding: null, filter: null };
const driven = (path: string): Conversion => ({ ...CRLF, filter: { name: "f", path } });
const [A, B, C, D, TREE] = [1, 2, 3, 4, 5].map((n) => fakeOid(n)) as [Oid, Oid, Oid, Oid, Oid];
const id = (oid: Oid, conversion: Conversion = CRLF) =>
  baseIdOf(oid, suffixOfForm(formOf(conversion)));

async function harness() {
  const dir = await tempDir();
  const asked: MountEvent[] = [];
  const clock = { now: 0 };
  const contextsPath = dir.at("contexts.sqlite") as HostPath;
  const builder = new ContextBuilder();
  for (const name of ["a", "b", "c"]) builder.add(name, CRLF);
  builder.add("d", driven("d"));
  const treeId = await builder.rootIdOf(TREE);
  const contexts = new ContextStore(contextsPath);
  await contexts.put(builder);
  contexts.close();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const entries = [["a", A], ["b", B], ["c", C], ["d", D], ["e", A]] as const;
  base.putTrees([[TREE, rawTree(entries.map(([name, oid]) => ({ mode: "100644", name, oid })))]]);
  const convertedDir = dir.at("converted") as HostPath;
  const objects = new PortObjects(
    new BaseStore(dir.at("base.db") as HostPath),
    new PackReader(new PackDirectory(dir.at("packs")), "sha1"),
    "sha1",
    new ConvertedFiles(convertedDir, contextsPath),
    { read: () => undefined, close() {} },
    (event) => asked.push(event),
    () => clock.now,
  );
  return {
    asked,
    clock,
    base,
    objects,
    treeId,
    trees: () => [treeId],
    /** As the hydrator says. */
    here: (known: readonly (readonly [Oid, number])[]) => {
      const sizes = Float64Array.from(known, ([, size]) => size).buffer;
      objects.accept({ kind: "sizes", oids: known.map(([oid]) => oid).join(""), sizes });
    },
    /** As main does, and then says. */
    converted: (files: readonly (readonly [BaseId, string | null])[]): string[] => {
      for (const [name, text] of files) {
        const folder = `${convertedDir}/${objects.isDriven(name) ? "kept" : "made"}`;
        Deno.mkdirSync(folder, { recursive: true });
        if (text !== null) Deno.writeTextFileSync(`${folder}/${name}`, text);
      }
      return objects.accept({
        kind: "converted",
        ids: files.map(([name]) => name).join("\n"),
        sizes: Float64Array.from(files, ([, text]) => text?.length ?? -1).buffer,
      });
    },
    read: (blobId: BaseId): string | undefined => {
      const into = new Uint8Array(100);
      const count = objects.read(blobId, 0, into, () => [treeId]);
      return count === undefined ? undefined : new TextDecoder().decode(into.subarray(0, count));
    },
    async [Symbol.asyncDispose]() {
      objects.close();
      base.close();
      await dir.remove();
    },
  };
}

function sizes(...known: (readonly [Oid, number])[]): MountCommand {
  return {
    kind: "sizes",
    oids: known.map(([oid]) => oid).join(""),
    sizes: Float64Array.from(known, ([, size]) => size).buffer,
  };
}

function throwsEio(call: () => unknown): void {
  assert.throws(call, (error) => error instanceof FsError && error.errno === ERRNO.EIO);
}

Deno.test("converted: a directory gives its names the suffixes of its context", async () => {
  await using h = await harness();
  const directory = h.objects.directory(h.treeId);
  assert.deepEqual(
    directory?.entries.map(({ oid }) => oid),
    [id(A), id(B), id(C), id(D, driven("d")), A],
  );
  assert.equal(directory?.get("e" as Name)?.oid, A);
  assert.deepEqual(h.objects.directory(TREE)?.entries.map(({ oid }) => oid), [A, B, C, D, A]);
  // A context that is not there is no directory without conversions.
  throwsEio(() => h.objects.directory(baseIdOf(TREE, suffixOf(id(A)))));
});

Deno.test("converted: the blob is wanted first, then its conversion, and whoever waits is woken", async () => {
  await using h = await harness();
  for (let i = 0; i < 2; i++) {
    assert.equal(h.objects.size(id(A), h.trees), undefined);
    assert.equal(h.read(id(A)), undefined);
  }
  assert.deepEqual(h.asked, [{ kind: "want", oid: A, need: "size", trees: [TREE], read: 0 }]);
  const keys = [`size:${id(A)}`, `content:${id(A)}`];
  assert.deepEqual(h.objects.accept(sizes([A, 7])), [`size:${A}`, ...keys]);
  h.asked.length = 0;
  for (let i = 0; i < 2; i++) {
    assert.equal(h.objects.size(id(A), h.trees), undefined);
    assert.equal(h.read(id(A)), undefined);
  }
  assert.deepEqual(h.asked, [{ kind: "convert", ids: [id(A)] }]);
  assert.deepEqual(h.converted([[id(A), "one\r\n"]]), keys);
  assert.equal(h.objects.size(id(A), h.trees), 5);
  assert.equal(h.objects.heldSize(id(A)), 5);
  assert.equal(h.read(id(A)), "one\r\n");
  // The blob as it is has its own.
  assert.equal(h.objects.size(A, h.trees), 7);
  h.objects.release(id(A));
  assert.equal(h.read(id(A)), "one\r\n");
  assert.equal(h.asked.length, 1);
});

Deno.test("converted: what is ready in the directory comes along, but for drivers", async () => {
  await using h = await harness();
  h.here([[A, 1], [B, 1], [D, 1]]);
  assert.equal(h.objects.size(id(B), h.trees), undefined);
  assert.deepEqual(h.asked, [{ kind: "convert", ids: [id(B), id(A)] }]);
  assert.equal(h.objects.size(id(A), h.trees), undefined);
  assert.equal(h.objects.size(id(D, driven("d")), h.trees), undefined);
  assert.deepEqual(h.asked.slice(1), [{ kind: "convert", ids: [id(D, driven("d"))] }]);
  h.converted([[id(A), "a"], [id(B), "bb"], [id(D, driven("d")), "ddd"]]);
  assert.equal(h.read(id(D, driven("d"))), "ddd");
  const known = h.objects.sizesAtHand([id(A), id(B), id(C), A, B]);
  assert.deepEqual([...known].sort(), [[A, 1], [id(A), 1], [B, 1], [id(B), 2]].sort());
});

Deno.test("converted: a failure is EIO for some seconds, and then it is asked for again", async () => {
  await using h = await harness();
  // Another mount's: that the base has its size does not say that it is here.
  h.base.putSizes([[A, 1]]);
  assert.equal(h.objects.size(id(A), h.trees), undefined);
  assert.equal(h.asked.pop()?.kind, "want");
  h.here([[A, 1]]);
  h.objects.size(id(A), h.trees);
  assert.deepEqual(h.converted([[id(A), null]]), [`size:${id(A)}`, `content:${id(A)}`]);
  throwsEio(() => h.objects.size(id(A), h.trees));
  throwsEio(() => h.read(id(A)));
  assert.equal(h.objects.sizeAtHand(id(A)), undefined);
  h.clock.now = 6_000;
  assert.equal(h.objects.size(id(A), h.trees), undefined);
  assert.equal(h.asked.length, 2);
  // It is said to be there, and is not: not asked for without end.
  const size = Float64Array.of(3).buffer;
  h.objects.accept({ kind: "converted", ids: id(A), sizes: size });
  throwsEio(() => h.objects.size(id(A), h.trees));
});

Deno.test("converted: a blob that does not come fails it; one that waited too long asks again", async () => {
  await using h = await harness();
  h.objects.size(id(A), h.trees);
  const keys = h.objects.accept({ kind: "unavailable", oid: A, need: "size" });
  assert.deepEqual(keys, [`size:${A}`, `size:${id(A)}`, `content:${id(A)}`]);
  throwsEio(() => h.objects.size(id(A), h.trees));
  h.objects.size(id(B), h.trees);
  h.objects.forgetAsked(`size:${id(B)}`);
  h.objects.size(id(B), h.trees);
  assert.equal(h.asked.filter((event) => event.kind === "want" && event.oid === B).length, 2);
});

Deno.test("converted: of a pack that is arriving nothing is converted", async () => {
  await using h = await harness();
  h.objects.size(id(A), h.trees);
  const oids = Uint8Array.fromHex(A).buffer;
  const [offsets, known] = [Float64Array.of(12).buffer, Float64Array.of(7).buffer];
  h.objects.accept({ kind: "arriving", path: "/nowhere", oids, offsets, sizes: known });
  assert.equal(h.objects.sizeAtHand(A), 7);
  assert.equal(h.objects.size(id(A), h.trees), undefined);
  assert.ok(!h.asked.some(({ kind }) => kind === "convert"));
  h.objects.accept(sizes([A, 7]));
  h.objects.size(id(A), h.trees);
  assert.ok(h.asked.some(({ kind }) => kind === "convert"));
});
