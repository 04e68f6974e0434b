"""`python -m sepsearch.export`: a model in a folder of its own, to be used without sepsearch."""

import argparse
from pathlib import Path

from sepsearch.pipeline.export_model import EXAMPLE, export_model
from sepsearch.utils.command_line import ArgumentParser
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.terminal_text import write_line


def main(argv: list[str] | None = None) -> None:
    """Write a model as safetensors, JSON and ONNX, with an example of its use. Raises `UserError`."""
    arguments = _parse(argv)
    difference = export_model(arguments.model, arguments.folder, arguments.uri)
    write_line(f"{arguments.folder}: exported; onnxruntime and torch agree within {difference:.1g}")
    write_line(
        f"try it: pip install onnxruntime soundfile && python {arguments.folder / EXAMPLE.name} mix.wav voice.wav"
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m sepsearch.export",
        description="Write a model as safetensors, JSON and ONNX, with a small example that needs no sepsearch.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an instrument's code (its champion), models:/sepsearch-vn/3, or a model's folder",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder")
    parser.add_argument("--uri", help="MLflow's address; MLFLOW_TRACKING_URI or mlflow.db here by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_on_user_error(main)
