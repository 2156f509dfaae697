/** Which repository a verb means. */

import type { Selector } from "../control/api.ts";

export interface Selection {
  /** A directory within the mount will do. */
  readonly inside: boolean;
}

interface Table<T> {
  by(column: "name" | "mountPoint", value: string): T | null;
  all(): readonly T[];
}

/** Null: there is none. */
export function selectedOf<T extends { readonly mountPoint: string }>(
  table: Table<T>,
  selector: Selector,
  { inside }: Selection = { inside: false },
): T | null {
  if (selector.by === "name") return table.by("name", selector.name);
  const { dir } = selector;
  const at = table.by("mountPoint", dir);
  if (at !== null || !inside) return at;
  return table.all().find(({ mountPoint }) => dir.startsWith(`${mountPoint}/`)) ?? null;
}
