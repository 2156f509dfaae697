/**
 * What is asked with GET, by who watches a daemon: on the control socket, and on a port of the
 * loopback interface if one was given (`daemon --metrics-port`).
 *
 *     /metrics   Prometheus' text format 0.0.4
 *     /healthz   200 when the daemon's own loop answers
 *     /readyz    200 when every mount that is wanted answers; else 503, and a line for each that
 *                does not
 *
 * On the port everybody on this machine may ask, so the answers hold no path, URL or secret. A web
 * page may make a browser ask too; it must not get an answer under a name of its own (DNS
 * rebinding), so the Host header has to be one of the loopback's.
 */

import { Failure, messageOf } from "../failure.ts";
import { logger } from "../log.ts";

export interface Pages {
  metrics(): Promise<string>;
  /** What is not ready, one line each. */
  unready(): Promise<readonly string[]>;
}

/** Null: there is no such page. */
export async function answerPage(request: Request, pages: Pages): Promise<Response | null> {
  const { pathname } = new URL(request.url);
  if (!Object.hasOwn(PAGES, pathname)) return null;
  if (request.method !== "GET" && request.method !== "HEAD") {
    return text(405, "Only GET is answered here\n", { allow: "GET, HEAD" });
  }
  const response = await PAGES[pathname as keyof typeof PAGES](pages);
  if (request.method === "GET") return response;
  return new Response(null, { status: response.status, headers: response.headers });
}

const PAGES = {
  "/metrics": async (pages: Pages) =>
    text(200, await pages.metrics(), {
      "content-type": "text/plain; version=0.0.4; charset=utf-8",
    }),
  "/healthz": (_: Pages) => Promise.resolve(text(200, "ok\n")),
  "/readyz": async (pages: Pages) => {
    const unready = await pages.unready();
    if (unready.length === 0) return text(200, "ok\n");
    return text(503, unready.map((line) => `${line}\n`).join(""));
  },
};

function text(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", ...headers },
  });
}

const ADDRESSES = ["127.0.0.1", "::1"] as const;

/** The pages on a port of the loopback interface. */
export class PagePort {
  readonly #servers: Deno.HttpServer[] = [];

  /** Listens. Throws Failure (busy; fatal). */
  constructor(port: number, pages: Pages) {
    const hosts = new Set(["127.0.0.1", "[::1]", "localhost"].flatMap((host) =>
      // A browser leaves the port out where it is the usual one.
      port === 80 ? [host, `${host}:80`] : [`${host}:${port}`]
    ));
    const answer = async (request: Request) => {
      const host = request.headers.get("host") ?? "";
      if (!hosts.has(host.toLowerCase())) return text(403, "Not for this host\n");
      return await answerPage(request, pages) ?? text(404, "There is no such page\n");
    };
    for (const hostname of ADDRESSES) {
      try {
        this.#servers.push(
          Deno.serve({ hostname, port, onListen: () => {}, onError: failed }, answer),
        );
      } catch (error) {
        // A machine without IPv6.
        const isElsewhere = this.#servers.length > 0 && !(error instanceof Deno.errors.AddrInUse);
        if (isElsewhere) continue;
        this.close();
        throw listenFailure(hostname, port, error);
      }
    }
  }

  /** Whoever is being answered may be cut off. Never throws. */
  close(): void {
    for (const server of this.#servers) server.shutdown().catch(() => {});
  }
}

function failed(error: unknown): Response {
  logger("control").error("Could not answer a page", { error: messageOf(error) });
  return text(500, "Cannot answer: see the daemon's log\n");
}

function listenFailure(hostname: string, port: number, error: unknown): Failure {
  const cannot = `Cannot serve metrics on ${hostname} port ${port}`;
  if (error instanceof Deno.errors.AddrInUse) {
    return new Failure("busy", `${cannot}: it is in use; give another --metrics-port`);
  }
  const kind = error instanceof Deno.errors.PermissionDenied ? "fatal" : "failed";
  return new Failure(kind, `${cannot}: ${messageOf(error)}`, { cause: error });
}
