# What a person or a machine may ask of this repository. Works from a fresh clone.
.DEFAULT_GOAL := help
.PHONY: help demo test attack check bench bench-limits bench-inspect bench-vault bench-ledger bench-start fuzz screenshots \
        smoke-batch smoke-drain smoke-limits smoke-plan chaos advisories image smoke-image
.NOTPARALLEL:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a simulator and a gateway with two customers, until Ctrl-C (ONCE=1: one round, then exit)
	@scripts/setup.sh build
	@cargo build --locked
	@cargo run --locked --quiet -- demo $(if $(filter-out 0,$(ONCE)),--once)

test: ## sets up what the tests need, then runs all of them
	@scripts/setup.sh test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo build --locked
	@scripts/sdks.sh
	@scripts/tests.sh

check: ## format, lints, documentation, house rules, licences: before you push
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	cargo test --locked --quiet --test tidy
	@scripts/deny.sh

bench: ## measures what perch adds to a call, optimised build
	@scripts/setup.sh build
	cargo build --locked --release --quiet --bin perch
	cargo run --locked --release --quiet --example bench

bench-limits: ## what the limiter reaches under simulated load, against its goals, optimised build
	@scripts/setup.sh build
	cargo build --locked --release --quiet --bin perch
	cargo run --locked --release --quiet -- simulate --goals

bench-inspect: ## what looking into the items of a good answer costs, optimised build
	@scripts/setup.sh build
	cargo run --locked --release --quiet --example inspect

bench-vault: ## sealing, opening, looking up, and sealing a hundred thousand rows anew, optimised build
	@scripts/setup.sh build
	cargo run --locked --release --quiet --example vault

bench-ledger: ## writing a million calls to the request ledger and searching them, optimised build (CALLS=…: another number)
	@scripts/setup.sh build
	cargo run --locked --release --quiet --example ledger -- $(CALLS)

bench-start: ## from the start of perch until it is ready, with stores of several sizes, optimised build
	@scripts/setup.sh build
	cargo build --locked --release --quiet --bin perch
	cargo run --locked --release --quiet --example start

fuzz: ## looks for inputs that break a promise, guided by coverage; FUZZ_SECONDS=60 each of 19 targets, needs a nightly toolchain
	@scripts/fuzz.sh $(TARGETS)

screenshots: ## pictures of every view of the page, light, dark and on a phone, in target/screenshots
	@scripts/setup.sh page
	PERCH_SCREENSHOTS=$(CURDIR)/target/screenshots cargo test --locked --test it every_view_can_be_read
	@ls target/screenshots

smoke-batch: ## a thousand calls for one person each, sharing requests and not, in real time; twenty-five minutes (GATHER='--help')
	@scripts/setup.sh build
	cargo build --locked --quiet --bin perch
	cargo run --locked --quiet --example gather -- $(GATHER)

smoke-drain: ## a hundred stops of a real gateway under two hundred calls each, and what became of them; ten minutes (DRAIN_ROUNDS=…)
	@scripts/setup.sh build
	DRAIN_ROUNDS=$(or $(DRAIN_ROUNDS),100) cargo test --locked --test it drain:: -- --nocapture

smoke-limits: ## quota in real time: three gateways, twice the load, with and without faults; eleven minutes (RUSH='--help': shorter ones)
	@scripts/setup.sh smoke
	cargo build --locked --quiet --bin perch
	cargo run --locked --quiet --example rush -- $(RUSH)

smoke-plan: ## a sync of fifty customers in real time, against what perch plan says of it; three minutes
	@scripts/setup.sh build
	PLAN_WINDOW=60 cargo test --locked --test it a_directory_sync_of_fifty_customers_takes_as_long_as_the_plan_said -- --nocapture

chaos: ## random faults to every process and link, judged by a recorder of its own; twenty minutes (CHAOS='--minutes 2 --seed 7')
	@scripts/setup.sh chaos
	cargo build --locked --quiet --bin perch
	cargo run --locked --quiet --example chaos -- $(CHAOS)

attack: ## every attack of docs/attacks.md, a million mixed calls and 200 kills among them; an hour or two (SCALE=1: ten minutes)
	@scripts/setup.sh test
	@scripts/attack.sh

advisories: ## known weaknesses of the dependencies; fetches the RustSec database
	cargo deny --locked check advisories

image: ## the container image and its bill of materials, into target/oci (static, FROM scratch; buildah, podman or docker)
	@scripts/setup.sh image
	@scripts/image.sh

smoke-image: ## runs the image under podman as Kubernetes would, with 64 MiB, and measures it; as root (RUNS=…: how often)
	@scripts/setup.sh smoke-image
	@scripts/image.sh
	@cargo build --locked --quiet --example image
	@cargo run --locked --quiet --example image -- $(if $(RUNS),--runs $(RUNS))
