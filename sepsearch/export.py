"""`python -m sepsearch.export`: a model in a folder of its own, to be used without sepsearch."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.command_line import ArgumentParser
from sepsearch.errors import UserError, exit_on_user_error
from sepsearch.files import is_there, new_folder
from sepsearch.instruments import INSTRUMENTS, instrument_code
from sepsearch.terminal_text import write_line

if TYPE_CHECKING:
    from sepsearch.model_folder import ModelCard

EXAMPLE = Path(__file__).parent / "exported" / "separate.py"
ONNX, README = "model.onnx", "README.md"


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


def export_model(model: str, folder: Path, uri: str | None = None) -> float:
    """Write a model to a new folder, whole or not at all; `sepsearch.separate` takes it as its --model, too.

    Args:
        model: an instrument's code, whose champion is meant, "models:/sepsearch-vn/3", or the folder of a model.
        folder: must not exist.
        uri: MLflow's address; `tracking_uri()` if None.

    Returns:
        The largest difference between what onnxruntime and torch compute from the same spectra.

    Raises:
        UserError: a package is missing, no such model, a damaged one, an ONNX graph that computes something else, or a
            folder that exists or cannot be written.
    """
    from sepsearch.model_folder import CARD, WEIGHTS, load_model
    from sepsearch.onnx_graph import check_onnx, require_onnx, write_onnx
    from sepsearch.registry import resolve_model

    if is_there(folder):
        raise UserError(f"{folder}: exists already, expected a new folder: choose another name")
    require_onnx()
    source = resolve_model(_full_name(model), uri)
    network, card = load_model(source)
    text = _readme(card, model, folder)
    with new_folder(folder) as partial:
        for name in (WEIGHTS, CARD):
            shutil.copyfile(source / name, partial / name)
        load_model(partial)  # what was copied is what was read
        write_onnx(partial / ONNX, network, card)
        difference = check_onnx(partial / ONNX, network, card)
        (partial / README).write_text(text, encoding="utf-8")
        shutil.copyfile(EXAMPLE, partial / EXAMPLE.name)
    return difference


def _full_name(model: str) -> str:
    """A code is that of an instrument's champion; raises `UserError` for what is neither a code nor anything else."""
    from sepsearch.champion_alias import CHAMPION
    from sepsearch.registry import PREFIX

    if model in INSTRUMENTS:
        return f"models:/{PREFIX}{model}@{CHAMPION}"
    if model.startswith("models:") or is_there(Path(model)):
        return model
    if (code := instrument_code(model)) in INSTRUMENTS:
        return f"models:/{PREFIX}{code}@{CHAMPION}"
    raise UserError(
        f"MODEL {model!r}: no instrument's code and no folder, expected one of {', '.join(INSTRUMENTS)}, "
        f"models:/{PREFIX}vn/3 or the folder of a model"
    )


def _readme(card: "ModelCard", model: str, folder: Path) -> str:
    """What the folder holds, and the model's card."""
    from sepsearch.model_text import model_text
    from sepsearch.onnx_graph import INPUT, OPSET, OUTPUTS

    return f"""# {INSTRUMENTS[card.instrument]} out of the mixture

Exported from `{model}` by sepsearch {card.version}.

    pip install onnxruntime soundfile
    python {EXAMPLE.name} mix.wav {card.instrument}.wav

- `{EXAMPLE.name}`: a small example, for mixtures of some minutes at 48,000 samples a second; `sepsearch.separate`
  takes any length and rate.
- `{ONNX}`: opset {OPSET}. Input `{INPUT}` (batch, frame, frequency): power spectra of Hann windows of unit energy.
  Output `{OUTPUTS[0]}` (batch, frame, frequency of a window of 4096), 0 to 1; and, to compare, what the network
  reads and gives: `{OUTPUTS[1]}` and `{OUTPUTS[2]}` (batch, frame, band).
- `model.safetensors`, `model.json`: weights and card, front end included; `sepsearch.separate --model` takes this
  folder.

{model_text(card, folder.name)}"""


if __name__ == "__main__":
    exit_on_user_error(main)
