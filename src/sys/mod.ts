/** libc by FFI. Nothing outside this folder calls C. */

export * from "./datagram.ts";
export * from "./fd.ts";
export * from "./file.ts";
export * from "./mount.ts";
export * from "./process.ts";
