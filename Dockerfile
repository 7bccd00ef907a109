# syntax=docker/dockerfile:1

# One image for every part: `borealis core`, `borealis transport`, and the tools. NATS is not in it: run the official
# image beside it (2.11 or newer), and name it with BOREALIS_NATS_URL.

ARG NODE_IMAGE=node:20-bookworm-slim

FROM ${NODE_IMAGE} AS build
# Where uWebSockets.js comes from. Empty: the package of the lock file. Upstream's own distribution is a git tag, such as
# `github:uNetworking/uWebSockets.js#v20.52.0`; from about v20.53 it needs glibc 2.38, from v20.67 Node 22, so choose
# NODE_IMAGE to match (for example node:22-trixie-slim).
ARG UWS_SOURCE=""
WORKDIR /build
# git is what npm needs for a source that is a git tag.
RUN if [ -n "$UWS_SOURCE" ]; then \
      apt-get update && apt-get install -y --no-install-recommends ca-certificates git && rm -rf /var/lib/apt/lists/*; \
    fi
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund --include=dev
COPY tsconfig.json ./
COPY scripts scripts
COPY protocol protocol
COPY src src
RUN node scripts/build.mjs
# What runs has no use for compilers and test tools.
RUN npm prune --no-save --no-audit --no-fund --omit=dev \
  && if [ -n "$UWS_SOURCE" ]; then \
       npm install --no-save --no-audit --no-fund --omit=dev "uWebSockets.js@$UWS_SOURCE"; \
     fi \
  # It falls back to a slow JavaScript server in silence where its binary does not load: find out now.
  && node --input-type=module -e "import uWS from 'uWebSockets.js'; if (!uWS.SSLApp) process.exit(1)"

FROM ${NODE_IMAGE} AS run
# tini is process 1: it passes signals on and reaps the transport's workers.
RUN apt-get update \
  && apt-get install -y --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* \
  && install -d -o node -g node -m 0700 /var/lib/borealis /var/lib/borealis-transport
WORKDIR /app
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
# The keyring is made once, by `keyring init` (docs/operate/keys.md); a transport needs its extract only.
ENV NODE_ENV=production \
    BOREALIS_KEYRING_FILE=/var/lib/borealis/keyring.json \
    BOREALIS_KEYRING_TRANSPORT_FILE=/var/lib/borealis-transport/keys.json \
    BOREALIS_HTTP_HOST=0.0.0.0 \
    BOREALIS_LOG_FORMAT=json
USER node
VOLUME ["/var/lib/borealis", "/var/lib/borealis-transport"]
# 8080: the HTTP API of a core. 7700: devices, of a transport.
EXPOSE 8080 7700
# One question for both parts: it asks whichever of the two listens here.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "dist/src/cli.js", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "node", "dist/src/cli.js"]
CMD ["core"]
