# Targets are documented by the text after `##`; `make` alone prints them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
BENCHES := eventlog ima appraisal token_check http_renewal workload_api agent_workloads leash

.PHONY: help setup demo test check bench fleet soak trees breaks mutants fuzz interop clean lock docs fixtures

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Build .venv with everything in it (PYTHON=... picks the interpreter)
	@requirements/setup.sh

demo: setup ## Tell the whole story on simulated machines: enrol, attest, renew, revoke, refuse
	@.venv/bin/bootlease demo

test: setup ## Run every test, three at once (ARGS="-k name" narrows it; ARGS="-n 0": one at a time)
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## Lint, formatting, types, layering and documentation
	@failed=; \
	$(PY) -m ruff check . || failed="$$failed lint"; \
	$(PY) -m ruff format --check . || failed="$$failed format"; \
	$(PY) -m mypy || failed="$$failed types"; \
	$(PY) -m pytest -q tests/unit/test_architecture.py tests/unit/test_project.py || \
		failed="$$failed project"; \
	[ -z "$$failed" ] || { echo "check: failed:$$failed" >&2; exit 1; }

bench: setup ## Measure hot paths, server, agent and leash, some minutes (BENCHES="appraisal": one)
	@$(PY) -P bench/machine.py
	@for bench in $(BENCHES); do echo && $(PY) -P "bench/$$bench.py" || exit; done

fleet: setup ## Load a verifier from simulated nodes (ARGS="--nodes 10000 --find-rate --out figures")
	@$(PY) -m bench.fleet $(or $(ARGS),--nodes 1000 --find-rate)

soak: setup trees ## Kill a verifier 200 times under load and check its records; and `make trees`
	@$(PY) -m bench.crash $(or $(ARGS),--kills 200)

trees: setup ## Run 1,000 trees on leashes under load (TREES="--runs 50"); none outlives its lease
	@$(PY) -m bench.trees $(or $(TREES),--runs 1000 --out docs/breaks.md)

breaks: setup ## Break authorization in every way 20 times, and write how long things went on
	@$(PY) -m tests.breaks.soak --runs 20 --out docs/breaks.md $(ARGS)

mutants: setup ## Change every check of tokens and relying party; fail where no test notices one
	@$(PY) -c 'import mutmut' 2>/dev/null || { echo "mutants: installing mutmut in .venv" && \
		$(PY) -m pip install --quiet --require-hashes -r requirements/mutation.txt; }
	@tests/mutation/run.sh $(ARGS)

fuzz: setup ## Fuzz every parser and the lease endpoint, ten minutes each (ARGS="--seconds 60 cbor")
	@$(PY) -c 'import atheris' 2>/dev/null || { echo "fuzz: installing Atheris in .venv" && \
		$(PY) -m pip install --quiet --require-hashes -r requirements/fuzz.txt; }
	@$(PY) -m tests.fuzz.run $(ARGS)

interop: setup ## Let stock COSE libraries, each in an environment of its own, check token and receipt
	@tests/interop/run.sh

docs: setup ## Write the pages that are made from commands, tests and schemas
	@$(PY) docs/write_cli.py
	@$(PY) docs/write_policy_schema.py
	@$(PY) docs/write_attacks.py
	@$(PY) docs/write_tamperings.py

fixtures: setup ## Record this version's ledger and proofs anew (fixtures/history; never a released one)
	@$(PY) fixtures/write_history.py

lock: setup ## Pin the dependencies with their hashes (ARGS=--upgrade: the newest allowed)
	@requirements/lock.sh $(ARGS)

clean: ## Remove .venv and caches, nothing else
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
