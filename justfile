# Every step that people and CI run. `just` alone lists them.

default:
    @just --list --unsorted

# The main job: a hub, two agents and a split, live in the terminal.
try *args:
    cargo run --release --bin figspan-try -- {{args}}

# Tier 1: all tests on loopback. No root, no Kubernetes.
test:
    cargo test --workspace --locked

# Formatting.
fmt:
    cargo fmt --all --check

# Lints, warnings as errors.
lint:
    cargo clippy --workspace --all-targets --features figspan-tests/monolith,figspan-tests/hosts --locked -- -D warnings

# Licences, sources, one crypto provider.
deny:
    cargo deny --all-features check bans licenses sources

# Known vulnerabilities; needs to reach the RustSec database.
advisories:
    cargo deny --all-features check advisories

# Documentation builds without a warning, and every link in docs/ leads somewhere.
docs:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
    cargo test --locked -p figspan-tests --test docs

# The fuzz targets, each for a bounded time (seconds).
fuzz seconds="20":
    fuzz/run {{seconds}}

# The whole journey under load, unattended; exits 0 only when nothing was lost and the drain was proven.
journey *args:
    cargo build --release --locked --workspace --bins
    target/release/figspan-try --once {{args}}

# A real monolith: Debian's Tomcat behind two agents, shifted away under load. Installs what it needs (root).
monolith:
    tests/monolith/install
    cargo build --release --locked --workspace --bins
    FIGSPAN_PROGRAMS=target/release cargo test --locked --workspace --features figspan-tests/monolith --test monolith -- --nocapture

# The unit's exposure as systemd sees it; at most 1.2.
unit:
    systemd/verify

# The Debian packages, checked by lintian and unpacked (installs lintian where it is missing: root).
deb:
    packaging/build-deb

# What is published: packages and image, compiled for what the programs do most, and tested as such (an hour on two cores).
release: optimise
    FIGSPAN_PROGRAMS=target/optimised cargo test --locked -p figspan-tests --test e2e
    cargo build --release --locked -p figspan-tests --bins
    FIGSPAN_PROGRAMS=target/optimised target/release/chaos 60000
    FIGSPAN_PGO=$PWD/target/optimised/figspan.profdata packaging/build-deb
    FIGSPAN_PGO=$PWD/target/optimised/figspan.profdata deploy/image/build.sh

# The programs that ship, guided by a profile of the benchmark's work: target/optimised, with the profile.
optimise:
    packaging/optimise

# The packages again from a clean compilation elsewhere (another CARGO_HOME, umask, time zone, locale): the same bytes. Not in CI as
# a whole, for its time: there `just deb` fails for a path of the machine in a package, which is what made them differ.
reproducible: deb
    packaging/verify-reproducible target/debian

# A signed apt repository of the packages, to be served at that address. The key: FIGSPAN_SIGNING_KEY, else one for tests.
repository uri="https://apt.figspan.invalid": deb
    packaging/apt-repository target/debian target/repository {{uri}}

# Tier 2: the packages on real systemd hosts, and faults around them. Installs what it needs (root).
e2e-hosts: deb
    tests/hosts/install
    tests/hosts/previous || [ $? = 3 ]
    cargo build --release --locked --workspace --bins
    rm -f target/hosts/faults.tsv target/hosts/figures.tsv
    FIGSPAN_PROGRAMS=target/release cargo test --locked --workspace --features figspan-tests/hosts --test hosts -- --nocapture --test-threads=2 $([ -e target/previous/programs/commit ] || echo --skip=skew::)
    for table in faults figures; do echo; column -t -s "$(printf '\t')" "target/hosts/$table.tsv"; done

# The hub's image from scratch (installs buildah where it is missing: root).
image:
    deploy/image/build.sh

# The ledger: 200,000 mixed requests while weights, health and configuration change at random; every count that must be 0 is 0.
ledger *args:
    cargo build --release --locked --workspace --bins
    target/release/chaos {{args}}

# Policies under load with release builds: an upload of 2 GiB, and what a mirror that never answers costs the slowest percent.
streams:
    cargo build --release --locked --workspace --bins
    FIGSPAN_PROGRAMS=target/release FIGSPAN_UPLOAD_MIB=2048 FIGSPAN_P99=2 cargo test --release --locked -p figspan-tests --test e2e requests:: -- --test-threads 1 --nocapture

# figspan beside every peer that can be installed, on the same work (root for the installation, and for a loopback of its own).
bench *args:
    tests/bench/install
    cargo build --release --locked --workspace --bins
    tests/bench/alone target/release/figspan-bench peers {{args}}

# The same with the programs that ship.
bench-shipped *args: optimise
    tests/bench/install
    cargo build --release --locked -p figspan-bench
    FIGSPAN_PROGRAMS=target/optimised tests/bench/alone target/release/figspan-bench peers {{args}}

# The same as `bench` with a network between the two ends of each chain: 1,500 B, 50 ms of round trip, 1 % loss (root, for a namespace of its own).
bench-network *args:
    tests/bench/install
    cargo build --release --locked --workspace --bins
    tests/bench/network {{args}}

# figspan alone: changes, joins, idle connections and tunnels, reconnects, sizes; and what choosing, compressing and heads cost.
bench-control *args:
    cargo build --release --locked --workspace --bins
    tests/bench/alone target/release/figspan-bench control {{args}}
    cargo run --release --locked -p figspan-data --example choosing
    cargo run --release --locked -p figspan-data --example compressing
    cargo run --release --locked -p figspan-data --example heads

# Instructions of one request and of 1 MiB, against tests/bench/baseline.toml; fails when one got dearer.
instructions *args:
    tests/bench/install own
    cargo build --release --locked --workspace --bins
    target/release/figspan-bench instructions {{args}}

# What CI runs.
ci:
    .ci/run
