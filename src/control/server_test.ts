import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { Bug } from "../failure.ts";
import { setupLog } from "../log.ts";
import type { Progress } from "./api.ts";
import { call, NoDaemon } from "./client.ts";
import type { EventLine } from "./events.ts";
import { type Context, ControlServer, type EventContext, type Handlers } from "./server.ts";

setupLog({ write: () => {} });

const NONE = () => Promise.reject(new Bug("not asked for"));
const HANDLERS: Handlers = {
  ping: () => Promise.resolve({ pid: 7, afs: "test" }),
  "stop-if-unused": NONE,
  mount: NONE,
  "add-repo": NONE,
  "remove-repo": NONE,
  unmount: NONE,
  remount: NONE,
  prepare: NONE,
  "list-repos": () => Promise.resolve({ repos: [] }),
  fetch: NONE,
  "set-refresh": NONE,
  switch: NONE,
  status: () => Promise.resolve({ repos: [] }),
  shutdown: NONE,
  events: NONE,
  "log-level": NONE,
};

async function withServer(
  handlers: Partial<Handlers>,
  body: (socketPath: string, server: ControlServer) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  const socketPath = `${dir}/control.sock`;
  const server = new ControlServer(socketPath, { ...HANDLERS, ...handlers });
  try {
    await body(socketPath, server);
  } finally {
    await server.close(1000);
    await Deno.remove(dir, { recursive: true });
  }
}

const options = { sanitizeResources: false, sanitizeOps: false };

Deno.test("a call is answered; the socket is its owner's alone", options, async () => {
  await withServer({}, async (socketPath) => {
    assert.deepEqual(await call(socketPath, "ping", {}), { pid: 7, afs: "test" });
    assert.equal((await Deno.lstat(socketPath)).mode! & 0o777, 0o600);
  });
});

Deno.test("nobody listens: NoDaemon, also behind a stale socket", options, async () => {
  const dir = await Deno.makeTempDir();
  const socketPath = `${dir}/control.sock`;
  try {
    await assert.rejects(call(socketPath, "ping", {}), NoDaemon);
    const child = await new Deno.Command(Deno.execPath(), {
      args: ["eval", `Deno.listen({transport: "unix", path: "${socketPath}"}); Deno.exit()`],
    }).output();
    assert.ok(child.success);
    await Deno.lstat(socketPath);
    await assert.rejects(call(socketPath, "ping", {}), NoDaemon);
    const server = new ControlServer(socketPath, HANDLERS);
    assert.equal((await call(socketPath, "ping", {})).pid, 7);
    await server.close(1000);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("progress comes before the failure, whose kind and text are kept", options, async () => {
  const remount = (_: unknown, { onProgress }: Context) => {
    onProgress({ phase: "One", percent: null });
    onProgress({ phase: "Two", percent: 50 });
    return Promise.reject(new Failure("busy", "Cannot x: https://u:hunter22@h/ is in use"));
  };
  await withServer({ remount }, async (socketPath) => {
    const seen: Progress[] = [];
    const repo = { by: "name", name: "x" } as const;
    await assert.rejects(
      call(socketPath, "remount", { repo }, { onProgress: (progress) => seen.push(progress) }),
      (error) =>
        error instanceof Failure && error.kind === "busy" &&
        error.message === "Cannot x: https://***@h/ is in use",
    );
    assert.deepEqual(seen.map(({ phase, percent }) => [phase, percent]), [
      ["One", null],
      ["Two", 50],
    ]);
  });
});

Deno.test("an aborted call cancels the operation and gets its last word", options, async () => {
  const controller = new AbortController();
  const status = (_: unknown, { signal }: Context) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      controller.abort();
    });
  await withServer({ status }, async (socketPath) => {
    await assert.rejects(
      call(socketPath, "status", { repo: null }, { signal: controller.signal }),
      /interrupted/,
    );
  });
});

Deno.test("a client that goes away aborts its operation", options, async () => {
  const aborted = Promise.withResolvers<void>();
  const status = (_: unknown, { signal, onProgress }: Context) => {
    signal.addEventListener("abort", () => aborted.resolve());
    onProgress({ phase: "Begun", percent: null });
    return new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  };
  await withServer({ status }, async (socketPath) => {
    const connection = await Deno.connect({ transport: "unix", path: socketPath });
    const body = JSON.stringify({
      version: 1,
      operation: crypto.randomUUID(),
      params: { repo: null },
    });
    const head = `POST /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n`;
    await connection.write(new TextEncoder().encode(head + body));
    await connection.read(new Uint8Array(1024));
    connection.close();
    await aborted.promise;
  });
});

Deno.test("a daemon that stops says so, and to new calls it is gone", options, async () => {
  const stuck = Promise.withResolvers<void>();
  const status = (_: unknown, { signal, onProgress }: Context) => {
    onProgress({ phase: "Begun", percent: null });
    stuck.resolve();
    return new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  };
  await withServer({ status }, async (socketPath, server) => {
    const waiting = call(socketPath, "status", { repo: null });
    const rejected = assert.rejects(waiting, /the daemon is stopping/);
    await stuck.promise;
    await server.close(1000);
    await rejected;
    await assert.rejects(call(socketPath, "ping", {}), NoDaemon);
  });
});

/** A server of one connection that says these parts, and then is gone. */
async function answering(parts: readonly string[]) {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/control.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  const served = (async () => {
    using connection = await listener.accept();
    await connection.read(new Uint8Array(4096));
    for (const part of parts) await connection.write(new TextEncoder().encode(part));
  })();
  const phases: string[] = [];
  try {
    const result = await call(path, "ping", {}, { onProgress: ({ phase }) => phases.push(phase) });
    return { result, phases };
  } finally {
    await served;
    listener.close();
    await Deno.remove(dir, { recursive: true });
  }
}

const HEAD = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n";
const PROGRESS = '{"kind":"progress","phase":"A","percent":null}\n';
const RESULT = '{"kind":"result","result":{"pid":7,"afs":"test"}}\n';

Deno.test("an answer comes whole however it is cut", options, async () => {
  const whole = `${HEAD}${PROGRESS}\n${PROGRESS}${RESULT}`;
  for (
    const cuts of [[], [3], [HEAD.length - 1], [HEAD.length, HEAD.length + 9], [whole.length - 1]]
  ) {
    const parts = [0, ...cuts].map((from, i) => whole.slice(from, cuts[i]));
    const { result, phases } = await answering(parts);
    assert.deepEqual(result, { pid: 7, afs: "test" });
    assert.deepEqual(phases, ["A", "A"]);
  }
});

Deno.test(
  "a daemon that ends before it has answered is told, at whatever point",
  options,
  async () => {
    for (const said of ["", HEAD.slice(0, 9), HEAD, HEAD + PROGRESS, HEAD + RESULT.slice(0, -1)]) {
      await assert.rejects(answering([said]), { kind: "fatal", message: /has ended before/ });
    }
    await assert.rejects(answering([`${HEAD}{}\n`]), { kind: "fatal", message: /another version/ });
    await assert.rejects(answering(["HTTP/1.1 503 Service Unavailable\r\n\r\n"]), NoDaemon);
  },
);

const EVENT = { time: "2026-01-01T00:00:00.000Z", event: "mounted", repo: "x", fields: { a: 1 } };

Deno.test(
  "events come until the client goes, and then nothing is kept for it",
  options,
  async () => {
    const gone = Promise.withResolvers<void>();
    const events = (_: unknown, { onEvent, signal }: EventContext) =>
      new Promise<never>((_, reject) => {
        assert.ok(onEvent(EVENT));
        assert.ok(onEvent({ ...EVENT, event: "removed" }));
        signal.addEventListener("abort", () => {
          assert.ok(!onEvent(EVENT));
          reject(signal.reason);
          gone.resolve();
        });
      });
    await withServer({ events }, async (socketPath) => {
      const seen: EventLine[] = [];
      const controller = new AbortController();
      const onEvent = (event: EventLine) => {
        if (seen.push(event) === 2) controller.abort();
      };
      const { signal } = controller;
      await assert.rejects(call(socketPath, "events", { name: null }, { onEvent, signal }), {
        message: /interrupted/,
      });
      await gone.promise;
      assert.deepEqual(seen.map(({ event, repo, fields }) => [event, repo, fields]), [
        ["mounted", "x", { a: 1 }],
        ["removed", "x", { a: 1 }],
      ]);
    });
  },
);

Deno.test(
  "a client that does not read is cut off with a last line; others are not",
  options,
  async () => {
    const big = { ...EVENT, fields: { text: "x".repeat(2000) } };
    let taken = 0;
    const cut = Promise.withResolvers<void>();
    const events = async (_: unknown, { onEvent }: EventContext) => {
      // Between them the connection has its turn, and takes what it can.
      for (; onEvent(big); taken++) await new Promise((resolve) => setTimeout(resolve));
      cut.resolve();
      throw new Failure("failed", "Cannot go on: too slow");
    };
    await withServer({ events }, async (socketPath) => {
      using connection = await Deno.connect({ transport: "unix", path: socketPath });
      const operation = crypto.randomUUID();
      const body = JSON.stringify({ version: 1, operation, params: { name: null } });
      const head =
        `POST /v1/events HTTP/1.0\r\nHost: afs\r\nContent-Length: ${body.length}\r\n\r\n`;
      await connection.write(new TextEncoder().encode(head + body));
      await cut.promise;
      assert.equal((await call(socketPath, "ping", {})).pid, 7);
      const text = await new Response(connection.readable).text();
      const lines = text.split("\r\n\r\n")[1]?.trimEnd().split("\n") ?? [];
      assert.equal(lines.length, taken + 1);
      assert.deepEqual(JSON.parse(lines.at(-1) as string), {
        kind: "failure",
        failure: { kind: "failed", message: "Cannot go on: too slow" },
      });
    });
  },
);

Deno.test("drain ends what runs, but for shutdown, whose answer comes after", options, async () => {
  const end = Promise.withResolvers<void>();
  const shutdown = async (_: unknown, { onProgress }: Context) => {
    onProgress({ phase: "Unmounting", percent: null });
    await end.promise;
    return { pid: 7 };
  };
  const hanging = (_: unknown, { signal, onProgress }: Context) =>
    new Promise<never>((_, reject) => {
      onProgress({ phase: "Hanging", percent: null });
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  await withServer({ shutdown, status: hanging }, async (socketPath, server) => {
    const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
    const status = assert.rejects(
      call(socketPath, "status", { repo: null }, { onProgress: () => begun[0].resolve() }),
      { message: /daemon is stopping/ },
    );
    const ending = call(socketPath, "shutdown", {}, { onProgress: () => begun[1].resolve() });
    await Promise.all(begun.map(({ promise }) => promise));
    await server.drain(60_000);
    await status;
    await assert.rejects(call(socketPath, "ping", {}), NoDaemon);
    end.resolve();
    assert.deepEqual(await ending, { pid: 7 });
  });
});
