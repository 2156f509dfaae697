/**
 * `mount.fuse.afs`, a link to this program: what mount(8) starts for
 *
 *     mount -t fuse.afs URL[#REF] DIR -o OPTIONS
 *
 * and for such a line of fstab. It does what `afs mount` does. mount(8) passes every option that it
 * does not keep for itself, also those that mean something to others only.
 */

import { Failure, messageOf } from "../failure.ts";
import { parseRemote } from "../git/remote_url.ts";
import { acquireParams } from "./acquire_options.ts";
import { holdOpen, isAutomount } from "../sys/mod.ts";
import { hostPath } from "./host_paths.ts";
import { print, say } from "./output.ts";
import { Interrupted, Session } from "./session.ts";

/** mount(8), "EXIT STATUS". */
const MOUNT_CODES = { done: 0, usage: 1, system: 2, interrupted: 8, failed: 32 } as const;

const USAGE = `usage: mount.fuse.afs URL[#REF] DIR [-o OPTION,...]

Options, beside those that mount(8) and systemd know:
  ref=REF          branch, tag, full ref or commit (as #REF)
  name=NAME        name in list-repos and status (default: the directory's)
  depth=N          keep the history this shallow
  uid=UID,gid=GID  owner of the files (default: who called sudo, else you)
  umask=MASK       permissions that files do not have (default: 022)
  ro               nothing can be changed through the mount

  -f  only check what is given    -s  ignore unknown options`;

/** Whether a program of this name is asked for a mount. */
export function isMountHelper(name: string): boolean {
  return name === "mount.fuse.afs" || name === "mount.afs";
}

export interface MountRequest {
  readonly url: string;
  readonly dir: string;
  readonly ref?: string;
  readonly name?: string;
  readonly depth?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly umask?: number;
  readonly readOnly: boolean;
  /** `-f`: nothing is to be mounted. */
  readonly fake: boolean;
}

/** The whole program under that name. Returns the exit code, which mount(8) hands on. */
export async function mountHelper(args: readonly string[]): Promise<number> {
  try {
    if (args.length === 0 || args[0] === "-h" || args[0] === "--help") {
      print(USAGE);
      return args.length === 0 ? MOUNT_CODES.usage : MOUNT_CODES.done;
    }
    await mount(parseMountArgs(args));
    return MOUNT_CODES.done;
  } catch (error) {
    say(messageOf(error).replaceAll(/\s*\n\s*/g, " "));
    return codeOf(error);
  }
}

function codeOf(error: unknown): number {
  if (error instanceof Interrupted) return MOUNT_CODES.interrupted;
  if (!(error instanceof Failure)) return MOUNT_CODES.failed;
  if (error.kind === "usage") return MOUNT_CODES.usage;
  return error.kind === "fatal" ? MOUNT_CODES.system : MOUNT_CODES.failed;
}

async function mount({ url, dir, ref, readOnly, fake, ...options }: MountRequest): Promise<void> {
  const { remote, ...params } = acquireParams(url, {
    ...options,
    ...(ref === undefined ? {} : { ref }),
    ...(readOnly ? { readOnly } : {}),
  });
  if (parseRemote(remote).credentials !== null) {
    throw wrong(
      "the URL has a login, which mount(8) and fstab would show to everybody; give it once with " +
        "`afs mount`, or have a git credential helper",
    );
  }
  if (fake) return;
  const path = hostPath(dir);
  await new Session().ask("mount", {
    ...params,
    url: remote,
    dir: path,
    // Of the automount that has started this program, which lets nobody else through.
    ...(isAutomount(path) ? { through: holdOpen(path) } : {}),
    name: options.name ?? null,
    ownerGiven: options.uid !== undefined,
    wait: "tree",
  });
}

/**
 * Options that ask nothing of us: mount(8)'s and systemd's own, those that every mount of ours has
 * anyway, and those about access times, which nobody promises here.
 */
const IGNORED: ReadonlySet<string> = new Set(
  ("defaults auto noauto user nouser users owner group nofail _netdev silent loud " +
    "exec nosuid nodev async default_permissions allow_other " +
    "atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime " +
    "nolazytime").split(" "),
);
const IGNORED_BEGINNINGS = ["x-", "X-", "comment=", "user=", "uhelper=", "helper="] as const;

/** What a mount of ours cannot be, though mount(8) knows it. */
const IMPOSSIBLE: Readonly<Record<string, string>> = {
  suid: "its mounts are nosuid",
  dev: "its mounts are nodev",
  noexec: "it has no such mounts",
  sync: "what is written is durable after fsync(2)",
  dirsync: "what is changed is durable after fsync(2)",
  remount: "unmount it, and mount it anew",
};

/** mount(8), "EXTERNAL HELPERS": `source dir [-sfnv] [-N namespace] [-o options] [-t type]`. */
export function parseMountArgs(args: readonly string[]): MountRequest {
  const places: string[] = [];
  const options: string[] = [];
  const flags = new Set<string>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (!arg.startsWith("-") || arg === "-") {
      places.push(arg);
      continue;
    }
    for (let at = 1; at < arg.length; at++) {
      const flag = arg[at] as string;
      if ("sfnvrw".includes(flag)) {
        flags.add(flag);
        continue;
      }
      if (!"oNt".includes(flag)) throw wrong(`there is no option -${flag}`);
      const value = arg.slice(at + 1) || args[++i];
      if (value === undefined) throw wrong(`-${flag} has no value`);
      if (flag === "N") throw wrong("it cannot mount in another namespace; use nsenter(1)");
      if (flag === "o") options.push(...value.split(",").filter((option) => option !== ""));
      break;
    }
  }
  const [source, dir, ...rest] = places;
  if (source === undefined || dir === undefined) throw wrong("give a URL and a directory");
  if (rest.length > 0) throw wrong(`there is more than a URL and a directory: ${rest.join(" ")}`);
  const { url, ref } = sourceOf(source);
  const read = readOptions(options, flags.has("s"));
  if (ref !== undefined && read.ref !== undefined && ref !== read.ref) {
    throw wrong(`two refs are given, ${ref} and ${read.ref}`);
  }
  const readOnly = read.readOnly ?? flags.has("r");
  return {
    url,
    dir,
    ...(ref === undefined ? {} : { ref }),
    ...read,
    readOnly,
    fake: flags.has("f"),
  };
}

/** A URL of git has no fragment; the last `#` begins the ref. */
function sourceOf(source: string): { readonly url: string; readonly ref?: string } {
  const hash = source.lastIndexOf("#");
  if (hash < 0) return { url: source };
  const [url, ref] = [source.slice(0, hash), source.slice(hash + 1)];
  return ref === "" ? { url } : { url, ref };
}

interface ReadOptions {
  ref?: string;
  name?: string;
  depth?: number;
  uid?: number;
  gid?: number;
  umask?: number;
  readOnly?: boolean;
}

/** The last one of a kind counts, as for mount(8). */
function readOptions(options: readonly string[], sloppy: boolean): ReadOptions {
  const read: ReadOptions = {};
  for (const option of options) {
    const equals = option.indexOf("=");
    const key = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? undefined : option.slice(equals + 1);
    if (key === "ro" || key === "rw") read.readOnly = key === "ro";
    else if (key === "ref" || key === "name") read[key] = given(key, value);
    else if (key === "depth" || key === "uid" || key === "gid") {
      read[key] = wholeNumber(key, given(key, value));
    } else if (key === "umask") {
      read.umask = mask(given(key, value));
    } else if (Object.hasOwn(IMPOSSIBLE, key)) {
      throw wrong(`it cannot be mounted with ${key}: ${IMPOSSIBLE[key]}`);
    } else if (!sloppy && !isIgnored(option)) {
      throw wrong(`there is no option ${JSON.stringify(key)}; see mount.fuse.afs --help`);
    }
  }
  if ((read.uid === undefined) !== (read.gid === undefined)) {
    throw wrong("uid= or gid= is given alone; give both");
  }
  return read;
}

function isIgnored(option: string): boolean {
  return IGNORED.has(option) || IGNORED_BEGINNINGS.some((start) => option.startsWith(start));
}

function given(key: string, value: string | undefined): string {
  if (value === undefined || value === "") throw wrong(`${key}= has no value`);
  return value;
}

function wholeNumber(key: string, text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= 0xffff_fffe) return value;
  throw wrong(`${key}=${text} is no whole number`);
}

/** As `--umask`. */
function mask(text: string): number {
  if (/^0*[0-7]{1,2}$/.test(text)) return Number.parseInt(text, 8);
  throw wrong(`umask=${text} is not from 000 to 077`);
}

function wrong(what: string): Failure {
  return new Failure("usage", `Cannot mount: ${what}`);
}
