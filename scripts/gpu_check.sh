#!/usr/bin/env bash
# Check sepsearch's training on a machine with a CUDA GPU: its GPU tests, then fit beside plain PyTorch.
# Needs Python with torch and numpy; pytest for the tests. PYTHON names another interpreter. See docs/gpu.md.
set -euo pipefail

python=${PYTHON:-python}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The package need not be installed: its dependencies may not be there.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "gpu_check: no CUDA device for torch in '$python': run it where 'nvidia-smi -L' lists a GPU and torch has CUDA" >&2
    exit 2
fi

nvidia-smi -L
"$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'

if "$python" -c 'import pytest' 2>/dev/null; then
    "$python" -m pytest -m gpu tests/training/test_loop.py tests/data/test_prefetch.py
else
    echo "gpu_check: no pytest, tests left out"
fi

"$python" scripts/benchmarks/bench.py fit --device cuda --batch 32 256 --members 1 13
