# `just` lists the recipes; `just up` runs the example; `just ci` is exactly what CI runs.

set shell := ["bash", "-euo", "pipefail", "-c"]

components := "order-formatter transaction-processor email-composer"
wasm := "target/wasm32-wasip2/release"

[private]
default:
    @just --list --unsorted

# Build everything and run the order pipeline, on the brokers of pipeline.toml (embedded); `just up kafka`: on `just kafka`
up *args:
    #!/usr/bin/env bash
    set -euo pipefail
    args=({{ args }})
    case "${args[0]:-}" in
        # Of several --brokers the last one counts: the caller's.
        kafka) args=(--brokers 127.0.0.1:9092 "${args[@]:1}") ;;
        embedded) args=(--brokers embedded "${args[@]:1}") ;;
        "" | -*) ;;
        *) echo "just up takes 'kafka' or 'embedded', and what \`wasmill run\` takes; not '${args[0]}'" >&2; exit 2 ;;
    esac
    just build
    exec target/release/wasmill run "${args[@]}"

# Run the pipeline, and swap in each component a moment after its source is saved; takes what `wasmill run` takes
dev *args: preflight
    cargo build --release --locked -p wasmill
    target/release/wasmill dev {{ args }}

# Build the host and the components
build: preflight
    cargo build --release --locked -p wasmill
    @just components

# Build the components and drop them into components/, where the host looks
components: toolchain
    #!/usr/bin/env bash
    set -euo pipefail
    packages=(); for name in {{ components }}; do packages+=(-p "$name"); done
    cargo build --release --locked --target wasm32-wasip2 "${packages[@]}"
    for name in {{ components }}; do
        # Renamed into place, so that nobody ever reads half a file.
        cp "{{ wasm }}/${name//-/_}.wasm" "components/.$name.wasm.new"
        mv "components/.$name.wasm.new" "components/$name.wasm"
    done

# Every test: pure, simulated, and on a real Apache Kafka, SMTP server and components
test: preflight test-preflight
    # Two steps, as `build` takes them: with the components in one selection, wasmtime's macros would have other
    # features than for the host alone, and all of wasmtime be compiled once more. (tests/guests are no tests.)
    cargo test --release --locked --workspace --exclude wasmill --exclude guests
    cargo test --release --locked -p wasmill

# Exactly what CI runs
ci: fmt-check lint alerts-check test perf-check docs deny

# A local Apache Kafka on 127.0.0.1:9092, without Docker (needs Java 17 and Maven); ctrl-c stops it
kafka *args:
    kafka/start {{ args }}

# What hostile guests cost their neighbours, in latency and memory, on a broker of its own; takes [RATE] [ROUNDS] [GUEST...]
hostile *args: preflight
    @just components
    cargo build --quiet --release --locked --target wasm32-wasip2 --target-dir target/guests -p guests --examples
    cargo build --quiet --release --locked -p wasmill --bin wasmill --example hostile
    target/release/examples/hostile {{ args }}

# What clients that misbehave cost the others, in latency, on a broker of its own; takes [RATE] [ROUNDS]
http-load *args: preflight
    cargo build --quiet --release --locked -p wasmill --bin wasmill --example http_load
    target/release/examples/http_load {{ args }}

# The host against native loops on an Apache Kafka of its own; takes what `wasmill bench` takes
bench *args: build
    @just on-kafka 'target/release/wasmill bench --brokers $BROKERS {{ args }}'

# What idle handlers cost in memory, threads and processor time: a host with 1, 10 and 100 of them; takes other numbers
scale *numbers: build
    cargo build --quiet --release --locked -p wasmill --example scale
    @just on-kafka 'target/release/examples/scale $BROKERS components/order-formatter.wasm {{ numbers }}'

# A host under load for MINUTES, at RATE events a second, with swaps and broken events: fails if anything grows
soak minutes="30" rate="50000": build
    cargo build --quiet --release --locked -p wasmill --example soak
    @KAFKA_OPTIONS="--properties kafka/short.properties" just on-kafka \
        'target/release/examples/soak $BROKERS components/order-formatter.wasm {{ minutes }} {{ rate }}'

# A command beside an Apache Kafka of its own, at $BROKERS
[private]
on-kafka +command:
    #!/usr/bin/env bash
    set -euo pipefail
    port=$((RANDOM % 20000 + 20000))
    # It ends with its standard input, and that with this script.
    coproc broker { kafka/start --port "$port" --temporary ${KAFKA_OPTIONS:-}; }
    line=
    while [[ $line != ready* ]]; do read -r line <&"${broker[0]}" || { echo "Kafka has not started" >&2; exit 1; }; done
    BROKERS=127.0.0.1:$port
    {{ command }}

# Instructions on the way of an event, against those that the last change noted; WASMILL_UPDATE=1 notes them anew
perf-check: preflight
    @command -v valgrind >/dev/null || { echo "perf-check counts by valgrind (Debian: apt install valgrind)" >&2; exit 1; }
    @just components
    cargo bench --locked -p wasmill --bench instructions

# The alerts of deploy/alerts.yaml, in figures that make them and in figures that don't
alerts-check:
    @command -v promtool >/dev/null || { echo "alerts-check needs promtool (Debian: in the package prometheus)" >&2; exit 1; }
    promtool check config deploy/prometheus.yaml
    promtool test rules deploy/alerts-test.yaml

# What deploys Wasmill (Dockerfile, compose.yaml, deploy/), without an engine; needs Python, Go and promtool
deploy-check: components alerts-check
    deploy/validate

# Everything that can fail around the hosts fails, again and again for so many MINUTES (once for 0); prints a table
faults minutes="20": preflight test-preflight
    WASMILL_FAULTS={{ minutes }} cargo test --release --locked -p wasmill --test faults -- --nocapture whatever_fails

# Format all code
fmt:
    cargo fmt --all

[private]
fmt-check: toolchain
    cargo fmt --all --check

# Clippy, with warnings as errors
lint: preflight
    cargo clippy --release --locked --workspace --all-targets -- -D warnings

# The API documentation, with warnings as errors
docs: preflight
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

# Licences, sources and banned crates of all dependencies
deny: cargo-deny
    cargo deny --locked check bans licenses sources

# Known vulnerabilities in dependencies (fetches the RustSec database)
audit: cargo-deny
    cargo deny --locked check advisories

[private]
cargo-deny: toolchain
    @cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2

# The Rust toolchain of rust-toolchain.toml, with the target that components are built for
[private]
toolchain:
    @rustc --version >/dev/null 2>&1 || rustup toolchain install
    @rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# What only the system can bring, named plainly when it is missing
[private]
preflight: toolchain
    #!/usr/bin/env bash
    set -euo pipefail
    missing=()
    command -v cc >/dev/null || missing+=("a C compiler (Debian: build-essential, Fedora: gcc)")
    command -v make >/dev/null || missing+=("make")
    command -v pkg-config >/dev/null || missing+=("pkg-config (Fedora: pkgconf)")
    echo '#include <openssl/ssl.h>' | cc -E - >/dev/null 2>&1 || missing+=("OpenSSL's headers (Debian: libssl-dev, Fedora: openssl-devel)")
    echo '#include <zlib.h>' | cc -E - >/dev/null 2>&1 || missing+=("zlib's headers (Debian: zlib1g-dev, Fedora: zlib-devel)")
    if ((${#missing[@]})); then
        echo "Wasmill can't be built yet. This system lacks:" >&2
        printf '  - %s\n' "${missing[@]}" >&2
        exit 1
    fi

# What the tests need beside that
[private]
test-preflight:
    #!/usr/bin/env bash
    set -euo pipefail
    missing=()
    command -v java >/dev/null || missing+=("java, 17 or later, for Apache Kafka (Debian: openjdk-17-jre-headless)")
    command -v mvn >/dev/null || missing+=("mvn, which fetches Apache Kafka (Debian: maven)")
    command -v openssl >/dev/null || missing+=("openssl, which makes the tests' certificates")
    command -v curl >/dev/null || missing+=("curl, by which the documentation's commands ask the host")
    command -v pkill >/dev/null || missing+=("pkill, which signals the tests' brokers (Debian: procps, Fedora: procps-ng)")
    { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null ||
        missing+=("Chromium, in which the dashboard is tested (Debian: chromium)")
    command -v chromedriver >/dev/null || missing+=("chromedriver, which drives it (Debian: chromium-driver)")
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=("python3 with venv, for the tests' mail server (Debian: python3-venv)")
    if ((${#missing[@]})); then
        echo "The tests can't run yet. This system lacks:" >&2
        printf '  - %s\n' "${missing[@]}" >&2
        exit 1
    fi
