/** Processes and their memory, from /proc. */

const PAGES = ["Pss", "Pss_Anon", "Pss_File", "Pss_Shmem"] as const;

/** MiB. Shared pages count for each process by its share. */
export interface Memory {
  readonly pss: number;
  /** Nothing but swap could take it back; shared memory is in it. */
  readonly anon: number;
  /** Mapped files: programs, libraries, packs. */
  readonly file: number;
}

/** A process with its children. */
export interface TreeMemory {
  readonly all: Memory;
  /** What the children alone have. */
  readonly children: Memory;
  readonly processCount: number;
}

function readProc(path: string): string | null {
  try {
    return Deno.readTextFileSync(`/proc/${path}`);
  } catch {
    return null; // it has ended
  }
}

/** All below a process, itself left out. Those below `except` are left out with it. */
export function descendants(pid: number, except: ReadonlySet<number> = new Set()): number[] {
  const children = new Map<number, number[]>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readProc(`${name}/stat`);
    if (stat === null) continue;
    // The name in parentheses may hold anything.
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [Number(name)]);
    else siblings.push(Number(name));
  }
  const found: number[] = [];
  const queue = [pid];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    for (const child of children.get(next) ?? []) {
      if (except.has(child)) continue;
      found.push(child);
      queue.push(child);
    }
  }
  return found;
}

function memoryOf(pid: number): Memory | null {
  const text = readProc(`${pid}/smaps_rollup`);
  if (text === null || text === "") return null;
  const [pss, anon, file, shmem] = PAGES.map((name) => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text);
    return Number(match?.[1] ?? 0) / 1024;
  });
  return { pss: pss ?? 0, anon: (anon ?? 0) + (shmem ?? 0), file: file ?? 0 };
}

const plus = (a: Memory, b: Memory): Memory => ({
  pss: a.pss + b.pss,
  anon: a.anon + b.anon,
  file: a.file + b.file,
});
const NOTHING: Memory = { pss: 0, anon: 0, file: 0 };
const most = (a: Memory, b: Memory): Memory => ({
  pss: Math.max(a.pss, b.pss),
  anon: Math.max(a.anon, b.anon),
  file: Math.max(a.file, b.file),
});

/** Throws when the process is gone. */
export function treeMemory(pid: number): TreeMemory {
  const own = memoryOf(pid);
  if (own === null) throw new Error(`Process ${pid} has ended`);
  const parts = descendants(pid).map(memoryOf).filter((memory) => memory !== null);
  const children = parts.reduce(plus, NOTHING);
  return { all: plus(own, children), children, processCount: 1 + parts.length };
}

/** Runs `body` and returns the maximum of each part while it ran, from a look every `everyMs`. */
export async function peakMemory(
  pid: number,
  body: () => Promise<unknown>,
  everyMs = 20,
): Promise<TreeMemory> {
  let peak = treeMemory(pid);
  const timer = setInterval(() => {
    try {
      const now = treeMemory(pid);
      peak = {
        all: most(peak.all, now.all),
        children: most(peak.children, now.children),
        processCount: Math.max(peak.processCount, now.processCount),
      };
    } catch {
      // It has ended: `body` fails, and says so better.
    }
  }, everyMs);
  try {
    await body();
  } finally {
    clearInterval(timer);
  }
  return peak;
}
