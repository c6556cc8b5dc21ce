.DEFAULT_GOAL := help
SERVICES := scripts/with-services.sh

# $(call where,PROBE,COMMAND): not every machine has every tool; a check that did not run says so.
define where
@if $(1) >/dev/null 2>&1; then echo "$(2)"; $(2); else echo "skipped, as this does not work here: $(1)"; fi
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## Run everything in one process: no account, no server, no setting
	cargo run --locked -- dev

.PHONY: test
# The cheap tests come first, and a failed part does not hide the next.
test: ## Run all tests against a real RabbitMQ and Redis (found or started); ARGS="name" picks some
	$(SERVICES) sh -c 'status=0; for part in "--lib --bins --examples --test it" --doc "--test chaos"; do cargo test --locked --no-fail-fast $$part $(ARGS) || status=$$?; done; exit $$status'

.PHONY: acceptance
acceptance: ## Drive the real binary with a foreign client: 20,000 requests, floods, guesses, poison, a rollout, the scaler, a vendor's death (needs python3)
	cargo build --locked --profile dist
	python3 -m venv target/acceptance && target/acceptance/bin/pip install -q -r tests/acceptance/requirements.txt
	$(SERVICES) target/acceptance/bin/python tests/acceptance/acceptance.py --binary target/dist/otpost $(ARGS)

.PHONY: e2e e2e-page e2e-examples e2e-proofs e2e-opt-statuses
e2e: e2e-page e2e-examples e2e-contracts e2e-proofs e2e-opt-statuses ## Use it from outside: the page in a browser (node, npm, chromium), the examples (python3, node); skips what is missing

e2e-page:
	$(SERVICES) tests/e2e/run $(ARGS)

e2e-examples: ## Run the examples against the real binary; LANGUAGES="python rust" picks some
	$(SERVICES) tests/e2e/examples.sh $(LANGUAGES)

e2e-contracts: ## Ask a running otpost all that its documents allow, and more (needs python3; npm to lint them); skips what is missing
	cargo build --locked
	$(SERVICES) tests/e2e/contracts/run

e2e-proofs: ## Check proofs with the usual JWT libraries (needs python3, node, npm, openssl); skips what is missing
	cargo build --locked
	tests/e2e/proofs/run

e2e-opt-statuses: ## STOP and START in calls signed by the library of Twilio (needs python3); skips what is missing
	cargo build --locked
	tests/e2e/opt_statuses/run

.PHONY: segments
segments: ## Hold the count of segments against the provider's own calculator (needs node and npm); ARGS=--write keeps its answers
	tests/compare/segments/run.sh $(ARGS)

.PHONY: chaos
chaos: ## A quarter of an hour of real faults: kills, restarts, freezes, cuts, failovers, a broken Twilio; ARGS="name" picks some
	cargo test --locked --test chaos -- --long $(ARGS)

.PHONY: engines
engines: ## Test on RabbitMQ 3.10, 4.0 and 4.3, Redis 7 and 8, and Valkey 9, alone and in clusters (root, debootstrap, python3); ARGS="name" picks some
	scripts/engines.sh $(ARGS)

.PHONY: numbers
numbers: ## Compare check-number with Google's library on thousands of numbers (needs python3); ARGS="--pace" tells times
	cargo build --locked
	python3 -m venv target/numbers && target/numbers/bin/pip install -q phonenumbers==9.0.33
	target/numbers/bin/python tests/compare/phone_numbers.py --binary target/debug/otpost $(ARGS)

# The instrumentation that libFuzzer needs for coverage; a stable compiler accepts it.
COVERAGE := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
SECONDS_EACH ?= 60

.PHONY: fuzz
fuzz: ## Look for input that breaks a parser's promises, a minute each (needs a C++ compiler); SECONDS_EACH=600 looks longer
	@host=$$(rustc -vV | sed -n 's/^host: //p') && mkdir -p fuzz/artifacts && for target in $(or $(ARGS),decode callback email phone); do \
		echo "== $$target ==" && mkdir -p fuzz/found/$$target && \
		RUSTFLAGS="$(COVERAGE)" cargo run --quiet --locked --manifest-path fuzz/Cargo.toml --target $$host --bin $$target -- \
			-max_total_time=$(SECONDS_EACH) -max_len=1024 -timeout=10 -print_final_stats=1 \
			-artifact_prefix=fuzz/artifacts/$$target- fuzz/found/$$target fuzz/corpus/$$target || exit 1; \
	done

.PHONY: bench bench-redis
bench: ## Measure a message, built as it is shipped: the worker, Redis, RabbitMQ; ARGS="--part growth" measures with much stored
	$(SERVICES) cargo bench --locked --profile dist --bench pipeline -- $(ARGS)

# The build of the client changes nothing in what Redis runs.
bench-redis: ## Count the instructions of Redis for a message (needs valgrind and redis-server)
	cargo bench --locked --profile dev --bench pipeline -- --part instructions --messages 500 $(ARGS)

.PHONY: k8s
k8s: ## Validate the manifests, the chart, the Compose file and the systemd units (needs python3, kubectl); ARGS="chart" picks some
	tests/k8s/run $(ARGS)

.PHONY: ops
ops: ## Check alerts, dashboards and runbook against each other and against the metrics (needs python3, promtool); ARGS="alerts" picks some
	tests/ops/run $(ARGS)

.PHONY: incidents
incidents: ## Make every cause in the runbook happen, then run 12 minutes of incidents under a real Prometheus (needs python3, redis-server, prometheus); ARGS=--pictures draws them
	cargo build --locked
	$(SERVICES) sh -c 'status=0; ops/incidents/shown.py --binary target/debug/otpost || status=$$?; ops/incidents/alerts.py --binary target/debug/otpost $(ARGS) || status=$$?; exit $$status'

.PHONY: model
model: ## Check the life of a request exhaustively, with every crash and lost answer (model)
	cargo run --locked --release --manifest-path model/Cargo.toml

.PHONY: fmt
fmt: ## Format the code
	cargo fmt

.PHONY: lint
lint: format manifests clippy doc ## Every check that is not a test

.PHONY: clean-services
clean-services: ## Stop the RabbitMQ and Redis that a killed test run left behind
	$(SERVICES) --stop-left-behind

# The parts of `lint`, in the order of what they cost.

.PHONY: format manifests clippy doc
format:
	cargo fmt --check

manifests:
	$(call where,shellcheck --version,shellcheck .ci/run scripts/with-services.sh scripts/engines.sh tests/e2e/run tests/e2e/examples.sh tests/e2e/contracts/run tests/e2e/proofs/run tests/e2e/opt_statuses/run tests/k8s/run tests/ops/run)
	$(call where,docker compose version,docker compose config --quiet)
	$(call where,kubectl version --client,kubectl kustomize k8s/overlays/production --output /dev/null && kubectl kustomize k8s/overlays/development --output /dev/null)
	$(call where,cargo deny --version,cargo deny --locked check licenses bans sources)

clippy:
	cargo clippy --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
