/** Paths as the user gave them, made absolute. The daemon's working directory is another one. */

import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { isWritable, readMountInfo } from "../sys/mod.ts";
import { variable } from "./environment.ts";

/**
 * The absolute path without `.`, `..` and symbolic links. What does not exist yet is kept as it is;
 * what is a mount of ours is not asked, since its daemon may be dead.
 */
export function hostPath(path: string): HostPath {
  return realPathOf(
    normalPath(absolutePath(path)),
    new Set(readMountInfo().map((info) => info.mountPoint)),
  );
}

/** Links are kept: those on the way to a token are what a secret manager changes. */
export function absolutePath(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

function normalPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function realPathOf(path: string, mountPoints: ReadonlySet<string>): HostPath {
  if (path === "/") return "/" as HostPath;
  const slash = path.lastIndexOf("/");
  const parent = realPathOf(path.slice(0, slash) || "/", mountPoints);
  const whole = `${parent === "/" ? "" : parent}${path.slice(slash)}`;
  if (mountPoints.has(whole)) return whole as HostPath;
  try {
    return Deno.realPathSync(whole) as HostPath;
  } catch {
    return whole as HostPath;
  }
}

/**
 * ARTIFACT_FS_ROOT; else /var/lib/artifact-fs where that can be written (on macOS a folder of the
 * user); else below XDG_DATA_HOME. Throws Failure (usage) when nothing says where.
 */
export function stateRoot(): HostPath {
  const given = variable("ARTIFACT_FS_ROOT");
  if (given !== undefined) return hostPath(given);
  if (Deno.build.os === "linux" && mayMake("/var/lib/artifact-fs")) {
    return hostPath("/var/lib/artifact-fs");
  }
  const home = variable("HOME");
  const data = Deno.build.os === "darwin" ? undefined : variable("XDG_DATA_HOME");
  // The XDG specification: a relative path is invalid and to be ignored.
  if (data?.startsWith("/")) return hostPath(`${data}/artifact-fs`);
  if (home !== undefined) return hostPath(`${home}/.local/share/artifact-fs`);
  throw new Failure("usage", "Cannot find a place for the state: set ARTIFACT_FS_ROOT or HOME");
}

function mayMake(path: string): boolean {
  try {
    Deno.statSync(path);
    return isWritable(path);
  } catch {
    const parent = path.slice(0, path.lastIndexOf("/"));
    return isWritable(parent);
  }
}

/**
 * A remote as the daemon can use it: a local path is made absolute, everything else is kept. The
 * rule is git's: what has a scheme or a colon before the first slash is no path.
 */
export function remoteForDaemon(text: string): string {
  const isUrl = /^[A-Za-z0-9][A-Za-z0-9+.-]*:(?:\/\/|:)/.test(text);
  const isScp = /^[^/]+:/.test(text) && !exists(text);
  if (isUrl || isScp || text === "" || text.startsWith("-") || text.startsWith("/")) return text;
  return normalPath(`${Deno.cwd()}/${text}`);
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
