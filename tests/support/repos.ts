/**
 * Generators of bare repositories, the same oids at every run. Names and paths are byte strings
 * (see raw_fs.ts).
 */
import { createHash } from "node:crypto";
import {
  type ByteString,
  encode,
  latin1,
  type ObjectFormat,
  ObjectWriter,
  packEntryHeader,
  packHeader,
  PackSink,
  Random,
  TreeBuilder,
  type TreePath,
  utf8,
} from "./git_objects.ts";
import { concat, git } from "./run.ts";

async function init(gitDir: string, format: ObjectFormat): Promise<void> {
  await git([
    "init",
    "--quiet",
    "--bare",
    "--template=",
    `--object-format=${format}`,
    "--initial-branch=main",
    gitDir,
  ]);
}

async function setRefs(gitDir: string, refs: Readonly<Record<string, string>>): Promise<void> {
  const stdin = Object.entries(refs).map(([ref, oid]) => `create ${ref} ${oid}\n`).join("");
  await git(["-C", gitDir, "update-ref", "--stdin"], { stdin });
}

/** A repository with no commit: HEAD names refs/heads/main, which does not exist. */
export async function makeEmptyRepo(
  dir: string,
  options: { objectFormat?: ObjectFormat } = {},
): Promise<{ gitDir: string }> {
  await init(dir, options.objectFormat ?? "sha1");
  return { gitDir: dir };
}

/** A repository whose only commit has the empty tree. */
export async function makeEmptyTreeRepo(
  dir: string,
  options: { objectFormat?: ObjectFormat } = {},
): Promise<{ gitDir: string; headOid: string }> {
  const format = options.objectFormat ?? "sha1";
  await init(dir, format);
  const writer = new ObjectWriter(format);
  const headOid = writer.commit(writer.rawTree([]), [], 0, "nothing");
  await writer.flush(dir);
  await setRefs(dir, { "refs/heads/main": headOid });
  return { gitDir: dir, headOid };
}

export interface OddRepo {
  gitDir: string;
  objectFormat: ObjectFormat;
  /** main, the branch of HEAD. */
  headOid: string;
  /** Full ref name to commit (or tag object) oid. */
  refs: Readonly<Record<string, string>>;
  /** Everything in HEAD's tree, directories included (their oid is ""). */
  paths: TreePath[];
  /** Some of these paths by what is odd about them. */
  odd: Readonly<Record<OddName, ByteString>>;
}

export type OddName =
  | "executable"
  | "empty"
  | "notUtf8"
  | "newline"
  | "backslash"
  | "tab"
  | "quotes"
  | "dash"
  | "space"
  | "glob"
  | "longest"
  | "nfc"
  | "nfd"
  | "lowerCase"
  | "upperCase"
  | "manyDir"
  | "deepFile"
  | "longFile"
  | "emptyTree"
  | "big"
  | "crlf"
  | "nuls"
  | "gitlink"
  | "linkFile"
  | "linkDir"
  | "linkAbsolute"
  | "linkDangling"
  | "linkLoop"
  | "linkNotUtf8";

/** Entries in `odd.manyDir`. */
export const MANY_ENTRIES = 10_000;
const BIG_BYTES = 3 << 20;

/**
 * A well-formed repository (git fsck is content) of everything that is legal and rare: see OddName.
 * Branches main (four commits, one a merge), feature, release/1.0; tags v0.9 (light), v1.0
 * (annotated), v1.0-tag (a tag of a tag). About 10,300 paths, 5 MB.
 */
export async function makeOddRepo(
  dir: string,
  options: { objectFormat?: ObjectFormat } = {},
): Promise<OddRepo> {
  const format = options.objectFormat ?? "sha1";
  await init(dir, format);
  const writer = new ObjectWriter(format);
  const random = new Random(1);
  const tree = new TreeBuilder();
  const file = (path: ByteString, content: string | Uint8Array = `${path.length}\n`) =>
    tree.put(path, "100644", writer.blob(content));
  const link = (path: ByteString, target: ByteString) =>
    tree.put(path, "120000", writer.blob(latin1(target)));

  file("README.md", "# odd\n");
  file("src/main.txt", "first\n");
  file("src/util/helper.txt", "helper\n");
  const first = writer.commit(tree.write(writer), [], 0, "first");

  file("src/main.txt", "feature\n");
  file("feature/only here.txt", "feature\n");
  const feature = writer.commit(tree.write(writer), [first], 1, "feature");
  tree.remove("feature/only here.txt").remove("feature");

  file("src/main.txt", "first\n");
  file("src/util/other.txt", "other\n");
  const second = writer.commit(tree.write(writer), [first], 2, "second");

  file("src/main.txt", "feature\n");
  file("feature/only here.txt", "feature\n");
  const merge = writer.commit(tree.write(writer), [second, feature], 3, "merge feature");

  const odd: Record<OddName, ByteString> = {
    executable: "bin/run.sh",
    empty: "empty/file",
    notUtf8: "names/not-utf8-\xff\xfe\xe4",
    newline: "names/new\nline\n",
    backslash: "names/back\\slash\\n",
    tab: "names/tab\there",
    quotes: "names/\"double\" 'single' `back`",
    dash: "-rf",
    space: " leading and trailing ",
    glob: "names/*?[a-z]{x,y}$HOME",
    longest: "names/" + "n".repeat(255),
    nfc: "unicode/" + utf8("caf\u00e9"),
    nfd: "unicode/" + utf8("cafe\u0301"),
    lowerCase: "case/readme",
    upperCase: "case/README",
    manyDir: "many",
    deepFile: Array.from({ length: 200 }, (_, i) => `d${i}`).join("/") + "/file",
    longFile: Array.from({ length: 15 }, (_, i) => `${i}-`.padEnd(250, "l")).join("/") + "/file",
    emptyTree: "empty/tree",
    big: "content/big.bin",
    crlf: "content/crlf.txt",
    nuls: "content/nuls",
    gitlink: "modules/sub",
    linkFile: "links/to-file",
    linkDir: "links/to-dir",
    linkAbsolute: "links/absolute",
    linkDangling: "links/dangling",
    linkLoop: "links/loop",
    linkNotUtf8: "links/not-utf8",
  };
  tree.put(odd.executable, "100755", writer.blob("#!/bin/sh\necho odd\n"));
  tree.put(odd.emptyTree, "40000", writer.rawTree([]));
  tree.put(
    odd.gitlink,
    "160000",
    "1234567890".repeat(format === "sha1" ? 4 : 7).slice(
      0,
      format === "sha1" ? 40 : 64,
    ),
  );
  file(odd.empty, "");
  for (
    const name of [
      "notUtf8",
      "newline",
      "backslash",
      "tab",
      "quotes",
      "dash",
      "space",
      "glob",
      "longest",
      "nfc",
      "nfd",
      "deepFile",
      "longFile",
    ] as const
  ) file(odd[name], `${name}\n`);
  file(odd.lowerCase, "lower\n");
  file(odd.upperCase, "upper\n");
  file("case/ReadMe/file", "a directory\n");
  file("names/" + "\xe9".repeat(255), "255 bytes that are not UTF-8\n");
  file("names/" + utf8("\u65e5\u672c\u8a9e".repeat(28)), "252 bytes of UTF-8\n");
  file("names/\x01\x7f\x1b[31m", "control characters\n");
  file("names/...", "three dots\n");
  file("names/ ", "a space\n");
  file("names/--help", "dashes\n");
  file("names/~", "tilde\n");
  file("names/colon:colon", "colon\n");
  file("names/CON", "a device on Windows\n");
  file("names/#comment", "number sign\n");
  file("names/!not", "exclamation mark\n");
  // In git's order "sort.d" the directory lies behind "sort.d-" and "sort.d." but before "sort.d0".
  file("order/sort.d/file", "1\n");
  for (const name of ["sort.d-", "sort.d.", "sort.d0", "sort", "sort.c"]) file("order/" + name);
  for (let i = 0; i < MANY_ENTRIES; i++) {
    const content = i % 50 === 0 ? "shared\n" : `entry ${i}\n`.repeat(1 + i % 7);
    file(`${odd.manyDir}/entry-${String(i * 7919 % MANY_ENTRIES).padStart(5, "0")}.txt`, content);
  }
  file(odd.big, random.bytes(BIG_BYTES));
  file(odd.crlf, "one\r\ntwo\r\nthree");
  file(odd.nuls, Uint8Array.from([0, 0, 65, 0, 10, 0, 255, 0]));
  for (const size of [1, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 131073]) {
    file(`content/size-${size}`, random.bytes(size));
  }
  link(odd.linkFile, "../README.md");
  link(odd.linkDir, "../src");
  link(odd.linkAbsolute, "/etc/hostname");
  link(odd.linkDangling, "nowhere/at/all");
  link(odd.linkLoop, "loop");
  link(odd.linkNotUtf8, "../names/not-utf8-\xff\xfe\xe4");
  link("links/long", "./".repeat(2000) + "../README.md");
  link("links/up", "../../../../../../../../etc");
  link("links/new\nline", "tar\nget");
  file(".gitignore", "*.o\n/build/\n");
  file("src/.gitignore", "*.tmp\n");
  file(".gitattributes", "*.md diff=markdown\n*.bin -diff\n");
  file(".gitmodules", '[submodule "sub"]\n\tpath = modules/sub\n\turl = https://example.com/sub\n');
  file(".gitfoo", "not special\n");
  file(".gitfoo.d/.gitbar", "not special\n");
  file(".git-blame-ignore-revs", "# none\n");
  file("names/.gitkeep", "");
  const head = writer.commit(tree.write(writer), [merge], 4, "everything odd");

  const release = new TreeBuilder()
    .put("README.md", "100644", writer.blob("# release\n"))
    .put("src", "100644", writer.blob("a file where main has a directory\n"))
    .put("bin/run.sh", "100644", writer.blob("#!/bin/sh\necho odd\n"));
  const releaseOid = writer.commit(release.write(writer), [second], 5, "release");
  const annotated = writer.tag(releaseOid, "commit", "v1.0", 6);
  const refs = {
    "refs/heads/main": head,
    "refs/heads/feature": feature,
    "refs/heads/release/1.0": releaseOid,
    "refs/tags/v0.9": second,
    "refs/tags/v1.0": annotated,
    "refs/tags/v1.0-tag": writer.tag(annotated, "tag", "v1.0-tag", 7),
  };
  await writer.flush(dir);
  await setRefs(dir, refs);
  return { gitDir: dir, objectFormat: format, headOid: head, refs, paths: tree.list(), odd };
}

export interface HostileRepo {
  gitDir: string;
  headOid: string;
  /** Must be visible and right: files, links and the directories that hold them (oid ""). */
  good: TreePath[];
  /**
   * Whatever is made of these (absent, an error, or something harmless) is fine; relative to the
   * root.
   */
  bad: ByteString[];
  /**
   * Content of every blob that only a bad entry names; seeing it outside of `bad` paths is a
   * failure.
   */
  poison: string;
}

/**
 * A repository whose trees break the rules, each bad entry beside good ones. Stock git serves it
 * (it must not check: transfer.fsckObjects off), except with `emptyName`, which adds an entry
 * without a name: there git itself dies while it walks the tree, so a server fails in the middle.
 *
 * `two/same` is a file and a directory, `two/twice` two files; `modes/` holds 100664 and 100600,
 * which git reads as 100644 (good), and others that it reads as gitlinks (bad).
 */
export async function makeHostileRepo(
  dir: string,
  options: { emptyName?: boolean } = {},
): Promise<HostileRepo> {
  await init(dir, "sha1");
  const writer = new ObjectWriter("sha1");
  const poison = "poison\n";
  const poisonOid = writer.blob(poison);
  const hook = writer.blob("#!/bin/sh\necho poison\n");
  const config = writer.blob('[core]\n\tfsmonitor = "echo poison; false"\n');
  const good: TreePath[] = [];
  const bad: ByteString[] = [];
  type Entry = { mode: string; name: ByteString; oid: string };

  const goodFile = (path: ByteString, mode = "100644", storedMode = mode): Entry => {
    const oid = writer.blob(`good ${path}\n`);
    good.push({ path, mode, oid });
    return { mode: storedMode, name: path.slice(path.lastIndexOf("/") + 1), oid };
  };
  const goodDir = (path: ByteString, entries: Entry[]): Entry => {
    good.push({ path, mode: "40000", oid: "" });
    return { mode: "40000", name: path, oid: writer.rawTree(entries) };
  };
  const badFile = (path: ByteString, name: ByteString): Entry => {
    bad.push(path === "" ? name : `${path}/${name}`);
    return { mode: "100644", name, oid: poisonOid };
  };
  const badDir = (path: ByteString, name: ByteString, entries?: Entry[]): Entry => {
    bad.push(path === "" ? name : `${path}/${name}`);
    const oid = writer.rawTree(
      entries ?? [{ mode: "100644", name: "file", oid: poisonOid }],
    );
    return { mode: "40000", name, oid };
  };
  const gitDirEntries: Entry[] = [
    { mode: "100644", name: "HEAD", oid: writer.blob("ref: refs/heads/main\n") },
    { mode: "100644", name: "config", oid: config },
    {
      mode: "40000",
      name: "hooks",
      oid: writer.rawTree([{ mode: "100755", name: "post-checkout", oid: hook }]),
    },
    { mode: "40000", name: "objects", oid: writer.rawTree([]) },
    { mode: "40000", name: "refs", oid: writer.rawTree([]) },
  ];
  /** Puts each bad entry between a good file before and one after it. */
  const around = (path: ByteString, ...entries: Entry[]): Entry =>
    goodDir(path, [goodFile(`${path}/!good`), ...entries, goodFile(`${path}/~good`)]);

  const directories: Entry[] = [
    around("dotgit-dir", badDir("dotgit-dir", ".git", gitDirEntries)),
    around("dotgit-file", badFile("dotgit-file", ".git")),
    around("dotgit-upper", badDir("dotgit-upper", ".GIT", gitDirEntries)),
    around("dotgit-ntfs", badDir("dotgit-ntfs", "git~1", gitDirEntries)),
    around("dotgit-hfs", badDir("dotgit-hfs", utf8(".g\u200cit"), gitDirEntries)),
    around("dotgit-space", badDir("dotgit-space", ".git ", gitDirEntries)),
    around("dot-dir", badDir("dot-dir", ".")),
    around("dot-file", badFile("dot-file", ".")),
    around("dotdot-dir", badDir("dotdot-dir", "..")),
    around("dotdot-file", badFile("dotdot-file", "..")),
    around("slash", badFile("slash", "a/b"), badFile("slash", "/etc/poison")),
    around("slash-up", badFile("slash-up", "../slash/!good"), badFile("slash-up", "../../poison")),
    around("long", badFile("long", "x".repeat(300)), badDir("long", "y".repeat(5000))),
    around("two", badFile("two", "same"), badDir("two", "same"), badFile("two", "twice"), {
      mode: "100755",
      name: "twice",
      oid: hook,
    }),
    goodDir("unsorted", [
      goodFile("unsorted/z"),
      goodFile("unsorted/a"),
      goodFile("unsorted/m.x"),
      { ...goodDir("unsorted/m", [goodFile("unsorted/m/2"), goodFile("unsorted/m/1")]), name: "m" },
      goodFile("unsorted/b"),
    ]),
    around(
      "modes",
      goodFile("modes/100664", "100644", "100664"),
      goodFile("modes/100600", "100644", "100600"),
      goodFile("modes/100775", "100755", "100775"),
      goodFile("modes/zeros", "100644", "0100644"),
      { ...badFile("modes", "0"), mode: "0" },
      { ...badFile("modes", "socket"), mode: "140000" },
      { ...badFile("modes", "fifo"), mode: "10644" },
      { ...badFile("modes", "device"), mode: "60600" },
      { ...badFile("modes", "setuid-file"), mode: "104755" },
    ),
    around(
      "links",
      { ...badFile("links", "empty-target"), mode: "120000", oid: writer.blob("") },
      { ...badFile("links", "nul-target"), mode: "120000", oid: writer.blob("a\0b") },
      { ...badFile("links", "long-target"), mode: "120000", oid: writer.blob("t".repeat(5000)) },
    ),
    goodDir("after", [goodFile("after/file")]),
  ];
  if (options.emptyName) directories.push(around("empty-name", badFile("empty-name", "")));

  const root = writer.rawTree([
    badDir("", ".git", gitDirEntries),
    badDir("", ".."),
    ...directories,
    goodFile("last"),
  ]);
  const headOid = writer.commit(root, [], 0, "hostile");
  await writer.flush(dir);
  await setRefs(dir, { "refs/heads/main": headOid });
  return { gitDir: dir, headOid, good, bad, poison };
}

export interface SizedRepoOptions {
  /** Regular files in HEAD, at least `dirs`. */
  files: number;
  /** Directories in HEAD without the root. */
  dirs: number;
  /** Mean size of a file in bytes; sizes spread from empty to about thirty times it. */
  blobBytes: number;
  /** 1 unless told. */
  seed?: number;
  /** Length of the (straight) history, 1 unless told; each later commit changes some files. */
  commits?: number;
  /** Repack with deltas, bitmap and commit-graph, as servers have it. true unless told. */
  repack?: boolean;
}

export interface SizedRepo {
  gitDir: string;
  headOid: string;
  /** Oldest first. */
  commitOids: string[];
  fileCount: number;
  dirCount: number;
  /** Sum of the sizes of HEAD's files. */
  totalBytes: number;
  /** Some file in the middle of it. */
  samplePath: ByteString;
}

const STEMS = ["index", "main", "util", "types", "client", "server", "helpers", "parse", "render"];
const EXTENSIONS = ["ts", "ts", "ts", "tsx", "js", "json", "md", "css", "txt", "snap"];

/**
 * A repository of a chosen size that looks like source code: nested directories, package.json and
 * .gitignore files among the rest, sizes that spread as those of source files do. Throws RangeError
 * when there are more directories than files (git has no empty ones).
 */
export async function makeSizedRepo(dir: string, options: SizedRepoOptions): Promise<SizedRepo> {
  const { files, dirs, blobBytes, seed = 1, commits = 1, repack = true } = options;
  if (files < dirs) throw new RangeError(`${files} files for ${dirs} directories`);
  await init(dir, "sha1");
  const writer = new ObjectWriter("sha1");
  const random = new Random(seed);
  const tree = new TreeBuilder();

  const directories: ByteString[] = [];
  for (let i = 0; i < dirs; i++) {
    const parent = i < 8 ? "" : directories[random.below(i)] ?? "";
    const deep = parent.split("/").length >= 8;
    const base = deep || parent === "" ? "" : parent + "/";
    directories.push(`${base}${base === "" ? "pkg" : "dir"}-${i.toString(36)}`);
  }
  const paths: ByteString[] = [];
  for (let i = 0; i < files; i++) {
    // One file in every directory first, then a few directories get most of the rest.
    const home = i < dirs
      ? directories[i] ?? ""
      : directories[Math.floor(dirs * random.next() ** 2)] ?? "";
    const stem = STEMS[random.below(STEMS.length)] ?? "x";
    const name = i < dirs && i % 20 === 0
      ? "package.json"
      : i < dirs && i % 24 === 1
      ? ".gitignore"
      : `${stem}-${i.toString(36)}.${EXTENSIONS[random.below(EXTENSIONS.length)] ?? "x"}`;
    paths.push(home === "" ? name : `${home}/${name}`);
  }
  // Log-normal with sigma 1.2, capped: many small files, few large ones.
  const size = () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random.next())) *
      Math.cos(2 * Math.PI * random.next());
    if (random.below(200) === 0) return 0;
    return Math.round(blobBytes * Math.min(30, Math.exp(1.2 * normal - 0.72)));
  };
  const sizes: number[] = [];
  paths.forEach((path, i) => {
    const content = path.endsWith(".gitignore")
      ? encode(`/dist-${i}/\n*.log\n`)
      : random.text(size());
    sizes.push(content.length);
    tree.put(path, i % 97 === 5 ? "100755" : "100644", writer.blob(content));
  });
  const commitOids = [writer.commit(tree.write(writer), [], 0, "commit 1")];
  for (let n = 1; n < commits; n++) {
    for (let k = Math.max(1, Math.min(20, Math.floor(files / 100))); k > 0; k--) {
      const i = random.below(files);
      const content = random.text(size());
      sizes[i] = content.length;
      tree.put(paths[i] ?? "", i % 97 === 5 ? "100755" : "100644", writer.blob(content));
    }
    const parents = commitOids.slice(-1);
    commitOids.push(writer.commit(tree.write(writer), parents, n, `commit ${n + 1}`));
  }
  const headOid = commitOids[commitOids.length - 1] ?? "";
  await writer.flush(dir);
  await setRefs(dir, { "refs/heads/main": headOid });
  if (repack) {
    await git(["-C", dir, "repack", "-a", "-d", "-q", "--write-bitmap-index"], {
      timeoutMs: 600_000,
    });
    await git(["-C", dir, "commit-graph", "write", "--reachable"]);
  }
  return {
    gitDir: dir,
    headOid,
    commitOids,
    fileCount: files,
    dirCount: tree.list().filter((entry) => entry.mode === "40000").length,
    totalBytes: sizes.reduce((a, b) => a + b, 0),
    samplePath: paths[files >> 1] ?? "",
  };
}

export interface BigBlobRepo {
  gitDir: string;
  headOid: string;
  path: ByteString;
  sizeBytes: number;
  /** Of the big file's content. */
  sha256: string;
  blobOid: string;
}

/**
 * Pieces of the big blob: `sizeBytes` deterministic bytes that do not compress, 1 MiB at a time.
 */
export function* bigBlobChunks(sizeBytes: number): Generator<Uint8Array<ArrayBuffer>, void, void> {
  const random = new Random(sizeBytes);
  for (let left = sizeBytes; left > 0; left -= 1 << 20) {
    yield random.bytes(Math.min(left, 1 << 20));
  }
}

/**
 * A repository with one large file `big.bin` and a few small ones; never holds the large one in
 * memory.
 */
export async function makeBigBlobRepo(dir: string, sizeBytes: number): Promise<BigBlobRepo> {
  await init(dir, "sha1");
  // No deltas, no whole copies in memory.
  await git(["-C", dir, "config", "core.bigFileThreshold", "1m"]);
  const content = createHash("sha256");
  const name = createHash("sha1").update(`blob ${sizeBytes}\0`);

  const sink = new PackSink(dir, "sha1");
  await sink.write(packHeader(1));
  await sink.write(packEntryHeader("blob", sizeBytes));
  // zlib's stored blocks by hand: nothing is to be compressed.
  let [a, b] = [1, 0]; // Adler-32
  await sink.write(Uint8Array.of(0x78, 0x01));
  for (const chunk of bigBlobChunks(sizeBytes)) {
    content.update(chunk);
    name.update(chunk);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < chunk.length; at += 65535) {
      const block = chunk.subarray(at, at + 65535);
      const [low, high] = [block.length & 255, block.length >> 8];
      parts.push(Uint8Array.of(0, low, high, ~low & 255, ~high & 255), block);
    }
    for (let at = 0; at < chunk.length; at += 3800) { // as far as b stays exact
      const end = Math.min(chunk.length, at + 3800);
      for (let i = at; i < end; i++) b += a += chunk[i] ?? 0;
      a %= 65521;
      b %= 65521;
    }
    await sink.write(concat(parts));
  }
  const adler = new Uint8Array(9);
  adler.set([1, 0, 0, 255, 255]); // an empty last block
  new DataView(adler.buffer).setUint32(5, b * 65536 + a);
  await sink.write(adler);
  await sink.finish();

  const blobOid = name.digest("hex");
  const writer = new ObjectWriter("sha1");
  const tree = new TreeBuilder().put("big.bin", "100644", blobOid);
  for (let i = 0; i < 5; i++) tree.put(`small/${i}.txt`, "100644", writer.blob(`small ${i}\n`));
  const headOid = writer.commit(tree.write(writer), [], 0, "big");
  await writer.flush(dir);
  await setRefs(dir, { "refs/heads/main": headOid });
  return {
    gitDir: dir,
    headOid,
    path: "big.bin",
    sizeBytes,
    sha256: content.digest("hex"),
    blobOid,
  };
}
