# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types wheel-test check bench docs clean
help:
	@echo "make demo        set up .venv and show a whole simulated migration"
	@echo "make test        set up .venv and run the tests (lab tests skip what is not installed)"
	@echo "make check       tests, lint, types and the wheel test, as CI runs them"
	@echo "make captures    write the expected texts of the specimens in captures/ anew"
	@echo "make pictures    make docs/images anew, from captures (needs chromium)"
	@echo "make series      migrate 50 times with real QEMUs and clients, and check what reports say of it"
	@echo "make fuzz        look for inputs that break something, for two minutes or so"
	@echo "make hostile     have more than a hundred hostile peers at a proxy and measure what a witness notices"
	@echo "make load        300 sessions with 100 migrations in one proxy; make soak: 20 minutes of sessions that come and go"
	@echo "make nightly     what takes too long for make test: more real QEMUs, hostile, reliability, load, soak"
	@echo "make reliability kill everybody at each phase of a migration, fill disks, drop packets; tables of docs/reliability.md"
	@echo "make container   build the image of docs/packaging with podman, and use it"
	@echo "make bench       compare the relay with socat and haproxy"
	@echo "make docs        write docs/messages.md and docs/rules.md anew, from schemas and rules"

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "spiceproxy needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo "this Python has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/ready
	$(BIN)/spiceproxy demo

# Tests that wait for nobody run on all cores; those with sockets, programs and clocks one after the other.
BYTES := $(addprefix tests/,capture captures differential dissectors faults filter protocol redaction repair report)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n auto --dist loadscope $(BYTES)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(BYTES))

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

wheel-test: $(VENV)/ready
	PYTHON=$(BIN)/python .ci/wheel-test

check: test lint types wheel-test

bench: $(VENV)/ready
	$(BIN)/python benchmarks/relay.py

docs: $(VENV)/ready
	$(BIN)/python -m dissectors.reference > docs/messages.md.new
	mv docs/messages.md.new docs/messages.md
	$(BIN)/python -m spiceproxy.protocol.migration.rules.reference > docs/rules.md.new
	mv docs/rules.md.new docs/rules.md

.PHONY: captures
captures: $(VENV)/ready
	$(BIN)/python -m tests.captures.regenerate

.PHONY: pictures
pictures: $(VENV)/ready
	$(BIN)/python -m tests.report.images

.PHONY: series
series: $(VENV)/ready
	$(BIN)/python -m tests.lab.series

.PHONY: load soak reliability
reliability: $(VENV)/ready
	$(BIN)/python -m tests.reliability.survival
	$(BIN)/python -m tests.reliability.troubles

load: $(VENV)/ready
	$(BIN)/python -m tests.load.load

soak: $(VENV)/ready
	$(BIN)/python -m tests.load.load --soak

.PHONY: nightly
nightly: $(VENV)/ready
	$(BIN)/python -m pytest --nightly -m nightly
	$(MAKE) hostile reliability load soak

.PHONY: hostile
hostile: $(VENV)/ready
	$(BIN)/python -m tests.hostile.suite
	$(BIN)/python -m tests.hostile.endless_suite

.PHONY: container
container: $(VENV)/ready
	$(BIN)/python -m tests.service.container

.PHONY: fuzz
fuzz: $(VENV)/ready
	$(BIN)/python -m tests.fuzz

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
