/**
 * Remote URLs: what `git clone` accepts, with credentials split off.
 *
 * Invariant: nothing that leaves this module except `Remote.credentials` holds a secret. For http
 * the user name goes with it, since tokens are used as user names; for ssh it stays.
 */

import { createHash } from "node:crypto";
import { Failure } from "../failure.ts";

export interface Credentials {
  readonly username: string;
  /** Null: only a user name was given. */
  readonly password: string | null;
}

export interface Remote {
  /** For git, the registry and people: no credentials. */
  readonly url: string;
  readonly scheme: "https" | "http" | "ssh" | "git" | "file";
  /** `https://host:port` for http(s), which credentials belong to; else null. */
  readonly origin: string | null;
  readonly credentials: Credentials | null;
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = {
  https: "443",
  http: "80",
  ssh: "22",
  git: "9418",
};

/** Other names of a transport that git takes. */
const SCHEMES: Readonly<Record<string, Remote["scheme"]>> = {
  https: "https",
  http: "http",
  ssh: "ssh",
  "git+ssh": "ssh",
  "ssh+git": "ssh",
  git: "git",
  file: "file",
};

/** Throws Failure (usage) for what is no remote; `cwd` is what a relative path is relative to. */
export function parseRemote(text: string, cwd = "/"): Remote {
  if (text === "") throw usage("an empty URL", "give the URL of a git repository");
  // deno-lint-ignore no-control-regex -- exactly these are refused
  if (/[\x00-\x1f\x7f]/.test(text)) {
    throw usage("a URL with control characters", "give it without them");
  }
  if (text.startsWith("-")) {
    throw usage(`"${text}"`, "a URL does not begin with a dash; for a path write ./ before it");
  }
  const url = /^([A-Za-z0-9][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text);
  if (url !== null) return parseUrl((url[1] as string).toLowerCase(), url[2] as string);
  const helper = /^([A-Za-z0-9]+)::/.exec(text);
  if (helper !== null) {
    throw usage(`a "${helper[1]}::" URL`, "use https, http, ssh, git or file");
  }
  return isScp(text) ? parseScp(text) : localRemote(absolutePath(text, cwd));
}

function usage(what: string, advice: string): Failure {
  return new Failure("usage", `Cannot mount ${what}: ${advice}`);
}

/** git: url_is_local_not_ssh in connect.c: a colon before any slash is a host. */
function isScp(text: string): boolean {
  const colon = text.indexOf(":");
  const slash = text.indexOf("/");
  return colon > 0 && (slash < 0 || colon < slash) && !pathExists(text);
}

function pathExists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

function parseScp(text: string): Remote {
  const host = text.slice(0, text.indexOf(":"));
  // Options for ssh in the place of a host (git: CVE-2017-1000117).
  if (host.startsWith("-") || text.slice(host.length + 1).startsWith("-")) {
    throw usage(`"${text}"`, "neither host nor path may begin with a dash");
  }
  return { url: text, scheme: "ssh", origin: null, credentials: null };
}

function parseUrl(schemeText: string, rest: string): Remote {
  const scheme = SCHEMES[schemeText];
  if (scheme === undefined) {
    throw usage(`a "${schemeText}://" URL`, "use https, http, ssh, git or file");
  }
  if (scheme === "file") return { url: `file://${rest}`, scheme, origin: null, credentials: null };
  const end = rest.search(/[/?#]/);
  const authority = end < 0 ? rest : rest.slice(0, end);
  const path = end < 0 ? "" : rest.slice(end);
  const at = authority.lastIndexOf("@");
  const host = hostOf(scheme, authority.slice(at + 1));
  const userinfo = at < 0 ? null : authority.slice(0, at);
  if (scheme === "https" || scheme === "http") {
    const origin = `${scheme}://${host}`;
    return { url: origin + path, scheme, origin, credentials: parseUserinfo(userinfo) };
  }
  const user = userinfo === null ? "" : sshUser(userinfo);
  return { url: `${scheme}://${user}${host}${path}`, scheme, origin: null, credentials: null };
}

/** Lower case and without the port that is the default anyway. */
function hostOf(scheme: string, text: string): string {
  const match = /^(\[[0-9A-Fa-f:.%]+\]|[^:[\]]*)(?::(\d*))?$/.exec(text);
  const host = match?.[1]?.toLowerCase() ?? "";
  if (host === "" || host.startsWith("-") || /\s/.test(host)) {
    throw usage("a URL without a proper host", "write it as https://host/path");
  }
  const port = match?.[2] ?? "";
  return port === "" || port === DEFAULT_PORTS[scheme] ? host : `${host}:${port}`;
}

function sshUser(userinfo: string): string {
  if (userinfo.includes(":")) {
    throw usage("an ssh URL with a password", "ssh takes none from a URL; use a key");
  }
  return `${userinfo}@`;
}

function parseUserinfo(userinfo: string | null): Credentials | null {
  if (userinfo === null || userinfo === "" || userinfo === ":") return null;
  const colon = userinfo.indexOf(":");
  const username = decodePercent(colon < 0 ? userinfo : userinfo.slice(0, colon));
  const password = colon < 0 ? null : decodePercent(userinfo.slice(colon + 1));
  return { username, password };
}

function decodePercent(text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw usage("a URL whose user or password is not percent-encoded UTF-8", "encode % as %25");
  }
  // A newline would end the value in git's credential format and begin another (CVE-2020-5260).
  // deno-lint-ignore no-control-regex -- exactly these are refused
  if (/[\x00-\x1f\x7f]/.test(decoded)) {
    throw usage("a URL with control characters in user or password", "give it without them");
  }
  return decoded;
}

function absolutePath(path: string, cwd: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith("/") ? path : `${cwd}/${path}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/**
 * A local path as file:// URL: with a plain path git would copy the repository and ignore depth
 * and filter. git decodes %XX in it (url.c, url_decode).
 */
function localRemote(path: string): Remote {
  if (isFile(path)) {
    throw usage(path, "it is a file (a bundle?); `git clone --bare` it and mount that directory");
  }
  if (!pathExists(path) && !pathExists(`${path}.git`)) {
    throw new Failure("failed", `Cannot mount ${path}: there is no such directory; check the path`);
  }
  return { url: fileUrlOf(path), scheme: "file", origin: null, credentials: null };
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The file:// URL of an absolute path. */
export function fileUrlOf(path: string): string {
  return `file://${encodeURI(path).replaceAll(/[?#]/g, encodeURIComponent)}`;
}

/** The http(s) URL, which has none, with credentials. */
export function urlWithCredentials(url: string, { username, password }: Credentials): string {
  const userinfo = [username, password ?? ""].map(encodeURIComponent).join(":");
  return url.replace("://", () => `://${userinfo}@`);
}

/** The URL without credentials, for what is shown and kept. Throws Failure (usage). */
export function remoteWithoutCredentials(text: string, cwd = "/"): string {
  return parseRemote(text, cwd).url;
}

/**
 * The directory that `git clone` would make (dir.c, git_url_basename). Throws Failure (usage) when
 * the URL has no name.
 */
export function defaultDirectory(text: string): string {
  let rest = text.replace(/^[A-Za-z0-9][A-Za-z0-9+.-]*:\/\//, "");
  const slash = rest.indexOf("/");
  const at = rest.slice(0, slash < 0 ? rest.length : slash).lastIndexOf("@");
  rest = rest.slice(at + 1).replace(/[\s/]+$/, "").replace(/\/\.git$/, "").replace(/\/+$/, "");
  if (!rest.includes("/")) rest = rest.replace(/:\d+$/, "");
  const last = rest.split(/[/:]/).at(-1) as string;
  const name = last.replace(/\.(?:git|bundle)$/, "")
    // deno-lint-ignore no-control-regex -- as git does
    .replaceAll(/[\x00-\x20\x7f]+/g, " ").trim();
  if (name === "" || name === "." || name === "..") {
    throw new Failure("usage", `Cannot guess a directory name from the URL: name a directory`);
  }
  return name;
}

/** What a store depends on. */
export interface StoreSource {
  readonly branch: string | null;
  readonly depth: number | null;
  readonly singleBranch: boolean;
}

/**
 * Names a store: 16 hex digits. One with the whole history of all branches is shared by all that
 * want it; others by those that want the same part.
 */
export function storeIdOf(remoteUrl: string, source: StoreSource): string {
  const { branch, depth, singleBranch } = source;
  const parts = [
    remoteUrl.replace(/\/+$/, ""),
    depth ?? "full",
    ...(singleBranch ? ["single", branch ?? "HEAD"] : []),
  ];
  return createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 16);
}
