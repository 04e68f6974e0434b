"""Render the demo ensemble and print its folder: python -m sepsearch.demo."""

from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Render the demo ensemble if need be, and print where it is."
EXAMPLES = (("", "print its folder; the first time it takes up to a minute"),)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("demo", DESCRIPTION, EXAMPLES)
    parser.add_general(json="print the folder")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Render the demo ensemble if need be, and print its folder. Raises `UserError`."""
    make_parser().parse_args(argv)

    from sepsearch.data.demo.rendering import demo_folder

    folder = demo_folder(progress=lambda done, total: write_note(f"{done}/{total} pieces", error=True))
    if OUTPUT.json:
        write_json({"folder": folder})
    else:
        write_line(folder)


if __name__ == "__main__":
    exit_on_user_error(main)
