#!/usr/bin/env bash
# Installs sepsearch on a node, with the versions of constraints.txt, in .venv beside cluster/.
# setup-node.sh [PACKAGE …]: more packages, pinned. Done once: called again it only looks whether anything changed.
set -euo pipefail

fail() {
  echo "setup-node.sh: $(hostname): $*" >&2
  exit 2
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=$({ cat constraints.txt pyproject.toml cluster/setup-node.sh; echo "$@"; } | sha256sum | cut -d' ' -f1)
[[ -f .venv/.node && $(<.venv/.node) == "$stamp" ]] && exit 0
rm -f .venv/.node

uv=$HOME/.local/share/sepsearch-uv
if [[ ! -x $uv/bin/uv ]]; then
  # Into a folder of its own, so that a system's Python that forbids pip is left as it is.
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$uv" uv==0.13.9 ||
    fail "pip could not install uv: apt-get install python3-pip, and see that PyPI can be reached"
fi
# The same Python everywhere: Ray refuses a cluster of several. uv fetches it where the system has none.
"$uv/bin/uv" venv --quiet --clear --python 3.11 .venv || fail "no Python 3.11 here and none could be fetched"
"$uv/bin/uv" pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable . "$@" ||
  fail "packages could not be installed: see above"
echo "$stamp" >.venv/.node
echo "setup-node.sh: $(hostname): ready"
