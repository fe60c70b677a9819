# Every way to run pictoglot, one line each. PYTHON picks the interpreter; VENV the environment that is made.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
# Installed by name and hash; LOCK=0 takes the newest releases that pyproject.toml admits instead.
LOCK ?= 1
BIN := $(VENV)/bin
# What is imported is compiled then, and kept: most of what is installed never is.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
TORCH := "torch >= 2.10, < 2.14" "torchvision >= 0.25, < 0.29"
EXTRAS := demo,postgres,s3,openvino,large,otel
# How `make test` spreads the tests: in order, and whoever has none left takes some of the others; half of the time of
# one process is waiting. `SPREAD=` runs one after another, in one process that a debugger can stop.
SPREAD ?= -n 3 --dist worksteal
# Where `make bundle` puts wheels.
BUNDLE ?= build/bundle
WHEEL := $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --wheel-dir
export PYTHONNOUSERSITE := 1
# Of `make torture`: which history, for how many minutes on each database, and which databases (sqlite, postgresql, store, both, all).
SEED ?= 1
MINUTES ?= 3
DATABASE ?= both

# Of `make power`: how often it is cut, and a twelfth as often on each real file system.
CUTS ?= 120

.DEFAULT_GOAL := help
.PHONY: help demo up test coverage check docs reference style bench flood overload faults calls power fuzz bitrot nightly interleavings torture golden lock browser tools \
	image image-test sign bundle

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.run ## the service with the emoji gallery on http://127.0.0.1:8321, or the port in PICTOGLOT_PORT; Ctrl-C stops it
	@exec $(BIN)/pictoglot demo up

up: $(VENV)/.run ## the service without demo data, for pictures of your own, on the same address
	@exec $(BIN)/pictoglot up

test: $(VENV)/.dev browser tools style docs ## the checks, then everything but fuzzing and the long forms
	$(BIN)/python -m pytest -m "not fuzz and not nightly" $(SPREAD) $(ARGS)

check: style docs ## format, lint, types, import arrows, names and links in the docs
	$(BIN)/python -m pytest -q -m "not slow" tests/house

docs: $(VENV)/.dev ## the site of the documents in build/site; a link that leads nowhere fails it
	$(BIN)/python -m scripts.site

reference: $(VENV)/.dev ## docs/settings.md, docs/errors.md, docs/openapi.json and the clients' types anew from the code
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m scripts.openapi

style: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Measuring costs half as much time again as the tests themselves, so it is not a part of `make test`.
coverage: $(VENV)/.dev ## the quick tests, with the lines of the packages that none of them reached
	$(BIN)/python -m pytest -m "not fuzz and not nightly and not slow and not timing" --cov --cov-report=term $(ARGS)

faults: $(VENV)/.dev ## processes killed, disks filled, servers stopped
	$(BIN)/python -m pytest -m faults $(ARGS)

calls: $(VENV)/.dev ## CALLS_ONLY=: each call of the system fails once in every operation, or in one; about an hour
	CALLS=all CALLS_ONLY="$(CALLS_ONLY)" $(BIN)/python -m pytest -s -k "not longer" tests/durability/test_failing_calls.py $(ARGS)

power: $(VENV)/.dev tools ## CUTS=: the power is cut under load, on a disk that forgets what was not fsynced, and on real ones
	CUTS=$(CUTS) $(BIN)/python -m pytest -s -k "not longer" tests/durability/test_power_loss.py $(ARGS)

fuzz: $(VENV)/.dev ## thousands of generated inputs, then 100,000 over HTTP to a real service, with its memory
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m fuzz $(ARGS)
	$(BIN)/python -m tests.fuzz.bad_inputs --count 100000

bitrot: $(VENV)/.dev ## one flipped bit after another in every kind of file, FLIPS=500 of each: all noticed
	FLIPS=$(or $(FLIPS),500) $(BIN)/python -m pytest tests/faults/test_bitrot.py $(ARGS)

nightly: $(VENV)/.dev ## the long forms: every configuration of open_clip, trainings of several languages, many repetitions
	$(BIN)/python -m pytest -m nightly $(ARGS)

interleavings: $(VENV)/.dev ## all orders of the steps of two actors on one data root, RUNS=1000 of each pair, on both databases
	RUNS=$(or $(RUNS),1000) $(BIN)/python -m pytest -m nightly tests/interleavings $(ARGS)

torture: $(VENV)/.dev tools ## SEED= MINUTES= DATABASE=: requests and faults at random, and nothing lost, back or mixed
	$(BIN)/python -m tests.torture --seed $(SEED) --minutes $(MINUTES) --database $(DATABASE) $(ARGS)

bench: $(VENV)/.dev ## latency and throughput of the real service on this machine
	$(BIN)/python -m benchmarks.serving $(ARGS)

flood: $(VENV)/.dev ## searches while 5,000 connections are held open that never end their head: eleven minutes
	$(BIN)/python -m benchmarks.flood $(ARGS)

overload: $(VENV)/.dev ## searches at five times the rate that the machine can answer: two minutes
	$(BIN)/python -m benchmarks.overload $(ARGS)

# These need no environment of Python's: they are for machines that have an engine of containers instead.
image: ## the image, by podman, docker or buildah; torch from TORCH_INDEX= or FIND_LINKS=, the interpreter PYTHON= of its base
	@python3 -m scripts.image build

image-test: ## as root on Debian 13: the compose file with that image: filled, taught, killed, upgraded, restored; ≤ 30 minutes
	@unshare --mount python3 -m scripts.image_test

sign: $(BIN)/pip ## KEY=cosign.key: the wheel and the image as files in build/dist, each with a signature of cosign
	@rm -rf build/dist build/lib
	@$(WHEEL) build/dist --no-deps .
	@python3 -m scripts.image sign "$(KEY)"

# With what an older release of the same Python needs: Debian 12 has 3.11.2.
bundle: $(BIN)/pip ## BUNDLE=FOLDER: all wheels that pictoglot needs and its own, for machines without a network
	@rm -rf build/lib "$(BUNDLE)"/*.whl "$(BUNDLE)/deploy"
	@mkdir -p "$(BUNDLE)"
	@sed -n 's/ *\\$$//; /==/p' requirements.lock >"$(BUNDLE)/versions.txt"
	@sed 's/ ; python_full_version[^\\]*/ /' requirements.lock >"$(BUNDLE)/lock.txt"
	@$(WHEEL) "$(BUNDLE)" --constraint "$(BUNDLE)/versions.txt" $(TORCH)
	@$(WHEEL) "$(BUNDLE)" --no-deps --require-hashes --requirement "$(BUNDLE)/lock.txt"
	@$(BIN)/python -m scripts.glottocodes
	@$(WHEEL) "$(BUNDLE)" --no-deps .
	@rm "$(BUNDLE)/versions.txt" "$(BUNDLE)/lock.txt"
	@cp -r docs/deploy "$(BUNDLE)"
	@echo "$(BUNDLE): $$(ls "$(BUNDLE)"/*.whl | wc -l) wheels, $$(du -sm "$(BUNDLE)" | cut -f1) MB. On machines with the same Python:"
	@echo "  VENV/bin/pip install --no-index --find-links $(BUNDLE) 'pictoglot[$(EXTRAS)]'"

# --- what the targets stand on ---------------------------------------------------------------------------------------

$(BIN)/pip:
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { echo "pictoglot needs Python 3.11 or newer; name it with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch stands outside the locks: which build fits (CPU, CUDA, ROCm) is the machine's affair.
$(VENV)/.run: $(BIN)/pip pyproject.toml requirements.lock scripts/glottocodes.lock
	@echo "Installing what pictoglot needs into $(VENV): about a minute, longer where the network is slow ..."
	@$(PIP) $(TORCH)
ifeq ($(LOCK),0)
	@$(PIP) -e '.[$(EXTRAS)]'
else
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps -e .
endif
	@$(BIN)/python -m scripts.glottocodes
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what the tests need beside it: about half a minute ..."
ifeq ($(LOCK),0)
	@$(PIP) -e '.[$(EXTRAS),test,benchmark,milvus,docs,mcp]'
else
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock
endif
	@touch $@

# What some tests need beside Python packages: faketime moves clocks, libfuse carries a disk that forgets, two read what
# is deployed, and minisign checks a signature.
tools:
	@if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ] && \
		! { command -v faketime && command -v fusermount3 && command -v kustomize && command -v docker-compose && command -v minisign; } >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			faketime fuse3 kustomize docker-compose minisign; } \
			>/dev/null || echo "Tools of tests could not be installed: some are skipped, and those of lost power fail."; \
	fi

# Browser tests use the system's Chromium. CI on Debian gets it here; elsewhere they are skipped where it is missing.
browser:
	@if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ] && ! command -v chromium >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
			>/dev/null || echo "Chromium could not be installed; browser tests will be skipped."; \
	fi

golden: $(VENV)/.dev ## ARGS="record FILE" or "compare BEFORE AFTER": answers of a service with five taught languages
	$(BIN)/python -m benchmarks.golden $(ARGS)

lock: ## write the lock files again from pyproject.toml
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip pip-tools
	sh scripts/lock.sh $(VENV)-lock/bin/pip-compile
	rm -rf $(VENV)-lock
