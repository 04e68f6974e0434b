"""Provisional models: of a search's best trial so far, usable before the finalists are trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepsearch.data.prepared import PreparedData
from sepsearch.evaluation.model_cards import model_card
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import PROVISIONAL, PROVISIONAL_FOLDER, save_model
from sepsearch.training.checkpoint import Checkpoint, checkpoint_weights
from sepsearch.utils.files import new_folder


def write_provisional_models(
    folder: Path, search: str, prepared: PreparedData, trial: str, params: Mapping[str, Any], checkpoint: Checkpoint
) -> None:
    """Replace a run's provisional models by those of a trial; all of them appear at once.

    Args:
        folder: of the run; gets `models-provisional`/<instrument>.
        search: name of the run.
        prepared: what was trained on.
        trial: id of the trial.
        params: its configuration.
        checkpoint: after its last epoch.

    Raises:
        UserError: they cannot be written.
    """
    config = make_config(params)
    numbers = {member["instrument"]: member for member in checkpoint.report["members"]}
    with new_folder(folder / PROVISIONAL_FOLDER, replace=True) as new:
        for code, weights in checkpoint_weights(config, checkpoint).items():
            network = make_network(config)
            network.load_state_dict(weights)
            member = numbers[code]
            scores = {key: member[key] for key in ("ratio", "val_loss", "identity_loss")}
            card = model_card(
                prepared,
                code,
                params,
                search=search,
                scores={"trial": trial, "epoch": checkpoint.state.epoch, **scores},
                caveat=PROVISIONAL,
                seed=int(member["seed"]),
            )
            save_model(new / code, network, card)
