"""Render the demo ensemble and print its folder: python -m sepsearch.demo."""

from sepsearch.data.demo.rendering import demo_folder
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Render the demo ensemble if need be, and print where it is."""
    ArgumentParser(prog="python -m sepsearch.demo", description=main.__doc__).parse_args(argv)
    write_line(demo_folder(progress=lambda done, total: write_line(f"{done}/{total} pieces", error=True)))


if __name__ == "__main__":
    exit_on_user_error(main)
