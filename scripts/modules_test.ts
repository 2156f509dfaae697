import assert from "node:assert/strict";
import { references, resolve } from "./modules.ts";

const kinds = (source: string) =>
  references(source).map((each) => `${each.kind} ${each.specifier}`);

Deno.test("references: forms of import and export", () => {
  assert.deepEqual(
    kinds(`
      import "./a.ts";
      import b from "./b.ts";
      import * as c from './c.ts';
      import d, {
        e, // from "./no.ts"
        type F,
      } from "./d.ts";
      export * from "./e.ts";
      export * as f from "./f.ts";
      export { g } from "./g.ts";
      export { h };
      const i = await import("./i.ts");
      import data from "./data.json" with { type: "json" };
    `),
    [
      "static ./a.ts",
      "static ./b.ts",
      "static ./c.ts",
      "static ./d.ts",
      "static ./e.ts",
      "static ./f.ts",
      "static ./g.ts",
      "dynamic ./i.ts",
      "static ./data.json",
    ],
  );
});

Deno.test("references: what is erased", () => {
  assert.deepEqual(
    kinds(`
      import type { A } from "./a.ts";
      import type B from "./b.ts";
      import { type C, type D as E } from "./c.ts";
      export type { F } from "./f.ts";
      export type * from "./g.ts";
      let h: typeof import("./h.ts");
      import type, { I } from "./i.ts";
      import type from "./j.ts";
      import { type } from "./k.ts";
      export type L = { m: string };
    `),
    [
      "type ./a.ts",
      "type ./b.ts",
      "type ./c.ts",
      "type ./f.ts",
      "type ./g.ts",
      "type ./h.ts",
      "static ./i.ts",
      "static ./j.ts",
      "static ./k.ts",
    ],
  );
});

Deno.test("references: a worker is an address", () => {
  assert.deepEqual(
    kinds(`
      new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
      new URL(
        "./other.ts",
        import.meta.url,
      );
      import.meta.resolve("./third.ts");
      new URL("https://host/", base);
    `),
    ["url ./worker.ts", "url ./other.ts", "url ./third.ts"],
  );
});

Deno.test("references: text, comments and expressions are no imports", () => {
  assert.deepEqual(
    kinds(
      [
        "// import './a.ts'",
        "/* import './b.ts' */",
        "const c = 'import \"./c.ts\"';",
        "const d = `import './d.ts' ${`nested ${e}`} import './e.ts'`;",
        "const f = /import '.\\/f.ts'[/`]/.test(g) ? a / b : c / d;",
        "x.import('./h.ts');",
        "const i = `${await import('./i.ts')}`;",
        "export { j };",
        "const from = 'k';",
      ].join("\n"),
    ),
    ["dynamic ./i.ts"],
  );
});

Deno.test("references: lines", () => {
  const source = '/*\n*/ `\n${1}\n`;\nimport {\n  a,\n} from "./a.ts";\n';
  assert.deepEqual(references(source), [{ kind: "static", specifier: "./a.ts", line: 7 }]);
});

Deno.test("resolve: relative files only", () => {
  assert.equal(resolve("src/git/oid.ts", "../path.ts"), "src/path.ts");
  assert.equal(resolve("main.ts", "./src/cli/mod.ts"), "src/cli/mod.ts");
  assert.equal(resolve("src/a.ts", "valibot"), undefined);
  assert.equal(resolve("src/a.ts", "../../outside.ts"), undefined);
});
