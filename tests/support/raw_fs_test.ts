import assert from "node:assert/strict";
import * as raw from "./raw_fs.ts";
import { run, tempDir } from "./run.ts";

Deno.test("raw_fs: names of any bytes, stat, readdir, links", async () => {
  await using dir = await tempDir();
  const root = raw.fromUtf8(dir.path);
  const name = "\xff\n\\ \xe4";
  const fd = raw.open(`${root}/${name}`, raw.O_RDWR | raw.O_CREAT | raw.O_EXCL, 0o640);
  assert.equal(raw.write(fd, raw.toBytes("hello")), 5);
  assert.equal(raw.pwrite(fd, raw.toBytes("J"), 0), 1);
  assert.equal(raw.lseek(fd, 0, raw.SEEK_SET), 0);
  const buffer = new Uint8Array(10);
  assert.equal(raw.read(fd, buffer), 5);
  assert.equal(raw.read(fd, buffer), 0);
  assert.equal(raw.pread(fd, buffer, 3), 2);
  assert.equal(raw.fromBytes(buffer.subarray(0, 2)), "lo");
  assert.equal(raw.lseek(fd, 0, raw.SEEK_END), 5);
  assert.equal(raw.fstat(fd).size, 5);
  raw.close(fd);
  assert.equal(raw.fromBytes(raw.readFile(`${root}/${name}`, 2)), "Jello");

  await run("sh", ["-c", "mkdir sub; ln -s $(printf '\\377to') link; touch -d @1000.5 sub/t"], {
    cwd: dir.path,
  });
  assert.equal(raw.fromBytes(raw.readlink(`${root}/link`)), "\xffto");
  const entries = raw.readdir(root);
  assert.deepEqual(entries.map((entry) => entry.name).sort(), [".", "..", "link", "sub", name]);
  const types = new Map(entries.map((entry) => [entry.name, entry.type]));
  assert.equal(types.get("sub"), raw.DT_DIR);
  assert.equal(types.get("link"), raw.DT_LNK);
  assert.equal(types.get(name), raw.DT_REG);
  for (const entry of entries) {
    if (entry.name !== "..") assert.equal(entry.ino, raw.lstat(`${root}/${entry.name}`).ino);
  }
  const file = raw.lstat(raw.toBytes(`${root}/${name}`));
  assert.equal(file.mode & raw.S_IFMT, raw.S_IFREG);
  assert.equal(file.nlink, 1);
  assert.equal(file.uid, Deno.uid());
  assert.equal(raw.lstat(`${root}/link`).mode & raw.S_IFMT, raw.S_IFLNK);
  assert.equal(raw.stat(`${root}/sub/t`).mtimeNs, 1_000_500_000_000n);
  const info = await Deno.lstat(dir.at("sub"));
  assert.equal(raw.stat(`${root}/sub`).ino, BigInt(info.ino ?? 0));
});

Deno.test("raw_fs: errors are errno numbers", async () => {
  await using dir = await tempDir();
  const root = raw.fromUtf8(dir.path);
  assert.equal(raw.errnoOf(() => raw.lstat(`${root}/none`)), "ENOENT");
  assert.equal(raw.errnoOf(() => raw.open(root, raw.O_WRONLY)), "EISDIR");
  assert.equal(raw.errnoOf(() => raw.lstat(`${root}/${"x".repeat(256)}`)), "ENAMETOOLONG");
  assert.equal(raw.errnoOf(() => raw.readlink(root)), "EINVAL");
  assert.equal(raw.errnoOf(() => raw.close(-1)), "EBADF");
  assert.equal(raw.errnoOf(() => raw.access(root, 4)), "");
  assert.throws(() => raw.open(`${root}/none`), (error) => {
    assert.ok(error instanceof raw.RawFsError);
    assert.equal(error.errno, 2);
    assert.equal(error.call, "open");
    assert.match(error.message, /none: ENOENT/);
    return true;
  });
  assert.throws(() => raw.toBytes("\u20ac"), TypeError);
  assert.throws(() => raw.open("a\0b"), TypeError);
  assert.equal(raw.printable("a\xff\n"), "a\\xff\\x0a");
  assert.equal(raw.printable(raw.fromUtf8("h\u00e9")), "h\u00e9");
});

Deno.test("raw_fs: mmap, sendfile, copy_file_range", async () => {
  await using dir = await tempDir();
  const root = raw.fromUtf8(dir.path);
  const content = crypto.getRandomValues(new Uint8Array(10_000));
  await Deno.writeFile(dir.at("a"), content);
  const from = raw.open(`${root}/a`);
  const mapping = raw.mmap(from, content.length);
  assert.deepEqual(mapping.bytes.slice(), content);
  mapping.unmap();
  assert.equal(raw.errnoOf(() => raw.mmap(-1, 10)), "EBADF");
  const to = raw.open(`${root}/b`, raw.O_WRONLY | raw.O_CREAT);
  assert.equal(raw.sendfile(to, from, 4000), 4000);
  assert.equal(raw.copyFileRange(from, to, 6000), 6000);
  assert.equal(raw.sendfile(to, from, 10, 5), 10);
  raw.close(from);
  raw.close(to);
  const copied = await Deno.readFile(dir.at("b"));
  assert.deepEqual(copied.slice(0, 10_000), content);
  assert.deepEqual(copied.slice(10_000), content.slice(5, 15));
});

Deno.test("raw_fs: walk and openDeep go beyond PATH_MAX", async () => {
  await using dir = await tempDir();
  const names = Array.from({ length: 40 }, (_, i) => `${i}-`.padEnd(200, "n"));
  await run("python3", [
    "-c",
    "import os,sys\nfor n in sys.argv[1:]:\n os.mkdir(n); os.chdir(n)\n" +
    "open('end','w').write('deep')",
    ...names,
  ], { cwd: dir.path });
  const root = raw.fromUtf8(dir.path);
  const paths = [...raw.walk(root)].map((entry) => entry.path);
  assert.equal(paths.length, 41);
  const end = [...names, "end"].join("/");
  assert.equal(paths.at(-1), end);
  assert.equal(raw.errnoOf(() => raw.lstat(`${root}/${end}`)), "ENAMETOOLONG");
  const rootFd = raw.open(root, raw.O_RDONLY | raw.O_DIRECTORY);
  const fd = raw.openDeep(rootFd, end, raw.O_RDONLY);
  assert.equal(raw.fstat(fd).size, 4);
  raw.close(fd);
  const parent = raw.openDeep(rootFd, names.join("/"), raw.O_PATH | raw.O_DIRECTORY);
  assert.equal(raw.fromBytes(raw.readFile("end", 100, parent)), "deep");
  raw.close(parent);
  assert.equal(raw.errnoOf(() => raw.openDeep(rootFd, end + "/x", raw.O_RDONLY)), "ENOTDIR");
  raw.close(rootFd);
});
