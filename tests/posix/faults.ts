/**
 * Broken file systems, by name: each makes an actor's calls do something else than they should,
 * as an implementation with that mistake would. The suite must see every one of them.
 */

import * as raw from "./syscalls.ts";

interface Fault {
  /** How the names of the cases begin that must see it. */
  readonly area: string;
  readonly apply: (s: raw.Sys) => void;
}

export const FAULTS: Readonly<Record<string, Fault>> = {
  "O_EXCL is ignored": {
    area: "open: O_EXCL",
    apply: (s) => {
      const open = s.open.bind(s);
      s.open = (name, path, flags = 0, mode) => open(name, path, flags & ~raw.O_EXCL, mode);
    },
  },
  "O_TRUNC is ignored": {
    area: "open: every combination on a file",
    apply: (s) => {
      const tryOpen = s.tryOpen.bind(s);
      s.tryOpen = (path, flags, mode) => tryOpen(path, flags & ~raw.O_TRUNC, mode);
    },
  },
  "O_APPEND writes at the offset": {
    area: "data: O_APPEND",
    apply: (s) => {
      const open = s.open.bind(s);
      s.open = (name, path, flags = 0, mode) => open(name, path, flags & ~raw.O_APPEND, mode);
    },
  },
  "truncate does not grow": {
    area: "data: truncate",
    apply: (s) => {
      const truncate = s.truncate.bind(s);
      s.truncate = (path, size) => {
        if (size <= raw.stat(path).size) truncate(path, size);
      };
    },
  },
  "a hole is not made of zeros": {
    area: "data: sparse",
    apply: (s) => {
      const ftruncate = s.ftruncate.bind(s);
      s.ftruncate = (name, size) => {
        const old = raw.fstat(s.fd(name)).size;
        ftruncate(name, size);
        if (size > old) raw.pwrite(s.fd(name), raw.toBytes("?"), old);
      };
    },
  },
  "write does not move mtime": {
    area: "data: write",
    apply: (s) => {
      const write = s.write.bind(s);
      s.write = (name, text) => {
        const { atimeNs, mtimeNs } = raw.fstat(s.fd(name));
        const written = write(name, text);
        raw.futimens(s.fd(name), [atimeNs, mtimeNs]);
        return written;
      };
    },
  },
  "fallocate forgets KEEP_SIZE": {
    area: "fallocate: alloc",
    apply: (s) => {
      const fallocate = s.fallocate.bind(s);
      s.fallocate = (name, mode, offset, length) =>
        fallocate(name, mode === raw.FALLOC_KEEP_SIZE ? 0 : mode, offset, length);
    },
  },
  "rmdir removes what is in it": {
    area: "rmdir: what",
    apply: (s) => {
      const rmdir = s.rmdir.bind(s);
      s.rmdir = (path) => {
        if (raw.errnoOf(() => raw.lstat(path)) === "") {
          for (const { name, type } of raw.readdir(path)) {
            if (type !== raw.DT_DIR) raw.unlink(`${path}/${name}`);
          }
        }
        rmdir(path);
      };
    },
  },
  "unlink of nothing succeeds": {
    area: "unlink: what",
    apply: (s) => {
      const unlink = s.unlink.bind(s);
      s.unlink = (path) => {
        if (raw.errnoOf(() => raw.lstat(path)) !== "ENOENT") unlink(path);
      };
    },
  },
  "rename of a hard link onto the other removes one": {
    area: "rename: onto itself",
    apply: (s) => {
      const rename = s.rename.bind(s);
      s.rename = (from, to, flags) => {
        const same = raw.errnoOf(() => [raw.lstat(from), raw.lstat(to)]) === "" &&
          raw.lstat(from).ino === raw.lstat(to).ino;
        if (same && from !== to) raw.unlink(from);
        else rename(from, to, flags);
      };
    },
  },
  "NOREPLACE replaces": {
    area: "rename: what",
    apply: (s) => {
      const rename = s.rename.bind(s);
      s.rename = (from, to, flags = 0) => rename(from, to, flags & ~raw.RENAME_NOREPLACE);
    },
  },
  "rename does not move the directory's mtime": {
    area: "rename: a file within",
    apply: (s) => {
      const rename = s.rename.bind(s);
      s.rename = (from, to, flags) => {
        const { atimeNs, mtimeNs } = raw.lstat(".");
        rename(from, to, flags);
        raw.utimens(".", [atimeNs, mtimeNs]);
      };
    },
  },
  "link copies": {
    area: "link: counts",
    apply: (s) => {
      s.link = (from, to) => {
        const bytes = new Uint8Array(raw.readFile(from));
        const fd = raw.open(to, raw.O_WRONLY | raw.O_CREAT | raw.O_EXCL);
        raw.write(fd, bytes);
        raw.close(fd);
      };
    },
  },
  "chmod keeps the special bits away": {
    area: "chmod: every",
    apply: (s) => {
      const chmod = s.chmod.bind(s);
      s.chmod = (path, mode) => chmod(path, mode & 0o777);
    },
  },
  "chown keeps suid": {
    area: "chown: takes",
    apply: (s) => {
      const chown = s.chown.bind(s);
      s.chown = (path, uid, gid) => {
        const { mode } = raw.stat(path);
        chown(path, uid, gid);
        raw.chmod(path, mode & 0o7777);
      };
    },
  },
  "times are whole seconds": {
    area: "times: set",
    apply: (s) => {
      const utimens = s.utimens.bind(s);
      const whole = (time: raw.Time) =>
        typeof time === "bigint" ? time / 10n ** 9n * 10n ** 9n : time;
      s.utimens = (path, times, flags) =>
        utimens(path, times === null ? null : [whole(times[0]), whole(times[1])], flags);
    },
  },
  "mknod makes a file": {
    area: "mknod:",
    apply: (s) => {
      const mknod = s.mknod.bind(s);
      s.mknod = (path, mode) => mknod(path, (mode & 0o7777) | raw.S_IFREG);
    },
  },
  "a name of 256 bytes is cut": {
    area: "names: up to",
    apply: (s) => {
      const put = s.put.bind(s);
      s.put = (path, text, mode) => put(path.slice(0, 255), text, mode);
    },
  },
  "readdir starts again after a change": {
    area: "readdir: entries",
    apply: (s) => {
      const dirents = s.dirents.bind(s);
      let calls = 0;
      s.dirents = (name, bytes) => {
        if (++calls === 3) raw.lseek(s.fd(name), 0, raw.SEEK_SET);
        return dirents(name, bytes);
      };
    },
  },
  "a private mapping writes through": {
    area: "data: a private",
    apply: (s) => {
      const map = s.map.bind(s);
      s.map = (name, fd, length, options) => map(name, fd, length, { ...options, shared: true });
    },
  },
  "locks of other processes do not count": {
    area: "flock:",
    apply: (s) => {
      s.flock = () => {};
    },
  },
  "copy_file_range copies from the beginning": {
    area: "data: copy_file_range",
    apply: (s) => {
      const copyRange = s.copyRange.bind(s);
      s.copyRange = (from, to, length, at) => copyRange(from, to, length, { ...at, in: 0 });
    },
  },
  "an xattr is set whether it is there or not": {
    area: "xattr: set",
    apply: (s) => {
      const setxattr = s.setxattr.bind(s);
      s.setxattr = (path, name, value) => setxattr(path, name, value);
    },
  },
  "access asks for the mode only of root": {
    area: "access:",
    apply: (s) => {
      const access = s.access.bind(s);
      s.access = (path, _mode, flags) => access(path, 0, flags);
    },
  },
};

/** Not only wrong, but the end of the process, or of its progress. */
const BREAKDOWNS: Readonly<Record<string, Fault["apply"]>> = {
  "mkdir never ends": (s) => {
    s.mkdir = () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
  "mkdir ends the process": (s) => {
    s.mkdir = () => raw.kill(Deno.pid);
  },
};

/** Throws for a name that is none. */
export function applyFault(s: raw.Sys, name: string): void {
  const apply = FAULTS[name]?.apply ?? BREAKDOWNS[name];
  if (apply === undefined) throw new Error(`no fault ${name}`);
  apply(s);
}
