/**
 * What a checkout does to a file's bytes (git: convert.c), as a small normal form that follows from
 * the path's attributes and the configuration. Two files with the same blob and the same form have
 * the same bytes.
 *
 * - `eol`: line feeds become CRLF, in every file ("text") or in what git takes for text ("auto").
 *   The other direction does not exist: on this system no checkout makes LF of CRLF.
 * - `ident`: `$Id$` is filled in.
 * - `encoding`: working-tree-encoding; UTF-8 is none.
 * - `filter`: a driver that the owner's configuration has. With it goes the path, since a driver is
 *   told it and may depend on it. What only the repository names is no driver (git never reads one
 *   from a tree).
 */

import { createHash } from "node:crypto";
import { type Suffix, SUFFIX_BYTES } from "./base_id.ts";

/** Attributes that matter, in the order in which they are asked for. */
export const ATTRIBUTES = [
  "text",
  "crlf",
  "eol",
  "ident",
  "working-tree-encoding",
  "filter",
] as const;

/** As `git check-attr` prints them: a value, or one of `set`, `unset`, `unspecified`. */
export type Attributes = Readonly<Record<(typeof ATTRIBUTES)[number], string>>;

/** What the configuration says. */
export interface ConversionConfig {
  readonly autocrlf: "true" | "input" | "false";
  /** core.eol; on this system `native` and nothing are the same. */
  readonly eol: "crlf" | "lf";
  /** Drivers that make something of a file at a checkout. */
  readonly filters: ReadonlySet<string>;
}

export interface Conversion {
  readonly eol: "text" | "auto" | null;
  readonly ident: boolean;
  readonly encoding: string | null;
  readonly filter: { readonly name: string; readonly path: string } | null;
}

/** convert_attrs of git. `path` is bytes. Null: as it lies in the repository. */
export function conversionOf(
  path: string,
  attributes: Attributes,
  config: ConversionConfig,
): Conversion | null {
  const eol = eolOf(attributes, config);
  const ident = attributes.ident === "set";
  const encoding = encodingOf(attributes["working-tree-encoding"]);
  const filter = config.filters.has(attributes.filter) ? { name: attributes.filter, path } : null;
  if (eol === null && !ident && encoding === null && filter === null) return null;
  return { eol, ident, encoding, filter };
}

type Crlf = "undefined" | "binary" | "text" | "input" | "auto";

/** git_path_check_crlf. */
function crlfOf(value: string): Crlf {
  switch (value) {
    case "set":
      return "text";
    case "unset":
      return "binary";
    case "input":
      return "input";
    case "auto":
      return "auto";
    default:
      return "undefined";
  }
}

function eolOf(attributes: Attributes, { autocrlf, eol }: ConversionConfig): Conversion["eol"] {
  const text = crlfOf(attributes.text);
  const crlf = text === "undefined" ? crlfOf(attributes.crlf) : text;
  if (crlf === "binary") return null;
  if (attributes.eol === "lf") return null;
  if (attributes.eol === "crlf") return crlf === "auto" ? "auto" : "text";
  // text_eol_is_crlf
  const isCrlf = autocrlf === "true" || (autocrlf === "false" && eol === "crlf");
  switch (crlf) {
    case "input":
      return null;
    case "text":
      return isCrlf ? "text" : null;
    case "auto":
      return isCrlf ? "auto" : null;
    case "undefined":
      return autocrlf === "true" ? "auto" : null;
  }
}

/** git_path_check_encoding; of `set` and `unset` git says that they are wrong. */
function encodingOf(value: string): string | null {
  if (value === "unspecified" || value === "set" || value === "unset" || value === "") return null;
  // same_encoding: case, and with or without the dash.
  return /^utf-?8$/i.test(value) ? null : value;
}

/** The form as text, which says nothing else and everything. */
export function formOf({ eol, ident, encoding, filter }: Conversion): string {
  return JSON.stringify([eol, ident, encoding, filter?.name ?? null, filter?.path ?? null]);
}

export function conversionOfForm(form: string): Conversion {
  const [eol, ident, encoding, name, path] = JSON.parse(form) as [
    Conversion["eol"],
    boolean,
    string | null,
    string | null,
    string | null,
  ];
  return { eol, ident, encoding, filter: name === null ? null : { name, path: path ?? "" } };
}

/** Of a file with this form. */
export function suffixOfForm(form: string): Suffix {
  return digest("conversion", form);
}

/** `text` is bytes. */
export function digest(kind: "conversion" | "context", text: string): Suffix {
  const hash = createHash("sha256").update(`${kind}\0`).update(text, "latin1");
  return hash.digest("hex").slice(0, 2 * SUFFIX_BYTES) as Suffix;
}

/**
 * A line of an attributes file that gives a file, whatever its name, this conversion and no other:
 * each attribute is said, so that no other file of attributes has a say. Values are words: they
 * came from such a line.
 */
export function attributesLine({ eol, ident, encoding, filter }: Conversion): string {
  return [
    "*",
    "!crlf",
    ...(eol === null ? ["-text", "!eol"] : [eol === "text" ? "text" : "text=auto", "eol=crlf"]),
    ident ? "ident" : "-ident",
    encoding === null ? "!working-tree-encoding" : `working-tree-encoding=${encoding}`,
    filter === null ? "-filter" : `filter=${filter.name}`,
  ].join(" ") + "\n";
}
