"""Model folders of unknown origin, and what the package never does: unpickle."""

import ast
import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hostile import damages, few, fuzz, fuzz_models, fuzz_target, refusal, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

import sepsearch
from sepsearch.models.saved_model import CARD, WEIGHTS, load_model
from sepsearch.utils.errors import UserError

PACKAGE = Path(sepsearch.__file__).parent
# What reads pickles, runs text, or makes objects of what a file says.
FORBIDDEN = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "torch.load",
    "torch.jit.load",
    "torch.package",
    "pandas.read_pickle",
    "eval",
    "exec",
    "compile",
    "__import__",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.Loader",
    "yaml.UnsafeLoader",
    "yaml.FullLoader",
    "yaml.CLoader",
    "allow_pickle",
    "os.system",
    "os.popen",
}


# Searcher.save and restore, which Ray Tune calls in other people's tuners: it has unpickled the whole tuner from the same
# folder before. sepsearch's own search never restores one.
ALLOWED = {"study_search": {"pickle", "pickle.dumps", "pickle.loads"}}


@pytest.fixture
def saved(tmp_path):
    with fuzz_target(fuzz_models, tmp_path) as target:
        yield target


def put(target, weights, **changes):
    """Put weights into the folder, and a card whose checksums fit."""
    (target.folder / WEIGHTS).write_bytes(weights)
    values = target.values | {"weights_sha256": hashlib.sha256(weights).hexdigest()} | changes
    (target.folder / CARD).write_text(json.dumps(fuzz_models.reseal(values)))


def test_a_pickle_under_the_name_of_weights_is_refused_and_not_unpickled(saved):
    put(saved, pickle.dumps(fuzz_models.Pickled()))
    assert "cannot be read as weights" in refusal(lambda: load_model(saved.folder))
    assert not Path("unpickled").exists()


def test_a_checkpoint_of_torch_under_the_name_of_weights_is_refused(saved):
    torch.save(saved.state, "model.pt")
    assert zipfile.is_zipfile("model.pt")
    put(saved, Path("model.pt").read_bytes())
    assert "cannot be read as weights" in refusal(lambda: load_model(saved.folder))


def test_a_card_that_claims_a_giant_is_refused_before_it_is_built(saved, monkeypatch):
    devices = []
    real = torch.nn.Linear.__init__
    monkeypatch.setattr(
        torch.nn.Linear, "__init__", lambda self, *given: real(self, *given) or devices.append(self.weight.device.type)
    )
    giant = saved.values["config"] | {"filters": 1024, "detector_layers": 2, "detector_width": 65536}
    put(saved, saved.files[WEIGHTS], config=giant)
    assert "misfit" in refusal(lambda: load_model(saved.folder))
    assert set(devices) == {"meta"}


@pytest.mark.parametrize(
    "changes",
    [
        {"constant": 0},
        {"constant": float("nan")},
        {"constant": 10**400},
        {"scores": []},
        {"instrument": ["vn"]},
        {"search": 3},
        {"schema": [1]},
        {"front_end": {"window": 4096.0}},
        {"front_end": {"low_hz": True}},
        {"seeds": 3},
        {"weights_sha256": None},
    ],
)
def test_a_card_of_odd_values_is_refused_though_its_checksum_fits(saved, changes):
    (saved.folder / CARD).write_text(json.dumps(fuzz_models.reseal(saved.values | changes)))
    assert "\n" not in refusal(lambda: load_model(saved.folder))


def test_a_card_of_brackets_is_refused(saved):
    (saved.folder / CARD).write_text("[" * 100_000)
    assert "no model card" in refusal(lambda: load_model(saved.folder))


@few
@given(st.data())
def test_a_flipped_bit_of_a_saved_model_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    with fuzz_target(fuzz_models, folder) as target:
        name = data.draw(st.sampled_from([CARD, WEIGHTS]))
        content = bytearray(target.files[name])
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        try:
            assert fuzz.judge(target, {name: bytes(content)}) == "refused" or chr(content[bit // 8]).isspace()
        finally:
            assert load_model(target.folder)[1] == target.card


def test_the_fuzzers_models_are_refused_or_what_was_saved(saved):
    assert verdicts(saved, 80) == {"accepted", "refused"}


def names_used(tree):
    """Every dotted name that a module imports, calls or touches, by the names that modules have of their own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.keyword):
            yield str(node.arg)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_unpickled_or_run_from_a_file(path):
    used = set(names_used(ast.parse(path.read_text())))
    found = {name for name in used if name in FORBIDDEN or name.split(".")[0] in FORBIDDEN}
    assert found == ALLOWED.get(path.stem, set())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_yaml_is_read_by_the_loader_without_tags_alone(path):
    used = set(names_used(ast.parse(path.read_text())))
    assert not used & {"yaml.load", "yaml.load_all", "yaml.safe_load", "yaml.safe_load_all", "yaml.parse"}
    assert path == PACKAGE / "utils" / "yaml.py" or not any(name.split(".")[0] == "ruamel" for name in used)


def test_the_search_for_forbidden_names_finds_them():
    text = "import pickle\nfrom torch import load\nimport numpy as np\nnp.load('x', allow_pickle=True)\neval('1')"
    assert {"pickle", "torch.load", "allow_pickle", "eval"} <= set(names_used(ast.parse(text)))


class Planted:
    """A target with a fault: bytes that hold it are a KeyError (NUL) or an error of two lines (newline)."""

    typed = False

    def __init__(self, fault):
        self.fault = fault

    def check(self, case):
        if self.fault in case["file"]:
            if self.fault == b"\0":
                raise KeyError("planted")
            raise UserError("two\nlines")
        return True

    def cases(self):
        return damages.repeated(damages.damaged, b"a" * 30, 2).map(lambda data: {"file": data})


@pytest.mark.parametrize(
    ("fault", "problem"), [(b"\0", "KeyError"), (b"\n", "an error of 9 characters that is no one line")]
)
def test_the_fuzzer_finds_a_planted_fault_makes_it_small_and_finds_it_again(fault, problem, tmp_path):
    target = Planted(fault)
    assert fuzz.judge(target, {"file": b"abc"}) == "accepted"
    options = settings(max_examples=3000, database=DirectoryBasedExampleDatabase(tmp_path))
    counts, problems = fuzz.check_inputs(target, options)
    assert counts["accepted"] > 0
    ((found, case),) = problems.items()
    assert problem in found
    assert case["file"].strip(b"a") == fault
    assert set(fuzz.check_inputs(target, settings(options, max_examples=1), 1)[1]) == {found}


def test_the_fuzzer_notices_a_hang(monkeypatch):
    def wait(case):
        while True:
            pass

    target = Planted(b"\0")
    target.check = wait
    monkeypatch.setattr(fuzz, "PATIENCE", 0.05)
    with pytest.raises(damages.Wrong, match="hang"):
        fuzz.judge(target, {})
