"""Pick the models of a run by its results.json, and separate a recording with those that beat doing nothing.

python examples/separate_with_best_models.py runs/NAME mix.wav OUTPUT_FOLDER
"""

import json
import sys
from pathlib import Path

import soundfile

from sepsearch.audio.separation import Separator, separate_stream
from sepsearch.models.saved_model import load_model


def pick(run: Path, most: float = 1.0) -> dict[str, float]:
    """Instrument → mean ratio over seeds of its chosen configuration, where that is below `most`; the best first."""
    final = json.loads((run / "results.json").read_text())["final"]
    ratios = {code: row["ratio_mean"] for code, row in final.items() if row["ratio_mean"] is not None}
    return {code: ratios[code] for code in sorted(ratios, key=ratios.__getitem__) if ratios[code] < most}


def separate(run: Path, mixture: Path, output: Path) -> list[Path]:
    """Write one WAV file per picked instrument, of the mixture's rate, length and channels."""
    codes = list(pick(run))
    models = [load_model(run / "models" / code) for code in codes]
    separators = [Separator(network, card.front_end, card.constant, card.instrument) for network, card in models]
    output.mkdir(parents=True)
    paths = [output / f"{code}.wav" for code in codes]
    with soundfile.SoundFile(mixture) as sound:
        form = {"samplerate": sound.samplerate, "channels": sound.channels, "subtype": "FLOAT"}
        files = [soundfile.SoundFile(path, "w", **form) for path in paths]
        blocks = (block.T for block in sound.blocks(10 * sound.samplerate, dtype="float32", always_2d=True))
        for _, voices in separate_stream(separators, sound.samplerate, blocks):
            for file, voice in zip(files, voices, strict=True):
                file.write(voice.T)
    for file in files:
        file.close()
    return paths


if __name__ == "__main__":
    for written in separate(*map(Path, sys.argv[1:4])):
        print(written)
