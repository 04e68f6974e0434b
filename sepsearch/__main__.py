"""`sepsearch COMMAND …` and `python -m sepsearch COMMAND …`: the commands by their names."""

import importlib
import sys

from sepsearch.utils.errors import UserError, exit_on_user_error
from sepsearch.utils.terminal_text import write_line

COMMANDS = {
    "run": "search, retrain and register the best network for every instrument",
    "watch": "follow a running search from another terminal or machine",
    "prepare": "check a folder of recordings and build its shards",
    "replay": "replay recorded searches under other samplers and rungs",
    "track": "write a run into MLflow from its journal",
    "report": "write a run's report again",
    "fetch": "bring a run from a storage to this machine",
    "promote": "make a model the champion of its instrument",
    "separate": "pull instruments out of a mixture",
    "export": "write a model as ONNX, with an example that uses it",
    "demo": "render the demo ensemble",
}


def main() -> None:
    """Run a command, given as the first argument."""

    def command() -> None:
        name = sys.argv[1] if len(sys.argv) > 1 else ""
        if name in ("", "-h", "--help"):
            for line in ("usage: sepsearch COMMAND …", "", *(f"  {key:10}{text}" for key, text in COMMANDS.items())):
                write_line(line)
            return
        if name not in COMMANDS:
            raise UserError(f"unknown command {name!r}, expected one of {', '.join(COMMANDS)}")
        importlib.import_module(f"sepsearch.{name}").main(sys.argv[2:])

    exit_on_user_error(command)


if __name__ == "__main__":
    main()
