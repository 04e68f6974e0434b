"""MLflow's errors as one line for users: server away, user refused, or content refused."""

import configparser
import os
import re
import shlex
from pathlib import Path

# Errors that a retry does not change; any other counts as a server that is away.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
UNAUTHORIZED, FORBIDDEN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"), ("PERMISSION_DENIED",)
NAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


def served(uri: str) -> bool:
    """Whether an address is a server's."""
    return uri.lower().startswith(("http://", "https://"))


def user_name() -> str:
    """User name for MLflow's servers, from the environment or ~/.mlflow/credentials; "" without one."""
    if name := os.environ.get(NAME):
        return name
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path("~/.mlflow/credentials").expanduser())
        return parser.get("mlflow", NAME.lower(), fallback="")
    except (configparser.Error, OSError, RuntimeError, UnicodeError):
        return ""


def is_refusal(error: Exception) -> bool:
    """Whether a retry is pointless, as after invalid arguments or a refused parent run."""
    if isinstance(error, TypeError | LookupError | AttributeError):
        return True
    # MLflow's errors over HTTP carry their JSON; a proxy's error page has none and is no refusal.
    over_http = "API request to" in str(error) and not hasattr(error, "json")
    return getattr(error, "error_code", None) in REFUSALS and not over_http


def refused_status(error: BaseException) -> int | None:
    """401 or 403 if a server refused the user; None for any other error."""
    status = getattr(getattr(error, "response", None), "status_code", None)  # where files go
    if status in (401, 403):
        return int(status)
    code = getattr(error, "error_code", None)
    return 401 if code in UNAUTHORIZED else 403 if code in FORBIDDEN else None


def refusal(status: int, answer: str = "") -> str:
    """Why a server refuses the user and what to do, from its status 401 or 403 and its response."""
    user = user_name()
    if "Invalid Host header" in answer:
        return "403, it does not accept the host name in this address: start it with that name in --allowed-hosts"
    if status == 401:
        who = f"user {user!r} or its password is wrong" if user else "it needs a user and a password"
        return f"401, {who}: set {NAME} and {PASSWORD}, or write them into ~/.mlflow/credentials"
    return f"403, {f'user {user!r}' if user else 'we'} may not do that there: ask its admin to allow it"


def why_away(error: BaseException) -> str:
    """Why MLflow cannot be reached, in one line: the network's error where MLflow wraps it into several."""
    if status := refused_status(error):
        return f"it refuses: {refusal(status, str(error))}"
    if "out-of-date database schema" in str(error):
        return "its database has another schema version; back it up, then: mlflow db upgrade URI"
    root = error
    while inner := root.__cause__ or root.__context__:
        root = inner
    if not isinstance(root, OSError):
        return first_line(error)
    return root.strerror or first_line(root)


def first_line(error: BaseException) -> str:
    """Message of an error: one line of at most 200 characters, without passwords."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return without_password(line)[:200]


def without_password(text: str) -> str:
    """Text with user and password removed from its addresses."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)


def quoted_uri(uri: str) -> str:
    """An address quoted for a shell; one with a password is replaced by the variable."""
    return shlex.quote(uri) if without_password(uri) == uri else '"$MLFLOW_TRACKING_URI"'
