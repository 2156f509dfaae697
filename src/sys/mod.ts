/** libc by FFI. Nothing outside this folder calls C. */

export * from "./beneath.ts";
export * from "./datagram.ts";
export * from "./fd.ts";
export * from "./file.ts";
export { findProgram } from "./helper.ts";
export { FUSERMOUNT } from "./fusermount.ts";
export * from "./mount.ts";
export * from "./process.ts";
