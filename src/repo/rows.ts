/** Objects as rows of the registry: SQLite has no booleans. */

import type { Database } from "../db/mod.ts";

type Value = string | number | null;
type Fields<C extends string> = Readonly<Record<C, Value | boolean>>;

/** Columns that are true or false. */
const BOOLEANS: ReadonlySet<string> = new Set([
  "xattrs",
  "readOnly",
  "preparedGitDir",
  "singleBranch",
]);

/** Throws what SQLite says. */
export function insertRow<C extends string>(
  db: Database,
  table: string,
  columns: readonly C[],
  object: Fields<C>,
): void {
  db.prepare(
    `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
  ).run(...columns.map((column) => valueOf(object[column])));
}

/** Whether there is such a row; null: nothing is to change. */
export function updateRow<C extends string>(
  db: Database,
  table: string,
  columns: readonly C[],
  id: string,
  changes: Partial<Fields<C>>,
): boolean | null {
  const keys = columns.filter((key) => changes[key] !== undefined);
  if (keys.length === 0) return null;
  const { changes: count } = db.prepare(
    `UPDATE ${table} SET ${keys.map((key) => `${key} = ?`).join(", ")} WHERE id = ?`,
  ).run(...keys.map((key) => valueOf(changes[key] as Value | boolean)), id);
  return Number(count) > 0;
}

function valueOf(value: Value | boolean): Value {
  return typeof value === "boolean" ? Number(value) : value;
}

export function objectOf(
  row: Readonly<Record<string, unknown>>,
  columns: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(
    columns.map((column) => [column, BOOLEANS.has(column) ? row[column] === 1 : row[column]]),
  );
}
