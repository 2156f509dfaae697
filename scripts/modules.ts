/**
 * What a TypeScript file refers to, found by reading its tokens. Shared by check_layers.ts and
 * tidy.ts, which must also work on trees that do not compile.
 */

export type ReferenceKind =
  /** `import x from`, `import "x"`, `export ... from`. */
  | "static"
  /** `import("x")`. */
  | "dynamic"
  /** Erased before the program runs: `import type`, `export type`, `typeof import("x")`. */
  | "type"
  /** `new URL("x", import.meta.url)`, `import.meta.resolve("x")`: loaded, but not as part of us. */
  | "url";

export interface Reference {
  readonly kind: ReferenceKind;
  readonly specifier: string;
  readonly line: number;
}

export interface Token {
  readonly kind: "word" | "string" | "template" | "regex" | "number" | "punct";
  /** For a string what lies between its quotes, else the source text. */
  readonly text: string;
  readonly line: number;
}

/** After these a slash starts a regular expression, as after most punctuation. */
const BEFORE_EXPRESSION = new Set(
  "return typeof instanceof in of new delete void throw case do else await yield".split(" "),
);

/** Tokens without comments. Text inside a template is skipped, code inside `${}` is not. */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  // Depth of braces at which each open `${` ends.
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  let line = 1;

  const push = (kind: Token["kind"], text: string) => tokens.push({ kind, text, line });
  const take = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const text = pattern.exec(source)?.[0] ?? "";
    at += text.length;
    return text;
  };
  const countLines = (text: string) => line += text.split("\n").length - 1;

  const expressionMayStart = () => {
    const last = tokens.at(-1);
    if (last === undefined) return true;
    if (last.kind === "word") return BEFORE_EXPRESSION.has(last.text);
    return last.kind === "punct" && ![")", "]", "}"].includes(last.text);
  };
  /** Text of a template up to its end or to the next `${`. */
  const templateText = () => {
    const text = take(/(?:\\[\s\S]|\$(?!\{)|[^\\`$])*(?:`|\$\{|$)/y);
    push("template", text);
    countLines(text);
    if (text.endsWith("${")) templates.push(depth);
  };

  while (at < source.length) {
    const char = source[at]!;
    const two = source.slice(at, at + 2);
    if (char === "\n") {
      line++;
      at++;
    } else if (/\s/.test(char)) {
      at++;
    } else if (two === "//" || (at === 0 && two === "#!")) {
      take(/[^\n]*/y);
    } else if (two === "/*") {
      countLines(take(/\/\*[\s\S]*?(?:\*\/|$)/y));
    } else if (char === '"' || char === "'") {
      const text = take(char === '"' ? /"(?:\\[\s\S]|[^"\\\n])*"?/y : /'(?:\\[\s\S]|[^'\\\n])*'?/y);
      push("string", text.slice(1, -1));
      countLines(text);
    } else if (char === "`") {
      at++;
      templateText();
    } else if (char === "}" && templates.at(-1) === depth) {
      templates.pop();
      at++;
      templateText();
    } else if (char === "/" && expressionMayStart()) {
      push("regex", take(/\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/?\w*/y));
    } else if (/[\p{ID_Start}$_#@]/u.test(char)) {
      push("word", take(/[\p{ID_Start}$_#@][\p{ID_Continue}$\u200c\u200d]*/uy));
    } else if (/\d/.test(char)) {
      push("number", take(/[\w.]+/y));
    } else {
      if (char === "{") depth++;
      if (char === "}") depth--;
      push("punct", char);
      at++;
    }
  }
  return tokens;
}

/** Every module a source refers to, in order. */
export function references(source: string): Reference[] {
  const tokens = tokenize(source);
  const found: Reference[] = [];
  const text = (i: number) => {
    const token = tokens[i];
    return token === undefined || token.kind === "string" ? undefined : token.text;
  };
  const add = (kind: ReferenceKind, i: number) => {
    const token = tokens[i];
    if (token?.kind === "string") {
      found.push({ kind, specifier: token.text, line: token.line });
    }
  };

  for (let i = 0; i < tokens.length; i++) {
    const previous = text(i - 1);
    if (tokens[i]!.kind !== "word" || previous === ".") continue;
    switch (text(i)) {
      case "import":
        if (tokens[i + 1]?.kind === "string") add("static", i + 1);
        else if (text(i + 1) === "(") add(previous === "typeof" ? "type" : "dynamic", i + 2);
        else if (text(i + 1) === ".") {
          const isResolve = text(i + 2) === "meta" && text(i + 4) === "resolve";
          if (isResolve && text(i + 5) === "(") add("url", i + 6);
        } else addClause(i + 1);
        break;
      case "export":
        if (["*", "{"].includes(text(i + 1) ?? "")) addClause(i + 1);
        else if (text(i + 1) === "type" && ["*", "{"].includes(text(i + 2) ?? "")) addClause(i + 1);
        break;
      case "URL":
        if (text(i + 1) === "(" && text(i + 3) === "," && text(i + 4) === "import") {
          add("url", i + 2);
        }
        break;
    }
  }
  return found;

  /** What stands between `import` or `export` and `from "x"`, if that follows at all. */
  function addClause(start: number) {
    let isType = text(start) === "type" && text(start + 1) !== "from" && text(start + 1) !== ",";
    let i = start;
    // `{ type A, type B }` is erased as a whole, `{}` is not.
    let [names, types, outside] = [0, 0, false];
    while (i < tokens.length && !(text(i) === "from" && tokens[i + 1]?.kind === "string")) {
      if (text(i) === ";" || text(i) === "=" || text(i) === "(") return;
      if (text(i) === "{") {
        for (i++; i < tokens.length && text(i) !== "}"; i++) {
          const starts = ["{", ","].includes(text(i - 1) ?? "");
          if (starts) names++;
          if (starts && text(i) === "type" && ![",", "}", "as"].includes(text(i + 1) ?? "")) {
            types++;
          }
        }
        // The end of an `export { a }` without `from`.
        if (text(i + 1) !== "from" && text(i + 1) !== "with") return;
      } else if (i > start || !isType) outside = true;
      i++;
    }
    isType ||= !outside && names > 0 && names === types;
    add(isType ? "type" : "static", i + 1);
  }
}

/**
 * The path `specifier` means in the file at `path`, both relative to the top of the tree; undefined
 * for what is no file of the tree.
 */
export function resolve(path: string, specifier: string): string | undefined {
  if (!/^\.\.?\//.test(specifier)) return undefined;
  const parts = path.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") {
      if (parts.pop() === undefined) return undefined;
    } else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

/** Source text by path relative to the top of the tree, in order of path. */
export type Tree = ReadonlyMap<string, string>;

/** Reads every TypeScript file in the given files and folders below `root`. */
export function readTree(root: string, names: readonly string[]): Tree {
  const paths: string[] = [];
  const walk = (path: string) => {
    for (const entry of Deno.readDirSync(`${root}/${path}`)) {
      const child = `${path}/${entry.name}`;
      if (entry.isDirectory) walk(child);
      else if (entry.isFile && entry.name.endsWith(".ts")) paths.push(child);
    }
  };
  for (const name of names) {
    try {
      if (Deno.statSync(`${root}/${name}`).isDirectory) walk(name);
      else paths.push(name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return new Map(paths.sort().map((path) => [path, Deno.readTextFileSync(`${root}/${path}`)]));
}
