import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { defaultDirectory, fileUrlOf, parseRemote, storeIdOf } from "./remote_url.ts";

Deno.test("parseRemote: URLs without their credentials", () => {
  const cases: [string, string, string | null][] = [
    ["https://github.com/a/b.git", "https://github.com/a/b.git", null],
    ["HTTPS://GitHub.com:443/A/b", "https://github.com/A/b", null],
    ["https://u:p@host/x", "https://host/x", "u:p"],
    ["https://u%40x:p%2Fq%25@host:8443/x?y=z", "https://host:8443/x?y=z", "u@x:p/q%"],
    ["https://u:p@ss@host/x", "https://host/x", "u:p@ss"],
    ["https://token@host/x", "https://host/x", "token:null"],
    ["https://:p@host/x", "https://host/x", ":p"],
    ["http://[::1]:80/x", "http://[::1]/x", null],
    ["http://host/x@y", "http://host/x@y", null],
    ["ssh://git@host:2222/x", "ssh://git@host:2222/x", null],
    ["git+ssh://git@host/x", "ssh://git@host/x", null],
    ["git@github.com:a/b.git", "git@github.com:a/b.git", null],
    ["git://host/x", "git://host/x", null],
    ["file:///a/b", "file:///a/b", null],
  ];
  for (const [text, url, credentials] of cases) {
    const remote = parseRemote(text);
    assert.equal(remote.url, url);
    const found = remote.credentials;
    assert.equal(found === null ? null : `${found.username}:${found.password}`, credentials, text);
  }
});

Deno.test("parseRemote: what is refused", () => {
  const bad = [
    "",
    "-x",
    "--upload-pack=touch x",
    "ext::sh -c id",
    "fd::3",
    "ftp://host/x",
    "https://host/a\nb",
    "https://u:a%0ab@host/x",
    "https://u:%zz@host/x",
    "https:///x",
    "https://-host/x",
    "ssh://u:p@host/x",
    "ssh://-oProxyCommand=x/y",
    "-oProxyCommand=x:y",
    "host:-x",
    "/dev/null/nothing",
  ];
  for (const text of bad) assert.throws(() => parseRemote(text), Failure, JSON.stringify(text));
  for (const text of bad) {
    try {
      parseRemote(text);
    } catch (error) {
      assert.match((error as Error).message, /^Cannot mount /);
    }
  }
});

Deno.test("parseRemote: local paths become file URLs that git decodes to the same path", async () => {
  const dir = await Deno.realPath(await Deno.makeTempDir());
  try {
    for (const name of ["plain", "a b", "50%", "%41", "x?y#z", "é", "a:b", "[x]", "q'\""]) {
      await Deno.mkdir(`${dir}/${name}`);
      const { url } = parseRemote(`./${name}/`, dir);
      assert.equal(url, fileUrlOf(`${dir}/${name}`));
      assert.equal(decodeURIComponent(url), `file://${dir}/${name}`);
    }
    await Deno.writeTextFile(`${dir}/x.bundle`, "");
    assert.throws(() => parseRemote(`${dir}/x.bundle`), /bundle/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("defaultDirectory: as git clone", () => {
  const cases: [string, string][] = [
    ["https://github.com/cloudflare/workers-sdk.git", "workers-sdk"],
    ["https://u:p@host/x/y/", "y"],
    ["git@github.com:a/b.git", "b"],
    ["host:b", "b"],
    ["ssh://host:2222/x.git/", "x"],
    ["/srv/repo/.git", "repo"],
    ["../x y.git", "x y"],
    ["https://host:8080", "host"],
    ["file:///a/b.bundle", "b"],
  ];
  for (const [url, name] of cases) assert.equal(defaultDirectory(url), name);
  for (const url of ["/", "https://", ".."]) assert.throws(() => defaultDirectory(url), Failure);
});

Deno.test("storeIdOf: one per remote and depth", () => {
  const all = { branch: null, depth: null, singleBranch: false };
  const id = storeIdOf("https://host/x", all);
  assert.match(id, /^[0-9a-f]{16}$/);
  assert.equal(storeIdOf("https://host/x/", { ...all, branch: "main" }), id);
  assert.notEqual(storeIdOf("https://host/x", { ...all, depth: 1 }), id);
  assert.notEqual(storeIdOf("https://host/y", all), id);
  const single = (branch: string | null) =>
    storeIdOf("https://host/x", { ...all, branch, singleBranch: true });
  assert.equal(new Set([id, single(null), single("main"), single("topic")]).size, 4);
});
