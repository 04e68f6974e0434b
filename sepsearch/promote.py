"""`python -m sepsearch.promote`: make a model that a person picked the champion of its instrument."""

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.utils.command_line import ArgumentParser, add_runs, add_uri
from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Make a model that you picked the champion of its instrument: what `separate` takes by default."
EXAMPLES = (
    ("urmp/c1-s2 --instrument vn", "a finalist and seed of a run"),
    ("urmp --instrument vn", "the model that the run has chosen"),
    ("models:/sepsearch-vn/3 --instrument vn", "back to a version of MLflow's registry"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("promote", DESCRIPTION, EXAMPLES)
    models = "models:/sepsearch-vn/3, a run's name such as demo/c1-s2, or its id in MLflow"
    parser.add_argument("run", metavar="RUN", help=f"{models}; the name of a search means the model it chose")
    parser.add_argument("--instrument", metavar="CODE", required=True, help="such as vn")
    add_runs(parser.add_argument)
    add_uri(parser.add_argument)
    parser.add_general(json="print what has changed")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Check a model, register it if need be, move the alias to it, and print what has changed. Raises `UserError`."""
    arguments = make_parser().parse_args(argv)
    code = instrument_code(arguments.instrument)
    if code not in INSTRUMENTS:
        raise UserError(f"--instrument {code!r}: unknown, expected one of {', '.join(INSTRUMENTS)}")
    # Below is torch, which a mistake on the command line need not wait for.
    from sepsearch.tracking.promotion import Promotion
    from sepsearch.tracking.tracker import existing_store, tracking_uri

    uri = arguments.uri or tracking_uri()
    with existing_store(uri, "does not promote the model") as client:
        done = Promotion(client, uri, arguments.runs, code).run(arguments.run)
        if OUTPUT.json:
            write_json(done.facts())
            return
        first, *more = done.lines()
        write_line(first)
        for line in more:
            write_note(line)


if __name__ == "__main__":
    exit_on_user_error(main)
