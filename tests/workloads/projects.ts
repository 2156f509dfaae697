/**
 * Projects that build without a network, as files of a commit. Each is made by rule, so that two
 * calls give the same bytes.
 */

/** Path in the repository to content. */
export type Files = Map<string, string>;

export const C_SOURCES = 60;
export const C_HEADERS = 20;

/** Two headers a source: its own, and one that others share. */
function headersOf(source: number): number[] {
  return [...new Set([source % C_HEADERS, (source * 7 + 3) % C_HEADERS])];
}

/** The objects that `make` has to build again after a change of this header, sorted. */
export function dependentsOf(header: number): string[] {
  const objects: string[] = [];
  for (let i = 0; i < C_SOURCES; i++) {
    if (headersOf(i).includes(header)) objects.push(`obj/unit_${i}.o`);
  }
  return objects.toSorted();
}

/** 60 sources, 20 headers, and a Makefile that says who includes whom. */
export function cProject(folder: string): Files {
  const files: Files = new Map();
  for (let i = 0; i < C_HEADERS; i++) {
    const text =
      `#ifndef H${i}\n#define H${i}\nstatic inline int h${i}(int x) { return x + ${i}; }\n`;
    files.set(`${folder}/include/h_${i}.h`, `${text}#endif\n`);
  }
  let rules = "";
  for (let i = 0; i < C_SOURCES; i++) {
    const headers = headersOf(i);
    const includes = headers.map((h) => `#include "h_${h}.h"\n`).join("");
    const sum = headers.map((h) => `h${h}(x)`).join(" + ");
    files.set(`${folder}/src/unit_${i}.c`, `${includes}int unit_${i}(int x) { return ${sum}; }\n`);
    const needs = headers.map((h) => `include/h_${h}.h`).join(" ");
    rules += `obj/unit_${i}.o: src/unit_${i}.c ${needs}\n`;
  }
  const units = Array.from({ length: C_SOURCES }, (_, i) => i);
  files.set(
    `${folder}/src/main.c`,
    `#include <stdio.h>\n${units.map((i) => `int unit_${i}(int);\n`).join("")}` +
      `int main(void) {\n  int sum = 0;\n${
        units.map((i) => `  sum += unit_${i}(${i});\n`).join("")
      }` +
      `  printf("%d\\n", sum);\n  return 0;\n}\n`,
  );
  files.set(
    `${folder}/Makefile`,
    `OBJECTS = obj/main.o ${units.map((i) => `obj/unit_${i}.o`).join(" ")}\n` +
      `program: libunits.a obj/main.o\n\t$(CC) -o $@ obj/main.o -L. -lunits\n` +
      `libunits.a: $(filter-out obj/main.o,$(OBJECTS))\n\trm -f $@; $(AR) rcD $@ $^\n` +
      `obj/%.o: src/%.c\n\t@mkdir -p obj\n\t$(CC) -Iinclude -O1 -c -o $@ $<\n${rules}` +
      `obj/main.o: src/main.c\nclean:\n\trm -rf obj libunits.a program\n`,
  );
  return files;
}

/** What the program of `cProject` prints. */
export function cOutput(): string {
  let sum = 0;
  for (let i = 0; i < C_SOURCES; i++) for (const h of headersOf(i)) sum += i + h;
  return `${sum}\n`;
}

/** A package with 12 packages beside it, each of 10 modules. */
export function npmProject(folder: string): Files {
  const files: Files = new Map();
  const names = Array.from({ length: 12 }, (_, i) => `part-${i}`);
  for (const name of names) {
    const manifest = { name, version: "1.0.0", main: "index.js", bin: { [name]: "bin.js" } };
    files.set(`${folder}/packages/${name}/package.json`, JSON.stringify(manifest, null, 2) + "\n");
    files.set(
      `${folder}/packages/${name}/bin.js`,
      `#!/usr/bin/env node\nconsole.log("${name}");\n`,
    );
    let index = "let sum = 0;\n";
    for (let i = 0; i < 10; i++) {
      files.set(`${folder}/packages/${name}/lib/m${i}.js`, `module.exports = ${i};\n`);
      index += `sum += require("./lib/m${i}.js");\n`;
    }
    files.set(`${folder}/packages/${name}/index.js`, `${index}module.exports = sum;\n`);
  }
  const dependencies = Object.fromEntries(names.map((name) => [name, `file:packages/${name}`]));
  const manifest = { name: "whole", version: "1.0.0", private: true, dependencies };
  files.set(`${folder}/package.json`, JSON.stringify(manifest, null, 2) + "\n");
  const sum = names.map((name) => `require("${name}")`).join(" + ");
  files.set(`${folder}/index.js`, `console.log(${sum});\n`);
  return files;
}

/** A workspace of six libraries, each on top of the one before, and a program. */
export function cargoProject(folder: string): Files {
  const files: Files = new Map();
  const members: string[] = [];
  for (let i = 0; i < 6; i++) {
    members.push(`lib${i}`);
    const below = i === 0 ? "" : `lib${i - 1} = { path = "../lib${i - 1}" }\n`;
    files.set(`${folder}/lib${i}/Cargo.toml`, cargoManifest(`lib${i}`, below));
    const body = i === 0 ? "1" : `1 + lib${i - 1}::depth()`;
    files.set(`${folder}/lib${i}/src/lib.rs`, `pub fn depth() -> u32 {\n    ${body}\n}\n`);
  }
  members.push("program");
  files.set(
    `${folder}/program/Cargo.toml`,
    cargoManifest("program", `lib5 = { path = "../lib5" }\n`),
  );
  files.set(
    `${folder}/program/src/main.rs`,
    `fn main() {\n    println!("{}", lib5::depth());\n}\n`,
  );
  const quoted = members.map((name) => `"${name}"`).join(", ");
  files.set(`${folder}/Cargo.toml`, `[workspace]\nresolver = "2"\nmembers = [${quoted}]\n`);
  return files;
}

const cargoManifest = (name: string, dependencies: string) =>
  `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n${dependencies}`;

/** A module of ten packages and a program. */
export function goProject(folder: string): Files {
  const files: Files = new Map([[`${folder}/go.mod`, "module example.com/whole\n\ngo 1.19\n"]]);
  const names = Array.from({ length: 10 }, (_, i) => `part${i}`);
  names.forEach((name, i) =>
    files.set(
      `${folder}/${name}/${name}.go`,
      `package ${name}\n\nfunc Value() int { return ${i} }\n`,
    )
  );
  const imports = names.map((name) => `\t"example.com/whole/${name}"\n`).join("");
  const sum = names.map((name) => `${name}.Value()`).join(" + ");
  files.set(
    `${folder}/main.go`,
    `package main\n\nimport (\n${imports})\n\nfunc main() { println(${sum}) }\n`,
  );
  return files;
}
