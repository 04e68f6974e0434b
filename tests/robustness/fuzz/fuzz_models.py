"""Fuzzing saved models: cards and weights damaged, or made to fit; pickles and archives under a model's name."""

import hashlib
import json
import math
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from damages import Case, as_json, damaged, damaged_tree, expect, flipped, mostly
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import CARD, WEIGHTS, ModelCard, load_model, save_model

CONFIG = make_config({"filters": 1, "detector_kernel_frequency": 64})
ODD = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    31,
    1024,
    65536,
    10**30,
    10**400,
    0.0,
    -1.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "vn",
    "kazoo",
    "elu",
    "mask",
    "x" * 5000,
    [],
    {},
    [1],
    {"a": 1},
    "\n",
    "\ud800",
    "../..",
    "0" * 64,
]


class Pickled:
    """Unpickling this would leave a trace."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def reseal(card: dict[str, Any]) -> dict[str, Any]:
    """A card with the checksum that fits."""
    facts = {key: value for key, value in card.items() if key != "card_sha256"}
    return facts | {"card_sha256": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}


class Target:
    """`sepsearch.models.saved_model.load_model`: what it accepts is what was saved, and nothing is unpickled."""

    typed = False

    def __init__(self, folder: Path):
        self.folder = folder / "vn"
        torch.set_num_threads(1)
        torch.manual_seed(0)
        network = make_network(CONFIG)
        self.state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        split = {"train": ["a"], "validation": ["b"], "test": ["c"]}
        self.card = ModelCard(
            "vn",
            CONFIG,
            FrontEnd(),
            12.5,
            split,
            {"validation": {"identity": 0.25}},
            {"ratio": 0.5},
            seeds=(0, 1),
            created="2026-01-01T00:00:00+00:00",
            version="0",
        )
        save_model(self.folder, network, self.card)
        self.files = {name: (self.folder / name).read_bytes() for name in (CARD, WEIGHTS)}
        self.values = json.loads(self.files[CARD])
        self.header = struct.unpack("<Q", self.files[WEIGHTS][:8])[0]

    def cases(self) -> SearchStrategy[Case]:
        """The files that differ; most of them with checksums that fit."""
        card, data, begin = self.files[CARD], self.files[WEIGHTS], 8 + self.header
        trees = damaged_tree(self.values, ODD)
        cards = mostly(trees.map(lambda tree: as_json(tree, reseal)), trees.map(as_json), 2)
        cards = st.one_of(*[cards] * 2, damaged(card), flipped(card))
        lost = st.sampled_from([{CARD: None}, {WEIGHTS: None}])
        headers = (
            damaged_tree(json.loads(data[8:begin]), [*ODD, "F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3"])
            .map(as_json)
            .map(lambda text: struct.pack("<Q", len(text)) + text + data[begin:])
        )
        others = [pickle.dumps(Pickled()), b"PK\3\4" + data, b"\x80\2." + data, b"", bytes(8), b"\xff" * 16]
        others += [struct.pack("<Q", size) + data[8:] for size in (0, 1, 2**31, 2**63, 2**64 - 1, self.header + 1)]
        weights = st.one_of(damaged(data), flipped(data, begin), headers, st.sampled_from(others))
        fit = weights.map(lambda data: {WEIGHTS: data, CARD: self._fitting(data)})
        alone = weights.map(lambda data: {WEIGHTS: data})
        return st.one_of(*[cards.map(lambda text: {CARD: text})] * 4, *[fit] * 4, *[alone] * 2, lost)

    def _fitting(self, weights: bytes) -> bytes:
        """A card whose checksums fit these weights."""
        return as_json(self.values | {"weights_sha256": hashlib.sha256(weights).hexdigest()}, reseal)

    def check(self, case: Case) -> bool:
        """Load it; raises `Wrong` if it is another model, unless somebody made it fit, or anything was unpickled."""
        try:
            for name, data in case.items():
                if data is None:
                    (self.folder / name).unlink()
                else:
                    (self.folder / name).write_bytes(data)
            network, card = load_model(self.folder)
        finally:
            for name in case:
                (self.folder / name).write_bytes(self.files[name])
            expect(not Path("unpickled").exists(), "a pickle was unpickled")
        state = network.state_dict()
        expect(all(bool(tensor.isfinite().all()) for tensor in state.values()), "weights that are not finite")
        expect(0 < card.constant < math.inf and not network.training, "a constant that is none")
        if case.get(WEIGHTS, self.files[WEIGHTS]) == self.files[WEIGHTS]:
            expect(all(torch.equal(state[name], tensor) for name, tensor in self.state.items()), "other weights")
        if self._digest(case.get(CARD)) in (None, self.values["card_sha256"]):
            expect(card == self.card, "another card")
        with torch.inference_mode():
            network(torch.zeros(1, 1, 128, 128))
        return True

    def _digest(self, text: bytes | None) -> str | None:
        return None if text is None else str(json.loads(text).get("card_sha256"))
