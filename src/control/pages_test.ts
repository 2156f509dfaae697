import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { setupLog } from "../log.ts";
import { answerPage, PagePort, type Pages } from "./pages.ts";

setupLog({ write: () => {} });

const READY: Pages = {
  metrics: () => Promise.resolve("a 1\n"),
  unready: () => Promise.resolve([]),
};
const UNREADY: Pages = { ...READY, unready: () => Promise.resolve(["x: not mounted", "y: z"]) };

async function ask(path: string, init: RequestInit = {}, pages = READY) {
  const response = await answerPage(new Request(`http://afs${path}`, init), pages);
  return response === null
    ? null
    : [response.status, await response.text(), response.headers.get("content-type")];
}

Deno.test("each page by GET and HEAD; other methods are refused, other paths are nobody's", async () => {
  const plain = "text/plain; charset=utf-8";
  const metrics = "text/plain; version=0.0.4; charset=utf-8";
  assert.deepEqual(await ask("/metrics"), [200, "a 1\n", metrics]);
  assert.deepEqual(await ask("/metrics?x=1", { method: "HEAD" }), [200, "", metrics]);
  assert.deepEqual(await ask("/healthz"), [200, "ok\n", plain]);
  assert.deepEqual(await ask("/readyz"), [200, "ok\n", plain]);
  assert.deepEqual(await ask("/readyz", {}, UNREADY), [503, "x: not mounted\ny: z\n", plain]);
  assert.deepEqual(await ask("/readyz", { method: "HEAD" }, UNREADY), [503, "", plain]);
  assert.equal((await ask("/healthz", { method: "POST", body: "x" }))?.[0], 405);
  for (const path of ["/", "/metrics/", "/v1/ping", "/constructor"]) {
    assert.equal(await ask(path), null, path);
  }
});

const options = { sanitizeResources: false, sanitizeOps: false };

/** A port that nobody has; somebody may take it before it is used, which has not been seen. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Status of an answer on the port, asked with this Host header. */
async function statusOf(port: number, host: string, path = "/healthz"): Promise<number> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  await connection.write(new TextEncoder().encode(request));
  const answer = await new Response(connection.readable).text();
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
}

Deno.test("on a port: pages only, and only under a name of the loopback", options, async () => {
  const port = freePort();
  const server = new PagePort(port, READY);
  try {
    for (const host of ["127.0.0.1", "localhost", "LocalHost", "[::1]"]) {
      assert.equal(await statusOf(port, `${host}:${port}`), 200, host);
    }
    for (const host of [`evil.example:${port}`, "localhost", `127.0.0.1:${port + 1}`, "x", ""]) {
      assert.equal(await statusOf(port, host), 403, host);
    }
    assert.equal(await statusOf(port, `localhost:${port}`, "/v1/ping"), 404);
  } finally {
    server.close();
  }
});

Deno.test("a port that is taken is one line, and nothing is left listening", options, () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr;
  assert.throws(
    () => new PagePort(port, READY),
    (error) =>
      error instanceof Failure && error.kind === "busy" &&
      error.message === `Cannot serve metrics on 127.0.0.1 port ${port}: it is in use; give ` +
          "another --metrics-port",
  );
});
