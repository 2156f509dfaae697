# A container that mounts a repository and runs a command in it (container/entrypoint.sh).
#
#     sh scripts/build
#     docker build -t afs .
#     docker run --rm --cap-add SYS_ADMIN --device /dev/fuse -e REPO_WAIT=history \
#       afs git log --oneline -5
#
# Any base with apt-get will do. docs/deployment.md has more.
ARG BASE=debian:stable-slim
FROM ${BASE}

RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates git openssh-client \
  && rm -rf /var/lib/apt/lists/*

COPY dist/afs /usr/local/bin/afs
COPY container/entrypoint.sh /usr/local/bin/afs-entrypoint

ENV REPO_REMOTE_URL=https://github.com/cloudflare/workers-sdk.git \
  REPO_REF= \
  REPO_WAIT= \
  REPO_NAME=repo \
  MOUNT_ROOT=/mnt \
  ARTIFACT_FS_ROOT=/var/lib/artifact-fs

ENTRYPOINT ["/usr/local/bin/afs-entrypoint"]
