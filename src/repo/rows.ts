/** Objects as rows of the registry: SQLite has no booleans. */

type Value = string | number | null;

/** Columns that are true or false. */
const BOOLEANS: ReadonlySet<string> = new Set([
  "xattrs",
  "readOnly",
  "preparedGitDir",
  "singleBranch",
]);

export function valuesOf<C extends string>(
  object: Readonly<Record<C, Value | boolean>>,
  columns: readonly C[],
): Value[] {
  return columns.map((column) => {
    const value: Value | boolean = object[column];
    return typeof value === "boolean" ? Number(value) : value;
  });
}

export function objectOf(
  row: Readonly<Record<string, unknown>>,
  columns: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(
    columns.map((column) => [column, BOOLEANS.has(column) ? row[column] === 1 : row[column]]),
  );
}
