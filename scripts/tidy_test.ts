import assert from "node:assert/strict";
import { checkFile, findUnused } from "./tidy.ts";

/** Fails unless the one violation found contains `part`. */
function fails(path: string, text: string, part: string) {
  const failures = checkFile(path, text);
  assert.equal(failures.length, 1, failures.join("\n"));
  assert.ok(failures[0]!.includes(part), failures[0]);
}
const passes = (path: string, text: string) => assert.deepEqual(checkFile(path, text), []);

Deno.test("line length: 100 columns where a line can break", () => {
  const words = "word ".repeat(30);
  fails("src/a.ts", `\n// ${words}\n`, "src/a.ts:2: 153 columns");
  fails("scripts/x", `# ${words}\n`, "columns");
  passes("README.md", words);
  passes("src/a.ts", `const a = "${words}";\n`);
  passes("src/a.ts", `import { a } from "./${"a/".repeat(60)}b.ts";\n`);
  passes("src/a.ts", `// see https://${"a".repeat(120)}\n`);
  passes("src/a.ts", ` * ${"a".repeat(120)}\n`);
});

Deno.test("file length: 600 lines, 800 for tests", () => {
  fails("src/a.ts", "a;\n".repeat(601), "601 lines, at most 600");
  passes("src/a.ts", "a;\n".repeat(600));
  passes("src/a_test.ts", "a;\n".repeat(800));
  fails("tests/fakes/a.ts", "a;\n".repeat(801), "at most 800");
});

Deno.test("banned words", () => {
  fails("src/vfs/a.ts", "Deno.dlopen(x);", "src/sys only");
  passes("src/sys/a.ts", "Deno.dlopen(x);");
  fails("src/vfs/a.ts", "console.log(1);", "console.l");
  passes("src/vfs/a.ts", '// console.log(1)\nf("console.log(1)");');
  passes("src/cli/a.ts", "console.log(1);");
  fails("src/vfs/a.ts", "return { errno: 5 };", "write EIO");
  passes("src/vfs/a.ts", "return { errno: 51 };");
  for (const word of ["FIX" + "ME", "TO" + "DO", "XX" + "X"]) {
    fails("src/a.ts", `// ${word}: later`, word);
  }
  passes("scripts/x", "mktemp -d /tmp/a.XXXXXX");
});

Deno.test("names of hosts and paths of a machine", () => {
  fails("README.md", ["https://registry", "npmjs", "org/"].join("."), "the user's setting");
  fails("tests/a.ts", 'const a = "/ro' + 'ot/a";', "path of one machine");
  fails("scripts/x", "cd /wo" + "rk/main", "path of one machine");
  passes("src/a.ts", 'const a = "src/wo' + 'rk/a";');
});

Deno.test("unused files", () => {
  const files = new Map(Object.entries({
    "main.ts": 'import "./src/cli/mod.ts";',
    "src/cli/mod.ts": 'new Worker(new URL("../a.ts", import.meta.url));',
    "src/a.ts": "",
    "src/b.ts": "",
    "src/b_test.ts": 'import "./b.ts";',
    "src/mount/worker.ts": 'import type { C } from "../c.ts";',
    "src/c.ts": "",
  }));
  assert.deepEqual(findUnused(files), ["src/b.ts: nothing imports it"]);
});
