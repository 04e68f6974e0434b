"""Write a model as safetensors, JSON and ONNX, with an example that needs no sepsearch."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sepsearch.data.instruments import INSTRUMENTS, instrument_code
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import is_there, new_folder

if TYPE_CHECKING:
    from sepsearch.models.saved_model import ModelCard


EXAMPLE = Path(__file__).parent.parent / "models" / "exported" / "separate.py"
ONNX, README = "model.onnx", "README.md"


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
    from sepsearch.models.onnx import check_onnx, require_onnx, write_onnx
    from sepsearch.models.saved_model import CARD, WEIGHTS, load_model
    from sepsearch.tracking.registry import resolve_model

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
    from sepsearch.tracking.champion import CHAMPION
    from sepsearch.tracking.registry import PREFIX

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
    from sepsearch.models.card import model_text
    from sepsearch.models.onnx import INPUT, OPSET, OUTPUTS

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
