"""Fuzzing names of models: slashes, quotes, wildcards, other schemes, odd numbers; against a local registry."""

import os
from pathlib import Path

import torch
from damages import Case, expect, repeated
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import CARD, ModelCard, load_model, save_model
from sepsearch.tracking.registry import register_model, resolve_model
from sepsearch.utils.files import cache_folder

NAMES = [
    "sepsearch-vn",
    "sepsearch-vn",
    "sepsearch-vc",
    "sepsearch-",
    "",
    "..",
    ".",
    "/",
    "//",
    "../..",
    "%",
    "_",
    "*",
    "'",
    '"',
    "\\",
    ";",
    "' OR '1'='1",
    "x' or name LIKE '%",
    "sepsearch-vn'",
    "\0",
    "\n",
    "\udcff",
    "\u202e",
    "é",
    "日本",
    "a" * 255,
    "a" * 5000,
    "m-" + "0" * 32,
    "%2e%2e",
    "sepsearch-vn\\..\\x",
    "C:\\",
    "~",
    "$HOME",
    "sepsearch-vn ",
    "SEPSEARCH-VN",
    "None",
]
TAILS = [
    "@champion",
    "@champion",
    "/1",
    "/latest",
    "",
    "/",
    "/0",
    "/-1",
    "/1.0",
    "/١",
    "/²",
    "/1e0",
    "/01",
    "/ 1",
    "/" + "9" * 30,
    "/" + "9" * 5000,
    "/Production",
    "@",
    "@@",
    "@../..",
    "@champion/1",
    "/1@champion",
    "/1/../..",
    "/../1",
    "@'",
    "@\0",
    "@\udcff",
    "@" + "a" * 5000,
    "/1?x=y",
    "/1#x",
    "@latest",
    "/1\n",
]
HEADS = [
    "models:/",
    "models:/",
    "models:/",
    "models://",
    "models:",
    "models:/../",
    "models:/./",
    "Models:/",
    "runs:/",
    "file:///",
    "/",
    "../",
    "./",
    "",
    "http://127.0.0.1:9/",
    "mlflow-artifacts:/",
    "models:/models:/",
    "\0",
    "models:/ ",
    " models:/",
]
CHARS = "/\\.@:%'\"\0\n \t~*?[]{}|;&$<>sepvn1é\udcff"


class Target:
    """`sepsearch.tracking.registry.resolve_model`: a model of ours, in the cache or the folder that was named, or an error."""

    typed = True

    def __init__(self, folder: Path):
        from mlflow import MlflowClient

        self.folder = folder
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        torch.manual_seed(0)
        config = make_config({"filters": 1})
        figures = {"scores": {"ratio": 0.5}, "baselines": {"validation": {"identity": 1.0, "gain": 0.9}}}
        save_model(folder / "vn", make_network(config), ModelCard("vn", config, FrontEnd(), 12.5, **figures))
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        run = client.create_run(client.create_experiment("fuzz", (folder / "artifacts").as_uri()))
        register_model(folder / "vn", run.info.run_id, self.uri)
        self.paths = [
            "vn",
            "./vn",
            "vn/",
            "vn/model.json",
            str(folder / "vn"),
            "vn/../vn",
            "artifacts",
            ".",
            "..",
            "/",
            "vn\0",
            "v" * 300,
            "vn/" * 2000,
            "mlflow.db",
        ]

    def cases(self) -> SearchStrategy[Case]:
        """Names of models."""

        def edited(text: str) -> SearchStrategy[str]:
            parts = st.tuples(st.integers(0, len(text)), st.sampled_from(CHARS), st.integers(0, 1))
            return parts.map(lambda found: text[: found[0]] + found[1] + text[found[0] + found[2] :])

        composed = st.tuples(*map(st.sampled_from, (HEADS, NAMES, TAILS))).map("".join)
        paths, changed = st.sampled_from(self.paths), repeated(edited, "models:/sepsearch-vn@champion", 3)
        texts = st.one_of(paths, *[composed] * 4, changed)
        return texts.map(lambda text: {"name.txt": text.encode("utf-8", "surrogateescape")})

    def check(self, case: Case) -> bool:
        """Resolve it; raises `Wrong` if the folder is neither in the cache nor the one that was named."""
        text = (case["name.txt"] or b"").decode("utf-8", "surrogateescape")
        before = set(os.listdir(self.folder))
        found = resolve_model(text, self.uri)
        inside = found.resolve().is_relative_to((cache_folder() / "models").resolve())
        expect(inside if text.startswith("models:/") else found == Path(text), f"{found} for {text!r}")
        expect((found / CARD).is_file() and load_model(found)[1].instrument == "vn", f"{found} is no model")
        expect(set(os.listdir(self.folder)) - before <= {"cache"}, "something was written")
        return True
