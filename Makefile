# Everything a person types. The first use makes .venv and installs what constraints.txt pins.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= demo-$(shell date +%Y%m%d-%H%M%S)
SPACE ?= search_spaces/laptop.yaml
PORT ?= 5000

.PHONY: help search test test-cluster test-wheel bench ui check clean

help:
	@echo "make search  the whole way on the demo ensemble: prepare, search, retrain, results (about 12 min on two cores)"
	@echo "make test    the tests; make test-cluster: those with several hosts and real servers (root on Debian)"
	@echo "make test-wheel  a wheel in a fresh environment searches by names alone"
	@echo "make ui      MLflow's pages of all runs, on http://127.0.0.1:$(PORT)"
	@echo "make bench   the benchmarks; rewrites docs/benchmarks.md"
	@echo "make check   formatting, lint and types"

search: $(VENV)/.installed
	$(BIN)/python -m sepsearch.run --space $(SPACE) --name $(NAME)

test: $(VENV)/.tested
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Network namespaces, PostgreSQL, Prometheus, sshd, Slurm: what tests/cluster/debian-packages.txt names.
test-cluster: $(VENV)/.clustered
	$(BIN)/python -m pytest -m cluster tests/cluster

# What a user of pip gets: the wheel in a fresh environment, started in an empty folder by names alone.
test-wheel: $(VENV)/.installed
	rm -rf build  # else modules that are gone would be in the wheel
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$$folder" . && \
	$(PYTHON) -m venv "$$folder/venv" && \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$folder"/*.whl && \
	cd "$$folder" && venv/bin/sepsearch run --space laptop --trials 1 --max-epochs 1 --instruments vn,vc --name wheel && \
	test -s runs/wheel/report.html

# With the memory settings that workers have (sepsearch/distributed/session.py), for both sides of every comparison.
bench: $(VENV)/.tested
	MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824 $(BIN)/python scripts/benchmarks/bench.py

ui: $(VENV)/.installed
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2> /dev/null || \
	    { echo "error: port $(PORT) is in use: choose another: make ui PORT=5001" >&2; exit 2; }
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT)

check: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch first and alone: the pinned version is there as a CPU build on machines that have one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sepsearch needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[onnx]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.clustered: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
