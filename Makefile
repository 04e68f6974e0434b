# Everything a person types. The first use makes .venv and installs what constraints.txt pins.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= demo-$(shell date +%Y%m%d-%H%M%S)
SPACE ?= search_spaces/laptop.yaml
PORT ?= 5000

.PHONY: help search test test-cluster test-browser test-wheel notebooks bench ui docs check lock clean

help:
	@echo "make search  the whole way on the demo ensemble: prepare, search, retrain, results (5 to 12 min on two cores)"
	@echo "make test    the tests (COVERAGE=1: with the lines that they do not run)"
	@echo "make test-cluster  tests with several hosts and real servers (root on Debian)"
	@echo "make test-browser  the pages in a real browser (Chromium: apt-get install chromium)"
	@echo "make notebooks  searches from Python: examples/notebooks on the demo ensemble, and one that is interrupted (minutes)"
	@echo "make test-wheel  a wheel in a fresh environment searches by names alone, and so do installed plug-ins"
	@echo "make ui      MLflow's pages of all runs, on http://127.0.0.1:$(PORT)"
	@echo "make bench   the benchmarks; rewrites docs/benchmarks.md"
	@echo "make docs    the documentation as a site, in site/; a missing page or link is an error"
	@echo "make check   formatting, lint and types"
	@echo "make lock    rewrites requirements-lock.txt from pyproject.toml and constraints.txt"

search: $(VENV)/.installed
	$(BIN)/python -m sepsearch.run --space $(SPACE) --name $(NAME)

test: $(VENV)/.tested
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov)

# Network namespaces, PostgreSQL, Prometheus, sshd, Slurm: what tests/cluster/debian-packages.txt names.
test-cluster: $(VENV)/.clustered
	$(BIN)/python -m pytest -m cluster tests/cluster

# The pages in Chromium, which playwright only steers; without it the tests would all be skipped.
test-browser: $(VENV)/.browsed
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	    { echo "error: no Chromium on this machine: apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pytest -m browser tests/browser

# Every cell of examples/notebooks, in order and in one folder.
notebooks: $(VENV)/.noted
	$(BIN)/python -m pytest -m notebooks tests/notebooks

# What a user of pip gets: plug-ins that pip installs, and the wheel in a fresh environment, started in an empty folder.
test-wheel: $(VENV)/.tested
	$(BIN)/python -m pytest -m wheel tests/wheel
	rm -rf build  # else modules that are gone would be in the wheel
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$$folder" . && \
	$(PYTHON) -m venv "$$folder/venv" && \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$folder"/*.whl && \
	cd "$$folder" && venv/bin/sepsearch run --space laptop --trials 1 --max-epochs 1 --instruments vn,vc --name wheel && \
	test -s runs/wheel/report.html

# With the memory settings that workers have (sepsearch/distributed/session.py), for both sides of every comparison.
bench: $(VENV)/.tested
	MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_ARENA_MAX=1 \
	    ONEDNN_PRIMITIVE_CACHE_CAPACITY=128 $(BIN)/python scripts/benchmarks/bench.py

ui: $(VENV)/.installed
	$(BIN)/python -m sepsearch.ui --port $(PORT)

docs: $(VENV)/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html (with search: $(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000)"

check: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Versions with checksums, for pip and uv alike, without torch: which build of it depends on the machine (CONTRIBUTING.md).
lock: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group lock
	printf 'torch\n' | $(BIN)/uv pip compile pyproject.toml --excludes /dev/stdin --extra onnx --extra s3 --universal \
	    --python-version 3.11 --generate-hashes --no-annotate -c constraints.txt --no-config --quiet \
	    --default-index https://pypi.org/simple --custom-compile-command 'make lock' --upgrade -o requirements-lock.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sepsearch needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'  # reads dependency groups
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]' --group dev
	touch $@

$(VENV)/.documented: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]' \
	    --group dev --group docs
	touch $@

$(VENV)/.clustered: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx,server]' \
	    --group dev --group cluster
	touch $@

$(VENV)/.browsed: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx,listen]' \
	    --group dev --group browser --group docs
	touch $@

$(VENV)/.noted: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]' \
	    --group dev --group notebooks
	touch $@

clean:
	rm -rf site $(VENV) .pytest_cache .mypy_cache .ruff_cache
