"""`python -m sepsearch.promote`: make a model that a person picked the champion of its instrument."""

import argparse
from pathlib import Path

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Check a model, register it if need be, move the alias to it, and print what has changed. Raises `UserError`."""
    arguments = _parse(argv)
    code = instrument_code(arguments.instrument)
    if code not in INSTRUMENTS:
        raise UserError(f"--instrument {code!r}: unknown, expected one of {', '.join(INSTRUMENTS)}")
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.tracking.promotion import Promotion
    from sepsearch.tracking.tracker import existing_store, tracking_uri

    uri = arguments.uri or tracking_uri()
    with existing_store(uri, "does not promote the model") as client:
        for line in Promotion(client, uri, arguments.runs, code).run(arguments.run):
            write_line(line)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m sepsearch.promote",
        description="Make a model that you picked the champion of its instrument: what `separate` takes by default.",
    )
    models = "models:/sepsearch-vn/3, a run's name such as demo/c1-s2, or its id in MLflow"
    parser.add_argument("run", metavar="RUN", help=f"{models}; the name of a search means the model it chose")
    parser.add_argument("--instrument", required=True, help="code, such as vn")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--uri", help="MLflow's address; MLFLOW_TRACKING_URI or mlflow.db here by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_on_user_error(main)
