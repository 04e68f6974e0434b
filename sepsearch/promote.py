"""`python -m sepsearch.promote`: make a run that a person picked the champion of an instrument."""

import argparse
from pathlib import Path

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.tracking.promotion import EXAMPLES, Promotion
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import UserError, exit_on_user_error, one_line
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Check a model, register it if need be, move the alias to it, and say what has changed. Raises `UserError`."""
    from sepsearch.tracking.server_errors import why_away, without_password
    from sepsearch.tracking.tracker import connect, database_file, tracking_uri

    arguments = _parse(argv)
    uri, code = arguments.uri or tracking_uri(), instrument_code(arguments.instrument)
    if code not in INSTRUMENTS:
        raise UserError(f"--instrument {code!r}: unknown, expected one of {', '.join(INSTRUMENTS)}")
    database = database_file(uri)
    if database and not database.is_file():
        raise UserError(f"no MLflow database at {database}: run a search there, or set MLFLOW_TRACKING_URI")
    try:
        promotion = Promotion(connect(uri), uri, arguments.runs, code)
        for line in promotion.run(arguments.run):
            write_line(line)
    except UserError:
        raise
    except Exception as error:  # MLflow's own kinds and its database's
        raise UserError(f"MLflow at {without_password(uri)} does not do it: {one_line(why_away(error))}") from error


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m sepsearch.promote",
        description="Make a model that you picked the champion of its instrument: what `separate` takes by default.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{EXAMPLES}; the name of a search means the model it chose")
    parser.add_argument("--instrument", required=True, help="code, such as vn")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    parser.add_argument("--uri", help="MLflow's address; MLFLOW_TRACKING_URI or mlflow.db here by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_on_user_error(main)
