import assert from "node:assert/strict";
import { fakeOid } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import { baseIdOf, isConverted, suffixOf } from "../git/base_id.ts";
import { type Conversion, formOf, suffixOfForm } from "../git/conversion.ts";
import { byteStringOfText, type HostPath, type Name } from "../path.ts";
import { ContextBuilder, ContextReader, ContextStore } from "./contexts.ts";

const CRLF: Conversion = { eol: "text", ident: false, encoding: null, filter: null };
const IDENT: Conversion = { eol: null, ident: true, encoding: null, filter: null };
const ROOT = fakeOid(1);

function built(files: Readonly<Record<string, Conversion>>): ContextBuilder {
  const builder = new ContextBuilder();
  for (const [path, conversion] of Object.entries(files)) builder.add(path, conversion);
  return builder;
}

const rootOf = (files: Readonly<Record<string, Conversion>>) => built(files).rootIdOf(ROOT);

Deno.test("contexts: a root's id says which files are converted, and how", async () => {
  const id = await rootOf({ "a/b/x": CRLF, "a/y": IDENT, z: CRLF });
  assert.equal(await rootOf({ z: CRLF, "a/y": IDENT, "a/b/x": CRLF }), id, "in any order");
  const others = await Promise.all([
    rootOf({ "a/b/x": IDENT, "a/y": IDENT, z: CRLF }),
    rootOf({ "a/b/x": CRLF, "a/y": IDENT }),
    rootOf({ "a/b/x": CRLF, "a/y": IDENT, y: CRLF }),
    rootOf({ "b/b/x": CRLF, "a/y": IDENT, z: CRLF }),
    rootOf({ "a/b": CRLF, "a/y": IDENT, z: CRLF }),
  ]);
  assert.equal(new Set([id, ...others]).size, 6);
  assert.equal(await rootOf({}), ROOT, "nothing is converted");
  assert.ok(isConverted(id));
});

Deno.test("contexts: what is in a directory does not depend on where it is", async () => {
  await using dir = await tempDir();
  const path = dir.at("contexts.sqlite") as HostPath;
  const odd = byteStringOfText('ä\n"ß') as Name;
  const before = built({ "a/x": CRLF, [`a/${odd}`]: IDENT });
  const after = built({ "b/c/x": CRLF, [`b/c/${odd}`]: IDENT, z: CRLF });
  const ids = [await before.rootIdOf(ROOT), await after.rootIdOf(ROOT)];
  assert.equal(ContextReader.open(path), null);
  const store = new ContextStore(path);
  await store.put(before);
  await store.put(after);
  await store.put(after);
  store.close();
  const reader = ContextReader.open(path);
  assert.ok(reader !== null);
  const at = (id: (typeof ids)[number], ...names: string[]) =>
    names.reduce((suffix, name) => {
      const context = suffix === null ? null : reader.context(suffix);
      return context?.get(name as Name) ?? null;
    }, suffixOf(id));
  const [first, second] = ids as [typeof ids[0], typeof ids[0]];
  assert.equal(at(first, "a"), at(second, "b", "c"));
  assert.equal(at(first, "a", "x"), suffixOfForm(formOf(CRLF)));
  assert.equal(at(first, "a", odd), suffixOfForm(formOf(IDENT)));
  assert.equal(at(second, "z"), suffixOfForm(formOf(CRLF)));
  assert.equal(at(second, "a"), null);
  assert.deepEqual(reader.conversion(suffixOfForm(formOf(IDENT))), IDENT);
  assert.equal(reader.context(suffixOfForm(formOf(IDENT))), null, "a form is no context");
  reader.close();
});

Deno.test("contexts: of a driver the path counts, in bytes", async () => {
  await using dir = await tempDir();
  const path = dir.at("contexts.sqlite") as HostPath;
  const odd = byteStringOfText("ü/ß") as string;
  const of = (file: string): Conversion => ({ ...CRLF, filter: { name: "f", path: file } });
  const builder = built({ [odd]: of(odd), "a/x": of("a/x") });
  await builder.rootIdOf(ROOT);
  assert.equal(builder.forms.size, 2);
  const store = new ContextStore(path);
  await store.put(builder);
  store.close();
  const reader = ContextReader.open(path);
  assert.deepEqual(reader?.conversion(suffixOfForm(formOf(of(odd)))), of(odd));
  reader?.close();
});

Deno.test("contexts: 20,000 files of 3,000 directories", async () => {
  await using dir = await tempDir();
  const path = dir.at("contexts.sqlite") as HostPath;
  const builder = new ContextBuilder();
  for (let i = 0; i < 20_000; i++) builder.add(`d${i % 3000}/e/f${i}`, CRLF);
  const id = await builder.rootIdOf(ROOT);
  const store = new ContextStore(path);
  await store.put(builder);
  store.close();
  const reader = ContextReader.open(path);
  const root = reader?.context(suffixOf(id) as never);
  assert.equal(root?.size, 3000);
  const inner = reader?.context(root?.get("d7" as Name) as never);
  const names = [...reader?.context(inner?.get("e" as Name) as never)?.keys() ?? []];
  assert.deepEqual(names, ["f12007", "f15007", "f18007", "f3007", "f6007", "f7", "f9007"]);
  assert.equal(baseIdOf(ROOT, suffixOf(id)), id);
  reader?.close();
});
