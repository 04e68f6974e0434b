"""`python -m sepsearch.ui`: MLflow's pages of all runs, opened on the final models."""

from sepsearch.utils.command_line import ArgumentParser, add_uri, positive
from sepsearch.utils.errors import exit_on_user_error

DESCRIPTION = "Show all runs in MLflow, on this machine alone, and open the view of the final models in the browser."
EXAMPLES = (("", "the runs of mlflow.db here"), ("--port 5001 --no-open", "on another port, without a browser"))


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("ui", DESCRIPTION, EXAMPLES)
    add_uri(parser.add_argument)
    port = "port of the pages on 127.0.0.1 (default: %(default)s)"
    parser.add_argument("--port", metavar="N", type=positive, default=5000, help=port)
    parser.add_argument("--no-open", dest="open", action="store_false", help="print the address, open no browser")
    parser.add_general()
    return parser


def main(argv: list[str] | None = None) -> None:
    """Show all runs in MLflow. Raises `UserError`."""
    arguments = make_parser().parse_args(argv)
    from sepsearch.tracking.pages import show_pages

    show_pages(arguments.uri, arguments.port, arguments.open)


if __name__ == "__main__":
    exit_on_user_error(main)
