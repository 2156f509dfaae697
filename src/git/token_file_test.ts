import assert from "node:assert/strict";
import { withTempDir } from "../../tests/support/run.ts";
import { Failure, messageOf } from "../failure.ts";
import { redact } from "../redact.ts";
import { credentialHelper, readLogin } from "./credentials.ts";
import { gitFailure } from "./errors.ts";
import { GitError } from "./process.ts";
import { linkTokenFile, parseToken, readTokenFile, readTokenFrom } from "./token_file.ts";

const LONG = "x".repeat(4096);

const GOOD: readonly [string, string, string, string][] = [
  ["a token", "t0ken\n", "x-access-token", "t0ken"],
  ["no newline at its end", "t0ken", "x-access-token", "t0ken"],
  ["of an editor of another system", "t0ken\r\n", "x-access-token", "t0ken"],
  ["empty lines behind it", "t0ken\n\n\n", "x-access-token", "t0ken"],
  ["with a user", "oauth2:t0k:en\n", "oauth2", "t0k:en"],
  ["a shell's characters", "u ser:$(id) `id` '\" \\n %s *\n", "u ser", "$(id) `id` '\" \\n %s *"],
  ["what looks like an option", "-n\n", "x-access-token", "-n"],
  ["as long as may be", LONG, "x-access-token", LONG],
  ["not ASCII", "ü:pässwörd\n", "ü", "pässwörd"],
];

const BAD: readonly [string, string, RegExp][] = [
  ["empty", "", /it is empty/],
  ["nothing but a newline", "\n", /it is empty/],
  ["two lines", "one\ntwo\n", /it has more than one line/],
  ["a line further down", "one\n\ntwo", /it has more than one line/],
  ["too long", `${LONG}x`, /it is too long/],
  ["much too long", LONG.repeat(100), /it is too long/],
];

Deno.test("a token file: both readers take the same, and git hears it", async () => {
  await withTempDir(async (dir) => {
    const [file, link] = [dir.at("it's a file"), dir.at("l'ink.token")];
    await linkTokenFile(link, file);
    const source = { origin: "https://host", path: link };
    for (const [name, text, username, password] of GOOD) {
      await Deno.writeTextFile(file, text);
      assert.deepEqual(readTokenFile(file), { username, password }, name);
      assert.deepEqual(await readLogin(source), { username, password }, name);
    }
    assert.equal(redact("it is pässwörd"), "it is ***");
    assert.equal(redact(btoa("oauth2:t0k:en")), "***");
  });
});

Deno.test("a token file that is of no use: one line that says why, from both readers", async () => {
  await withTempDir(async (dir) => {
    const [file, link] = [dir.at("file"), dir.at("link.token")];
    await linkTokenFile(link, file);
    const refused = async (name: string, pattern: RegExp) => {
      const isLine = (error: unknown) => {
        assert.ok(error instanceof Failure && error.kind === "usage", name);
        assert.match(error.message, /^Cannot use the token file .*; it is to hold/, name);
        return pattern.test(error.message) && error.message.includes(file);
      };
      assert.throws(() => readTokenFile(file), isLine, name);
      await assert.rejects(readLogin({ origin: "https://host", path: link }), (error) => {
        assert.ok(error instanceof GitError, name);
        const { kind, message } = gitFailure("fetch", error);
        assert.equal(kind, "authentication", name);
        assert.match(message, /^Cannot fetch: there is no token \(token file .*\); write/, name);
        assert.match(message, pattern, name);
        return message.includes(file);
      });
    };
    await refused("absent", /it is not there/);
    for (const [name, text, pattern] of BAD) {
      await Deno.writeTextFile(file, text);
      await refused(name, pattern);
    }
    await Deno.remove(file);
    await Deno.mkdir(file);
    await refused("a folder", /it is no file/);
    // git's credential format has lines: what would be one is never a token.
    for (const text of ["a\x00b", "a\tb", "a\rb"]) {
      assert.throws(() => parseToken(text, "it"), /control characters/);
    }
  });
});

Deno.test("a token file: the next login has what is there then, also behind a link of theirs", async () => {
  await withTempDir(async (dir) => {
    // As a secret manager does it: a link to a folder is replaced.
    for (const each of ["alpha", "beta"]) {
      await Deno.mkdir(dir.at(each));
      await Deno.writeTextFile(dir.at(each, "token"), each);
    }
    await Deno.symlink("alpha", dir.at("now"));
    const link = dir.at("link.token");
    await linkTokenFile(link, dir.at("now", "token"));
    const source = { origin: "https://host", path: link };
    assert.equal((await readLogin(source)).password, "alpha");
    await Deno.symlink("beta", dir.at("next"));
    await Deno.rename(dir.at("next"), dir.at("now"));
    assert.equal((await readLogin(source)).password, "beta");
    await linkTokenFile(link, dir.at("alpha", "token"));
    assert.equal((await readLogin(source)).password, "alpha");
    assert.doesNotMatch(credentialHelper(link), /alpha|beta/);
  });
});

Deno.test("a token of standard input is read to its end, and no further than need be", () => {
  const from = (chunks: string[]) => ({
    readSync(bytes: Uint8Array): number | null {
      const chunk = chunks.shift();
      if (chunk === undefined) return null;
      return new TextEncoder().encodeInto(chunk, bytes).written;
    },
  });
  assert.deepEqual(readTokenFrom(from(["us", "er:to", "ken\n"])), {
    username: "user",
    password: "token",
  });
  assert.throws(
    () => readTokenFrom(from([])),
    /Cannot use the token of standard input: it is empty/,
  );
  const endless = { readSync: (bytes: Uint8Array) => bytes.fill(120).length };
  assert.throws(() => readTokenFrom(endless), (error) => /too long/.test(messageOf(error)));
});
