"""Train one network on one instrument, without Ray: the training loop as a library.

python examples/train_one_network.py [FOLDER] [INSTRUMENT]     # the demo ensemble and vn by default
"""

import sys
from pathlib import Path

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.demo.rendering import demo_folder
from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.training.loop import fit
from sepsearch.training.members import Member


def train(
    folder: Path, instrument: str, output: Path, epochs: int = 3, batches: int = 20, seconds: float = 10.0
) -> float:
    """Train on a folder of recordings, save the model of the best epoch in `output`, return its validation ratio."""
    front_end = FrontEnd(clip_seconds=seconds)
    recordings, shards = prepare(folder, front_end, lambda stage, done, total: None)
    data = gather_data(recordings, shards, (instrument,), seed=0, fractions=(0.6, 0.2, 0.2), validation_examples=256)
    config = make_config({"filters": 8, "learning_rate": 3e-3, "head": "mask"})
    dataset = data.training_data()
    card = ModelCard(instrument, config, front_end, shards.constant, split=data.split.titles())
    network = make_network(config)
    best = float("inf")
    for epoch in fit(config, dataset, [Member(instrument, seed=0)], epochs=epochs, batches_per_epoch=batches):
        (member,) = epoch.members
        losses = f"train {member.train_loss:.4f}, validation {member.val_loss:.4f}"
        print(f"epoch {epoch.epoch}: {losses}, ratio {member.ratio:.3f}")
        if member.ratio < best:
            best = member.ratio
            network.load_state_dict(member.weights())
            save_model(output, network, card)
    return best


if __name__ == "__main__":
    recordings_folder = Path(sys.argv[1]) if len(sys.argv) > 1 else demo_folder()
    code = sys.argv[2] if len(sys.argv) > 2 else "vn"
    train(recordings_folder, code, Path("trained") / code)
