"""Fuzzing names of models: slashes, quotes, wildcards, other schemes, odd numbers; against a local registry."""

import os
from pathlib import Path
from random import Random

import torch
from fuzz_bytes import Case, expect

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.families import ReportConfig, make_network
from sepsearch.models.saved_model import CARD, ModelCard, load_model, save_model
from sepsearch.tracking.registry import register_model, resolve_model
from sepsearch.utils.files import cache_folder

NAMES = ["sepsearch-vn", "sepsearch-vn", "sepsearch-vc", "sepsearch-", "", "..", ".", "/", "//", "../..", "%", "_",
         "*", "'", '"', "\\", ";",
         "' OR '1'='1", "x' or name LIKE '%", "sepsearch-vn'", "\0", "\n", "\udcff", "\u202e", "é", "日本", "a" * 255,
         "a" * 5000,
         "m-" + "0" * 32, "%2e%2e", "sepsearch-vn\\..\\x", "C:\\", "~", "$HOME", "sepsearch-vn ", "SEPSEARCH-VN",
         "None"]  # fmt: skip
TAILS = ["@champion", "@champion", "/1", "/latest", "", "/", "/0", "/-1", "/1.0", "/١", "/²", "/1e0", "/01", "/ 1",
         "/" + "9" * 30,
         "/" + "9" * 5000, "/Production", "@", "@@", "@../..", "@champion/1", "/1@champion", "/1/../..", "/../1",
         "@'", "@\0", "@\udcff",
         "@" + "a" * 5000, "/1?x=y", "/1#x", "@latest", "/1\n"]  # fmt: skip
HEADS = ["models:/", "models:/", "models:/", "models://", "models:", "models:/../", "models:/./", "Models:/",
         "runs:/", "file:///", "/", "../", "./",
         "", "http://127.0.0.1:9/", "mlflow-artifacts:/", "models:/models:/", "\0", "models:/ ",
         " models:/"]  # fmt: skip
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
        config = ReportConfig(filters=1)
        figures = {"scores": {"ratio": 0.5}, "baselines": {"validation": {"identity": 1.0, "gain": 0.9}}}
        save_model(folder / "vn", make_network(config), ModelCard("vn", config, FrontEnd(), 12.5, **figures))
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        run = client.create_run(client.create_experiment("fuzz", (folder / "artifacts").as_uri()))
        register_model(folder / "vn", run.info.run_id, self.uri)
        self.paths = ["vn", "./vn", "vn/", "vn/model.json", str(folder / "vn"), "vn/../vn", "artifacts", ".", "..",
                      "/", "vn\0", "v" * 300,
                      "vn/" * 2000, "mlflow.db"]  # fmt: skip

    def make(self, rng: Random) -> Case:
        """A model's name."""
        kind = rng.random()
        if kind < 0.15:
            text = rng.choice(self.paths)
        elif kind < 0.8:
            text = rng.choice(HEADS) + rng.choice(NAMES) + rng.choice(TAILS)
        else:
            text = "models:/sepsearch-vn@champion"
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(text) + 1)
                text = text[:place] + rng.choice(CHARS) + text[place + rng.randint(0, 1) :]
        return {"name.txt": text.encode("utf-8", "surrogateescape")}

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
