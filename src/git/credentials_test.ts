import assert from "node:assert/strict";
import { withTempDir } from "../../tests/support/run.ts";
import { redact } from "../redact.ts";
import { type CredentialSource, registerLogin } from "./credentials.ts";
import { gitCauseOf } from "./errors.ts";
import { linkTokenFile } from "./token_file.ts";
import { runTransfer } from "./transfer.ts";
import { isForGit, Wire } from "./wire.ts";

interface World {
  readonly url: string;
  readonly source: CredentialSource;
  /** The logins of the requests, `-` for none. */
  readonly asked: string[];
  /** What a token becomes as soon as a request has come with it. */
  readonly renewals: Map<string, string>;
}

/**
 * A server that takes the token `good`, and then has no repository; and a file whose token is
 * renewed in the moment between being read and being refused.
 */
async function world(token: string, body: (world: World) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const asked: string[] = [];
    const renewals = new Map<string, string>();
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const sent = request.headers.get("authorization")?.replace("Basic ", "");
      const password = sent === undefined ? "-" : atob(sent).split(":")[1] as string;
      asked.push(password);
      const next = renewals.get(password);
      if (next !== undefined) Deno.writeTextFileSync(dir.at("token"), next);
      if (password === "good") return new Response("no", { status: 404 });
      return new Response("no", { status: 401, headers: { "WWW-Authenticate": "Basic" } });
    });
    const origin = `http://127.0.0.1:${server.addr.port}`;
    const path = dir.at("link.token");
    await Deno.writeTextFile(dir.at("token"), token);
    await linkTokenFile(path, dir.at("token"));
    try {
      await body({ url: `${origin}/x`, source: { origin, path }, asked, renewals });
    } finally {
      await server.shutdown();
    }
  });
}

for (const client of ["git", "our client"]) {
  /** What it asked with; it cannot succeed. */
  const ask = async ({ url, source, asked }: World, wire: Wire): Promise<string[]> => {
    asked.length = 0;
    const error = client === "git"
      ? await runTransfer(["ls-remote", url], { remoteUrl: url, logins: [source] }).catch((e) => e)
      : await wire.refs(["HEAD"], { login: source }).catch((e) => e);
    if (client === "our client") assert.ok(isForGit(error));
    else {
      const cause = asked.includes("good") ? "no-repository" : "authentication";
      assert.equal(gitCauseOf(error), cause);
    }
    // git asks without a login first.
    return asked.filter((each) => each !== "-");
  };

  Deno.test(`a login that is renewed while it is refused is tried once more: ${client}`, async () => {
    await world("old", async (each) => {
      const wire = new Wire(each.url);
      each.renewals.set("old", "good");
      assert.deepEqual(await ask(each, wire), ["old", "good"]);
      assert.deepEqual(await ask(each, wire), ["good"]);
    });
    await world("a", async (each) => {
      for (const [from, to] of [["a", "b"], ["b", "c"], ["c", "d"]] as const) {
        each.renewals.set(from, to);
      }
      assert.deepEqual(await ask(each, new Wire(each.url)), ["a", "b"]);
    });
  });

  Deno.test(`a login that is refused, and is as it was, is tried once: ${client}`, async () => {
    await world("bad", async (each) => {
      const wire = new Wire(each.url);
      assert.deepEqual(await ask(each, wire), ["bad"]);
      assert.deepEqual(await ask(each, wire), ["bad"]);
    });
  });
}

Deno.test("a login of ours is used alone: no program of the environment is asked", async () => {
  await withTempDir(async (dir) => {
    const script = `#!/bin/sh\necho asked >>${dir.at("asked")}\necho good\n`;
    await Deno.writeTextFile(dir.at("askpass"), script);
    await Deno.chmod(dir.at("askpass"), 0o755);
    const before = Deno.env.get("GIT_ASKPASS");
    Deno.env.set("GIT_ASKPASS", dir.at("askpass"));
    try {
      await world("bad", async ({ url, source, asked }) => {
        const options = { remoteUrl: url };
        await assert.rejects(runTransfer(["ls-remote", url], { ...options, logins: [source] }));
        assert.deepEqual(asked, ["-", "bad"]);
        await assert.rejects(Deno.stat(dir.at("asked")), Deno.errors.NotFound);
        // Where there is none of ours, it answers.
        await assert.rejects(runTransfer(["ls-remote", url], options));
        assert.deepEqual(asked.slice(2), ["-", "good"]);
      });
    } finally {
      if (before === undefined) Deno.env.delete("GIT_ASKPASS");
      else Deno.env.set("GIT_ASKPASS", before);
    }
  });
});

Deno.test("a login is masked in every form it is sent in", () => {
  registerLogin({ username: "me", password: "pass/word+1" });
  registerLogin({ username: "ghp_onlyname", password: null });
  for (
    const text of ["pass/word+1", "pass%2Fword%2B1", btoa("me:pass/word+1"), "ghp_onlyname"]
  ) {
    assert.equal(redact(`it was ${text}!`), "it was ***!");
  }
});
