/**
 * The normal form against git: whatever the attributes and settings, a checkout with them and one
 * with the form alone, said as `attributesLine`, write the same bytes.
 */

import assert from "node:assert/strict";
import { git, run, type TempDir, tempDir } from "../../tests/support/run.ts";
import { bytesOf, byteString, byteStringOfText } from "../path.ts";
import {
  attributesFiles,
  checkAttributes,
  hasConversions,
  makeTreeIndex,
  mattersEverywhere,
  type OwnersGit,
  parseConfig,
  readOwnersConfig,
} from "./attributes.ts";
import { checkOut, type CheckoutDir, createCheckoutDir } from "./checkout.ts";
import {
  attributesLine,
  type Conversion,
  conversionOf,
  conversionOfForm,
  formOf,
  suffixOfForm,
} from "./conversion.ts";
import { type Oid, oid as checkedOid } from "./oid.ts";

/** Each tells other conversions apart. */
const CONTENTS = {
  lf: "one\ntwo\n",
  mixed: "one\r\ntwo\n",
  lonely: "one\rtwo\n",
  binary: "one\0two\n",
  empty: "",
  id: "$Id$\n$Id: 1234 $\n",
  utf8: byteStringOfText("ä\nö\n"),
} as const;

class Repository implements AsyncDisposable {
  private constructor(readonly dir: TempDir, readonly treeOid: Oid) {}

  /** `files`: path to content; `attributes`: `.gitattributes` of the root. Nothing is converted. */
  static async make(
    files: Readonly<Record<string, string>>,
    attributes: string,
  ): Promise<Repository> {
    const dir = await tempDir();
    const all = { ...files, ".gitattributes": attributes };
    const gitDir = dir.at("git");
    await git(["init", "-q", "--bare", gitDir]);
    await Deno.mkdir(dir.at("in"));
    const paths = Object.keys(all);
    for (const [i, content] of Object.values(all).entries()) {
      await Deno.writeFile(dir.at("in", `${i}`), bytesOf(content));
    }
    const { stdout } = await git(["--git-dir", gitDir, "hash-object", "-w", "--stdin-paths"], {
      stdin: paths.map((_, i) => `${dir.at("in", `${i}`)}\n`).join(""),
    });
    const oids = stdout.trim().split("\n");
    const lines = paths.map((path, i) => `100644 ${oids[i]}\t${path}\n`).join("");
    await git(["--git-dir", gitDir, "update-index", "--add", "--index-info"], { stdin: lines });
    const tree = await git(["--git-dir", gitDir, "write-tree"]);
    await Deno.mkdir(dir.at("empty"));
    await Deno.mkdir(dir.at("work"));
    return new Repository(dir, checkedOid(tree.stdout.trim()));
  }

  get owners(): OwnersGit {
    return {
      gitDir: this.dir.at("git"),
      workTree: this.dir.at("empty"),
      owner: null,
      env: { GIT_CONFIG_GLOBAL: this.dir.at("config"), GIT_CONFIG_NOSYSTEM: "1" },
      attributesFile: null,
    };
  }

  async configure(text: string): Promise<void> {
    await Deno.writeTextFile(this.dir.at("config"), text);
  }

  /** What git's own checkout writes, by path. */
  async checkout(): Promise<Map<string, string>> {
    const to = this.dir.at("out");
    await Deno.mkdir(to);
    try {
      await run("git", ["--work-tree", to, "checkout-index", "-q", "-a"], {
        cwd: to,
        env: { ...this.owners.env, GIT_DIR: this.dir.at("git") },
        okCodes: "any",
      });
      const written = new Map<string, string>();
      for await (const { name } of Deno.readDir(to)) {
        written.set(name, byteString(await Deno.readFile(`${to}/${name}`)));
      }
      return written;
    } finally {
      await Deno.remove(to, { recursive: true });
    }
  }

  /** The conversion of each file, by our own means. */
  async conversions(): Promise<Map<string, Conversion | null>> {
    const config = await readOwnersConfig(this.owners);
    const index = await makeTreeIndex(this.owners, this.treeOid, this.dir.at("index"));
    const found = new Map<string, Conversion | null>();
    await checkAttributes(this.owners, index, (path, attributes) => {
      found.set(path, conversionOf(path, attributes, config));
    });
    return found;
  }

  /** What the forms alone make of the files. */
  async convert(conversions: ReadonlyMap<string, Conversion | null>): Promise<Map<string, string>> {
    const dir: CheckoutDir = {
      gitDir: this.dir.at("ours"),
      workDir: this.dir.at("work"),
      objectFormat: "sha1",
      owners: this.owners,
    };
    await createCheckoutDir(dir, this.dir.at("git"));
    const { stdout } = await git(["--git-dir", this.dir.at("git"), "ls-files", "-s", "-z"]);
    const oids = new Map(
      stdout.split("\0").filter(Boolean).map((line) => {
        const [info = "", path = ""] = line.split("\t");
        return [path, info.split(" ")[1] as Oid];
      }),
    );
    const converted = new Map<string, string>();
    const groups = Map.groupBy(
      conversions,
      ([, conversion]) => conversion === null ? null : attributesLine(conversion),
    );
    for (const [line, group] of groups) {
      const files = group.map(([path]) => ({ path, oid: oids.get(path) as Oid }));
      if (line === null) {
        for (const { path, oid } of files) converted.set(path, await this.#blob(oid));
        continue;
      }
      const conversion = (group[0] as [string, Conversion])[1];
      const written = await checkOut(dir, files, conversion, new AbortController().signal);
      for (const [path, name] of written) {
        converted.set(path, byteString(await Deno.readFile(this.dir.at("work", name))));
        await Deno.remove(this.dir.at("work", name));
      }
    }
    return converted;
  }

  readonly #blobs = new Map<Oid, string>();

  async #blob(oid: Oid): Promise<string> {
    const known = this.#blobs.get(oid);
    if (known !== undefined) return known;
    const args = ["--git-dir", this.dir.at("git"), "cat-file", "blob", oid];
    const content = byteString((await git(args)).stdoutBytes);
    this.#blobs.set(oid, content);
    return content;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dir.remove();
  }
}

const sorted = (map: ReadonlyMap<string, unknown>) => [...map].sort(([a], [b]) => a < b ? -1 : 1);

/** All attributes at once, each combination for each content. */
function combinations(
  lists: readonly (readonly string[])[],
  contents: readonly (keyof typeof CONTENTS)[],
): Promise<Repository> {
  const files: Record<string, string> = {};
  let attributes = "";
  const all = lists.reduce<string[][]>(
    (sets, list) => sets.flatMap((set) => list.map((each) => [...set, each])),
    [[]],
  );
  for (const [i, set] of all.entries()) {
    attributes += `${i}-* ${set.join(" ")}\n`;
    for (const name of contents) files[`${i}-${name}`] = CONTENTS[name];
  }
  return Repository.make(files, attributes);
}

Deno.test("conversion: every text, crlf and eol with every autocrlf and core.eol, as git", async () => {
  await using repository = await combinations([
    ["", "text", "-text", "text=auto", "text=input", "text=odd"],
    ["", "crlf", "-crlf", "crlf=input"],
    ["", "eol=lf", "eol=crlf", "-eol"],
  ], ["lf", "mixed", "lonely", "binary"]);
  const seen = new Set<string>();
  for (const autocrlf of ["", "autocrlf = true\n", "autocrlf = input\n", "autocrlf = no\n"]) {
    for (const eol of ["", "eol = lf\n", "eol = crlf\n", "eol = native\n"]) {
      const config = `[core]\n${autocrlf}${eol}`;
      await repository.configure(config);
      const conversions = await repository.conversions();
      for (const each of conversions.values()) seen.add(each === null ? "" : formOf(each));
      const [ours, theirs] = await Promise.all([
        repository.convert(conversions),
        repository.checkout(),
      ]);
      assert.deepEqual(sorted(ours), sorted(theirs), config);
    }
  }
  assert.equal(seen.size, 3, "none, text and auto");
});

Deno.test("conversion: ident, encodings and drivers, alone and together, as git", async () => {
  await using repository = await combinations([
    ["", "ident", "-ident", "ident=yes"],
    [
      "",
      "working-tree-encoding=UTF-16LE-BOM",
      "working-tree-encoding=latin1",
      "working-tree-encoding=utf8",
      "working-tree-encoding=UTF-8",
      "working-tree-encoding=no-such-encoding",
    ],
    ["", "filter=up", "filter=unknown", "filter", "filter=clean-only"],
    ["", "text eol=crlf"],
  ], ["lf", "empty", "id", "utf8"]);
  await repository.configure(
    `[filter "up"]\nsmudge = "tr a-z A-Z; printf %f"\n[filter "clean-only"]\nclean = cat\n`,
  );
  const conversions = await repository.conversions();
  const [ours, theirs] = await Promise.all([
    repository.convert(conversions),
    repository.checkout(),
  ]);
  assert.deepEqual(sorted(ours), sorted(theirs));
  const some = [...conversions.values()].filter((each) => each !== null);
  assert.ok(some.length > 300 && some.length < conversions.size);
  for (const each of some) assert.deepEqual(conversionOfForm(formOf(each)), each);
});

Deno.test("conversion: macros, attributes of directories, of info/ and of the owner count", async () => {
  const files = {
    "a/x.txt": "a\n",
    "b/x.txt": "a\n",
    "c/x.txt": "a\n",
    "d.md": "a\n",
    "e.h": "a\n",
  };
  await using repository = await Repository.make({
    ...files,
    "a/.gitattributes": "*.txt windows\n",
    "b/.gitattributes": "*.txt -text\n",
  }, "[attr]windows text eol=crlf\n");
  const eols = async () =>
    Object.fromEntries(
      [...await repository.conversions()]
        .filter(([path]) => !path.endsWith(".gitattributes"))
        .map(([path, each]) => [path, each?.eol ?? null]),
    );
  await repository.configure("");
  const none = { "a/x.txt": "text", "b/x.txt": null, "c/x.txt": null, "d.md": null, "e.h": null };
  // A macro counts at the top only, and in info/.
  assert.deepEqual(await eols(), none);
  const config = () => readOwnersConfig(repository.owners);
  assert.equal(await mattersEverywhere(repository.owners, await config()), false);
  await Deno.writeTextFile(repository.dir.at("attributes"), "*.md text\n*.txt text\n");
  await repository.configure(
    `[core]\neol = crlf\nattributesFile = ${repository.dir.at("attributes")}\n`,
  );
  assert.deepEqual(await eols(), { ...none, "c/x.txt": "text", "d.md": "text" });
  await repository.configure("");
  await Deno.mkdir(repository.dir.at("git", "info"), { recursive: true });
  await Deno.writeTextFile(repository.dir.at("git", "info", "attributes"), "*.h windows\n");
  assert.deepEqual(await eols(), { ...none, "e.h": "text" });
  assert.equal(await mattersEverywhere(repository.owners, await config()), true);
  const index = { path: repository.dir.at("index") };
  assert.equal((await attributesFiles(repository.owners, index)).length, 3);
});

Deno.test("conversion: settings are read as git reads them", () => {
  const of = (...lines: string[]) => parseConfig(lines.map((line) => `${line}\0`).join(""));
  for (const value of ["\ntrue", "", "\nYES", "\non", "\n1", "\n-2", "\n1k"]) {
    assert.equal(of(`core.autocrlf${value}`).autocrlf, "true", value);
  }
  for (const value of ["\nfalse", "\n", "\nNo", "\noff", "\n0", "\n0k"]) {
    assert.equal(of(`core.autocrlf${value}`).autocrlf, "false", value);
  }
  assert.equal(of("core.autocrlf\nInput").autocrlf, "input");
  assert.equal(of("core.autocrlf\ntrue", "core.autocrlf\nfalse").autocrlf, "false");
  assert.equal(of("core.eol\nCRLF").eol, "crlf");
  assert.equal(of("core.eol\ncrlf", "core.eol\nnative").eol, "lf");
  const { filters, commands } = of(
    "filter.a.b.smudge\none",
    "filter.a.b.process\ntwo\nlines",
    "filter.c.clean\nx",
    "filter.d.smudge\n",
    "filter.E.process\nx",
    "filter.e.required\ntrue",
  );
  assert.deepEqual([...filters].sort(), ["E", "a.b"]);
  assert.equal(commands.get("a.b"), "two\nlines");
});

Deno.test("conversion: words that matter in an attributes file", () => {
  for (
    const line of [
      "* eol=crlf",
      "* eol=lf\n*.x eol=crlf",
      "* eol=lf crlf",
      "*.x ident",
      "x filter=lfs -text",
      "x crlf",
      "[attr]x -eol",
      "a working-tree-encoding=latin1",
    ]
  ) {
    assert.ok(hasConversions(`# comment\n${line}\n`), line);
  }
  for (
    const line of [
      "* text=auto",
      "* text=auto eol=lf\n*.x text eol=lf",
      "*.png binary",
      "*.js linguist-generated",
      "x export-ignore",
    ]
  ) {
    assert.ok(!hasConversions(`${line}\n`), line);
  }
});

Deno.test("conversion: the form is pinned: rows and ids of a disk hold it", () => {
  const conversion: Conversion = { eol: "auto", ident: true, encoding: "latin1", filter: null };
  assert.equal(formOf(conversion), '["auto",true,"latin1",null,null]');
  assert.equal(suffixOfForm(formOf(conversion)), "b18bd548625523fd");
});
