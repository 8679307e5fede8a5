# syntax=docker/dockerfile:1
# Wasmill, and the order pipeline that ships with it, without a shell or a package manager, as a user without rights.
#
#   docker build -t wasmill .
#   docker build --target components --output components .      # only the components, into components/ here
#
# deploy/README.md says how to run it.

# Rust's version is rust-toolchain.toml's. That file itself is not copied: rustup would fetch clippy and rustfmt for it.
# Debian's release, trixie (13), must be the last stage's: from there come glibc, libssl, libcrypto, libz and libgcc_s.
FROM rust:1.95.0-slim-trixie AS build
# The release's newest, which is what the last stage has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add wasm32-wasip2
WORKDIR /src
COPY . .
# The caches are on the machine that builds, one for each architecture, and in no layer: what is to stay is copied out.
ARG TARGETARCH
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=wasmill-target-${TARGETARCH},sharing=locked \
    cargo build --release --locked -p wasmill \
    && cargo build --release --locked --target wasm32-wasip2 \
        -p order-formatter -p transaction-processor -p email-composer \
    && mkdir -p /out/components /out/state \
    && cp target/release/wasmill /out/ \
    && cp target/wasm32-wasip2/release/order_formatter.wasm /out/components/order-formatter.wasm \
    && cp target/wasm32-wasip2/release/transaction_processor.wasm /out/components/transaction-processor.wasm \
    && cp target/wasm32-wasip2/release/email_composer.wasm /out/components/email-composer.wasm

FROM scratch AS components
COPY --from=build /out/components/ /

FROM gcr.io/distroless/cc-debian13:nonroot
LABEL org.opencontainers.image.title="Wasmill" \
      org.opencontainers.image.description="Runs sandboxed WebAssembly components as handlers of Kafka events, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/wasmill /usr/local/bin/wasmill
# The pipeline's folder. Mount another one over it, or parts of one: the host takes up what changes in there.
WORKDIR /app
COPY pipeline.toml ./
COPY schemas/ schemas/
COPY --from=build /out/components/ components/
# All that the host writes, compiled code and the versions to roll back to: a volume, or a tmpfs, where the root is
# read-only. A new named volume takes its owner from here. Without any of these the host says so, and runs.
COPY --from=build --chown=65532:65532 /out/state/ /state/
# All interfaces: from outside the container nothing is loopback. For the same reason /admin refuses whoever isn't in the
# container, until WASMILL_ADMIN_TOKEN is set.
ENV WASMILL_LISTEN=0.0.0.0:8080 \
    WASMILL_LOG_FORMAT=json \
    WASMILL_STATE=/state
# By number, or Kubernetes could not tell that it isn't root.
USER 65532:65532
# Fails the build if a shared library is missing, or the pipeline and its components don't fit each other.
RUN ["/usr/local/bin/wasmill", "check"]
EXPOSE 8080
# No HEALTHCHECK: a pipeline needn't listen at all. compose.yaml and deploy/kubernetes have theirs.
ENTRYPOINT ["/usr/local/bin/wasmill"]
CMD ["run"]
