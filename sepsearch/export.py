"""`python -m sepsearch.export`: a model in a folder of its own, to be used without sepsearch."""

from pathlib import Path

from sepsearch.pipeline.export_model import EXAMPLE, export_model
from sepsearch.utils.command_line import ArgumentParser, add_uri
from sepsearch.utils.errors import exit_on_user_error
from sepsearch.utils.output import OUTPUT, write_json, write_note
from sepsearch.utils.terminal_text import write_line

DESCRIPTION = "Write a model as safetensors, JSON and ONNX, with a small example that needs no sepsearch."
EXAMPLES = (
    ("vn violin-model", "the champion of the violin"),
    ("models:/sepsearch-vn/3 violin-model", "a version in MLflow's registry"),
    ("runs/urmp/models/vn violin-model", "a model that a run has written"),
)


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("export", DESCRIPTION, EXAMPLES)
    model = "an instrument's code (its champion), models:/sepsearch-vn/3, or a model's folder"
    parser.add_argument("model", metavar="MODEL", help=model)
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder")
    add_uri(parser.add_argument)
    parser.add_general(json="print folder, example and difference of onnxruntime and torch")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write a model as safetensors, JSON and ONNX, with an example of its use. Raises `UserError`."""
    arguments = make_parser().parse_args(argv)
    difference = export_model(arguments.model, arguments.folder, arguments.uri)
    example = arguments.folder / EXAMPLE.name
    if OUTPUT.json:
        write_json({"folder": arguments.folder, "example": example, "difference": difference})
        return
    write_line(f"{arguments.folder}: exported; onnxruntime and torch agree within {difference:.1g}")
    write_note(f"try it: pip install onnxruntime soundfile && python {example} mix.wav voice.wav")


if __name__ == "__main__":
    exit_on_user_error(main)
