#!/usr/bin/env bash
# Runs a command on a node as sepsearch needs it: on-node.sh ray start … or on-node.sh python -m sepsearch.run …
# Its virtual environment comes first in the path, Ray asks for the token, and Ray's workers get sepsearch's settings.
set -euo pipefail

fail() {
  echo "on-node.sh: $(hostname): $*" >&2
  exit 2
}

[[ $# -gt 0 ]] || fail "expected a command, such as: ray status"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -x .venv/bin/python ]] || fail "no $PWD/.venv: run cluster/setup-node.sh, or ray up again"

export RAY_AUTH_MODE=token
if [[ -z ${RAY_AUTH_TOKEN:-} ]]; then
  token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
  [[ -s $token ]] || fail "no token in $token: see the first step in cluster/README.md"
  # Copied files keep the mode they had, and Ray itself writes the token for all to read.
  chmod go= "$token" 2>/dev/null || [[ $(stat -c %a "$token") == ?00 ]] || fail "$token can be read by others: chmod 600 it"
  export RAY_AUTH_TOKEN_PATH=$token
fi

# MLFLOW_TRACKING_URI=… and other lines of your own, which no command line has to show.
if [[ -f $HOME/.sepsearch.env ]]; then
  chmod go= "$HOME/.sepsearch.env"
  set -a
  # shellcheck source=/dev/null
  . "$HOME/.sepsearch.env"
  set +a
fi

settings=$(.venv/bin/python - <<'PYTHON'
import os
import shlex

from sepsearch.distributed.session import ENVIRONMENT

print(*(f"export {name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items() if name not in os.environ), sep="\n")
PYTHON
) || fail "sepsearch does not start in $PWD/.venv: run cluster/setup-node.sh there to see why"
eval "$settings"
export PATH="$PWD/.venv/bin:$PATH"
ulimit -n 65536 2>/dev/null || true
exec "$@"
