"""Model folders, and their way into MLflow's registry and back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from plugin_fixtures import install_family

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.licence import find_licence
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, load_model, save_model
from sepsearch.tracking import champion as champions
from sepsearch.tracking import registry, tracker
from sepsearch.tracking.registry import register_model, register_models, resolve_model
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import cache_folder

CONFIG = make_config({"filters": 2, "activation": "silu"})


def card(**changes):
    return ModelCard(
        **{
            "instrument": "vn",
            "config": CONFIG,
            "front_end": FrontEnd(axis="log", low_hz=30.0),
            "constant": 12.5,
            "split": {"train": ["Jupiter"], "validation": ["Arioso"], "test": ["Pirates"]},
            "baselines": {"validation": {"identity": 0.25, "gain": 0.2}},
            "scores": {"ratio": 0.5, "test_ratio": 0.625},
            "caveat": "one title only",
            "fingerprint": "f1",
            "seeds": (0, 1, 2),
            "search": "duets",
            **changes,
        }
    )


def better_card(ratio=0.4, **changes):
    """Of a model that was scored on the same examples, with a lower ratio."""
    return card(scores={"ratio": ratio, "test_ratio": 0.625}, **changes)


def network(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return make_network(config).eval()


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "vn", network(), card())
    return tmp_path / "vn"


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def run_id(uri, tmp_path):
    client = tracker.connect(uri)
    experiment = client.create_experiment("sepsearch", (tmp_path / "mlartifacts").as_uri())
    return client.create_run(experiment, run_name="c0-s0").info.run_id


def change_card(folder, **changes):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | changes))


def refusal(folder):
    """The one line that a folder is refused with."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_saved_model_gives_back_its_card_and_the_networks_output(folder):
    loaded, read = load_model(folder)
    mixture = torch.rand(2, 1, 128, 128)
    assert torch.equal(loaded(mixture), network()(mixture))
    assert read == card(created=read.created)


def test_a_model_is_two_files_of_which_none_is_pickled(folder):
    assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}


def test_weights_that_are_not_the_cards_are_refused(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["detector.0.bias"] += 1
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    assert "not those that model.json names" in refusal(folder)


def test_weights_that_misfit_the_configuration_are_refused(folder):
    values = json.loads((folder / "model.json").read_text())
    change_card(folder, config=values["config"] | {"filters": 4})
    assert "expected (4, 1, 5, 5)" in refusal(folder)


def test_weights_of_another_form_are_refused(folder):
    values = json.loads((folder / "model.json").read_text())
    change_card(folder, config=values["config"] | {"detector_layers": 2})
    assert "misfit" in refusal(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    broken = network()
    with torch.no_grad():
        broken.regenerator.bias.fill_(float("nan"))
    save_model(tmp_path / "nan", broken, card())
    assert "not finite" in refusal(tmp_path / "nan")


def test_an_unknown_schema_is_refused(folder):
    change_card(folder, schema=99)
    assert "schema 99, expected 1" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": "kazoo"},
        {"constant": "loud"},
        {"front_end": {"axis": "round"}},
        {"config": {"filtres": 2}},
        {"surprise": 1},
        {"seeds": None},
        {"config": None},
    ],
)
def test_a_card_with_something_odd_is_refused(folder, changes):
    change_card(folder, **changes)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b'{"schema": 1}'])
def test_a_card_that_is_none_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    assert "model.json" in refusal(folder)


def test_a_registered_model_loads_through_pyfunc_and_equals_the_network(folder, uri, run_id, monkeypatch):
    mlflow = tracker.import_mlflow()
    model = register_model(folder, run_id, uri).address
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        served = mlflow.pyfunc.load_model(model)
    finally:
        mlflow.set_tracking_uri(before)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mixture = np.random.default_rng(0).random((2, 128, 128), dtype=np.float32)
    with torch.inference_mode():
        expected = network()(torch.from_numpy(mixture)[:, None])[:, 0].numpy()
    found = served.predict(mixture)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_registered_model_of_an_installed_family_requires_its_distribution_and_loads_through_pyfunc(
    uri, run_id, tmp_path, monkeypatch
):
    """The model's own copy of the modules has another name than the package whose `Family` the plug-in makes."""
    install_family(tmp_path, "served_net", "served-networks")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = make_config({"family": "served_net"})
    save_model(tmp_path / "own", network(config=config), card(config=config))
    register_model(tmp_path / "own", run_id, uri)
    (logged,) = (tmp_path / "mlartifacts" / "models").iterdir()
    assert "served-networks==1.0" in (logged / "artifacts" / "requirements.txt").read_text().split()
    served = tracker.import_mlflow().pyfunc.load_model(str(logged / "artifacts"))
    assert served.predict(np.ones((1, 128, 128), dtype=np.float32)).shape == (1, 128, 128)


def test_a_logged_model_holds_no_pickle_and_brings_its_own_code(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    (logged,) = (tmp_path / "mlartifacts" / "models").iterdir()
    files = [path for path in logged.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {"", ".py", ".json", ".yaml", ".txt", ".md", ".safetensors"}
    assert {path.name for path in files if not path.suffix} == {"MLmodel"}
    code = [path.relative_to(logged) for path in files if "code" in path.parts]
    assert any(path.parts[-2:] == ("models", "families.py") for path in code)
    assert len(code) < 30
    # Else it would hide the installed package: MLflow puts a model's code first on sys.path.
    assert not any("sepsearch" in path.parts for path in code)


def test_a_logged_model_runs_where_this_package_is_not_installed(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    (logged,) = (tmp_path / "mlartifacts" / "models").iterdir()
    program = (
        "import sys; sys.modules['sepsearch'] = None; import mlflow, numpy as np;"
        " model = mlflow.pyfunc.load_model(sys.argv[1]);"
        " print(model.predict(np.ones((1, 128, 128), np.float32)).shape)"
    )
    command = [sys.executable, "-c", program, str(logged / "artifacts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["(1,", "128,", "128)"], done.stderr


def test_a_version_says_how_good_it_is_and_how_to_read_that(folder, uri, run_id):
    register_model(folder, run_id, uri)
    version = tracker.connect(uri).get_model_version_by_alias("sepsearch-vn", "champion")
    assert version.run_id == run_id
    assert {key: version.tags[key] for key in ("ratio", "test_ratio", "search", "caveat")} == {
        "ratio": "0.500",
        "test_ratio": "0.625",
        "search": "duets",
        "caveat": "one title only",
    }
    assert "one title only" in version.description


def test_the_champion_moves_to_the_newer_version(folder, uri, run_id, tmp_path):
    assert register_model(folder, run_id, uri).address == "models:/sepsearch-vn/1"
    save_model(tmp_path / "better", network(seed=1), better_card())
    assert register_model(tmp_path / "better", run_id, uri).address == "models:/sepsearch-vn/2"
    found, _ = load_model(resolve_model("models:/sepsearch-vn@champion", uri))
    torch.testing.assert_close(found.state_dict(), network(seed=1).state_dict())
    older, _ = load_model(resolve_model("models:/sepsearch-vn/1", uri))
    torch.testing.assert_close(older.state_dict(), network().state_dict())


def test_registering_the_same_model_again_makes_no_second_version(folder, uri, run_id):
    assert (
        register_model(folder, run_id, uri).address
        == register_model(folder, run_id, uri).address
        == "models:/sepsearch-vn/1"
    )


class Dying:
    """A client of a process that dies in one call: before it, or when it went through but nobody heard of it."""

    def __init__(self, client, method, through):
        self._client, self._method, self._through = client, method, through

    def __getattr__(self, name):
        def call(*arguments, **options):
            if self._through:
                getattr(self._client, name)(*arguments, **options)
            raise KeyboardInterrupt

        return call if name == self._method else getattr(self._client, name)


@pytest.mark.parametrize("through", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "method",
    [
        "create_registered_model",
        "create_logged_model",
        "log_model_artifacts",
        "finalize_logged_model",
        "log_outputs",
        "create_model_version",
        "set_logged_model_tags",
        "set_registered_model_alias",
        "set_registered_model_tag",
        "set_model_version_tag",
    ],
)
def test_a_registration_that_was_killed_is_finished_and_nothing_is_there_twice(
    folder, uri, run_id, monkeypatch, method, through
):
    client = tracker.connect(uri)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "connect", lambda uri: Dying(client, method, through))
        with pytest.raises(KeyboardInterrupt):
            register_model(folder, run_id, uri)
    assert register_model(folder, run_id, uri).address == "models:/sepsearch-vn/1"
    run = client.get_run(run_id)
    (logged,) = client.search_logged_models([run.info.experiment_id])
    (version,) = client.search_model_versions("name = 'sepsearch-vn'")
    assert (str(logged.status), version.source) == ("READY", logged.artifact_location)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "sepsearch-vn", "version": "1"}]
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert str(client.get_model_version_by_alias("sepsearch-vn", "champion").version) == "1"
    load_model(resolve_model("models:/sepsearch-vn@champion", uri))


def test_the_alias_does_not_move_back_when_an_older_model_is_registered_again(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    save_model(tmp_path / "better", network(seed=1), better_card())
    register_model(tmp_path / "better", run_id, uri)
    assert register_model(folder, run_id, uri).address == "models:/sepsearch-vn/1"
    assert str(tracker.connect(uri).get_model_version_by_alias("sepsearch-vn", "champion").version) == "2"


def later_models(folder, run_id, uri, tmp_path, count):
    """Register newer and better models of later searches; what became of the alias."""
    outcomes = []
    for seed in range(1, count + 1):
        save_model(tmp_path / f"later{seed}", network(seed=seed), better_card(0.4 - 0.1 * seed))
        outcomes.append(register_model(tmp_path / f"later{seed}", run_id, uri))
    return outcomes


def champion(uri):
    return str(tracker.connect(uri).get_model_version_by_alias("sepsearch-vn", "champion").version)


def test_better_models_move_the_champion_on_as_long_as_no_person_has_picked_one(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    outcomes = later_models(folder, run_id, uri, tmp_path, 2)
    assert [(outcome.before, outcome.now) for outcome in outcomes] == [("1", "2"), ("2", "3")]
    assert champion(uri) == "3"


def test_a_champion_that_a_person_set_on_mlflows_pages_stays_and_the_new_version_is_told(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    later_models(folder, run_id, uri, tmp_path, 1)
    tracker.connect(uri).set_registered_model_alias("sepsearch-vn", "champion", "1")
    outcomes = later_models(folder, run_id, uri, tmp_path, 2)
    assert champion(uri) == "1"
    assert [(outcome.now, outcome.why) for outcome in outcomes] == [("1", "a person picked version 1")] * 2


def test_a_process_that_died_while_it_moved_the_alias_is_not_taken_for_a_person(
    folder, uri, run_id, tmp_path, monkeypatch
):
    register_model(folder, run_id, uri)
    save_model(tmp_path / "better", network(seed=7), better_card())
    client = tracker.connect(uri)
    for through in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(
                registry, "connect", lambda uri, through=through: Dying(client, "set_registered_model_alias", through)
            )
            with pytest.raises(KeyboardInterrupt):
                register_model(tmp_path / "better", run_id, uri)
    later_models(folder, run_id, uri, tmp_path, 1)
    assert champion(uri) == "3"


def test_a_registry_of_an_earlier_version_is_taken_over(folder, uri, run_id, tmp_path):
    register_model(folder, run_id, uri)
    tracker.connect(uri).delete_registered_model_tag("sepsearch-vn", champions.BY_SEARCH)
    later_models(folder, run_id, uri, tmp_path, 1)
    assert champion(uri) == "2"


def test_a_version_hangs_at_the_searchs_run_of_the_instrument_and_is_found_where_it_was_before(folder, uri, run_id):
    client = tracker.connect(uri)
    client.set_tag(run_id, "sepsearch.run", "abc")
    assert register_model(folder, run_id, uri).address == "models:/sepsearch-vn/1"
    experiment = client.get_run(run_id).info.experiment_id
    own = client.create_run(experiment, tags={"sepsearch.key": "abc/vn", "mlflow.parentRunId": run_id}).info.run_id
    assert register_model(folder, run_id, uri).address == "models:/sepsearch-vn/1"
    other = client.create_run(experiment, tags={"sepsearch.key": "def/vc", "sepsearch.run": "def"}).info.run_id
    client.set_tag(own, "sepsearch.key", "def/vn")
    register_model(folder, other, uri)
    assert client.get_model_version("sepsearch-vn", "2").run_id == own


def test_a_version_and_its_files_have_a_card_with_data_licence_seeds_baselines_and_use(folder, uri, run_id, tmp_path):
    data = {"pieces": 4, "clips": 9, "source": "quartets", "licence": "CC0"}
    scores = {
        "ratio": 0.5,
        "ratio_mean": 0.52,
        "ratio_sd": 0.02,
        "ratio_interval": [0.49, 0.55],
        "si_sdr_gain_db": 3.0,
        "named_test_ratio": 0.456,
        "named_si_sdr_gain_db": 5.4,
        "protocol": "test titles",
        "audio": {"oracle_gain": {"si_sdr_db": 9.0}},
    }
    baselines = {"validation": {"identity": 0.25, "gain": 0.2}, "test": {"identity": 0.5, "gain": 0.3}}
    save_model(tmp_path / "full", network(), card(data=data, scores=scores, baselines=baselines))
    register_model(tmp_path / "full", run_id, uri)
    text = tracker.connect(uri).get_model_version("sepsearch-vn", "1").description
    for part in (
        "CC0",
        "4 pieces, 9 clips, from quartets",
        "train: Jupiter; validation: Arioso; test: Pirates",
        "0.520 ± 0.020 (mean ± sd), interval of the mean 0.490 to 0.550",
        "the best constant gain | 0.800 | 0.600",
        "3.0 dB; the oracle mask's is 9.0 dB",
        "ratio on the test titles 0.456, SI-SDR gain 5.4 dB",
        "Read with care:** one title only",
        "models:/sepsearch-vn/N",
    ):
        assert part in text
    (readme,) = (tmp_path / "mlartifacts" / "models").glob("*/artifacts/README.md")
    assert "Licence of the recordings: CC0" in readme.read_text()


def test_a_card_whose_scores_are_no_numbers_is_refused_in_one_line(tmp_path, uri, run_id):
    save_model(tmp_path / "odd", network(), card(scores={"si_sdr_gain_db": 1.0, "audio": 5}))
    with pytest.raises(UserError, match="not what a search writes") as caught:
        register_model(tmp_path / "odd", run_id, uri)
    assert "\n" not in str(caught.value)


def test_a_card_whose_split_is_none_is_refused_in_one_line(tmp_path, uri, run_id):
    save_model(tmp_path / "odd", network(), card())
    change_card(tmp_path / "odd", split={"train": 5})
    with pytest.raises(UserError, match="split: train: input should be a valid list, found 5") as caught:
        register_model(tmp_path / "odd", run_id, uri)
    assert "\n" not in str(caught.value)


def test_a_damaged_model_does_not_keep_the_others_from_being_registered(folder, uri, run_id, tmp_path):
    save_model(tmp_path / "vc", network(), card(instrument="vc"))
    change_card(folder, schema=99)
    models, problems, _ = register_models({"vn": folder, "vc": tmp_path / "vc"}, run_id, uri)
    assert models == {"vc": "models:/sepsearch-vc/1"}
    assert len(problems) == 1
    assert "schema 99" in problems[0]


def test_a_registry_that_is_away_is_asked_for_one_model_only(folder, uri, run_id, tmp_path, monkeypatch):
    asked = []

    def refuse(uri):
        asked.append(uri)
        raise ConnectionError("connection refused\nand a long trace")

    monkeypatch.setattr(registry, "connect", refuse)
    models, problems, _ = register_models({"vn": folder, "va": folder}, run_id, uri)
    assert (models, problems) == ({}, ["vn was not registered: connection refused"])
    assert asked == [uri]


def test_a_damaged_model_is_not_registered(folder, uri, run_id):
    change_card(folder, schema=99)
    with pytest.raises(UserError, match="schema 99"):
        register_model(folder, run_id, uri)
    assert not tracker.connect(uri).search_registered_models()


def test_a_folder_resolves_to_itself(folder, uri):
    assert resolve_model(str(folder), uri) == folder


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("models:/sepsearch-kazoo@champion", "expected one of: sepsearch-vn"),
        ("models:/sepsearch-vn@best", "expected one of: champion"),
        ("models:/sepsearch-vn/7", "expected one of: 1"),
        ("models:/sepsearch-vn/one", "expected one of: 1"),
        ("nowhere/vn", "expected a folder with model.json"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_those_that_are(folder, uri, run_id, name, there):
    register_model(folder, run_id, uri)
    with pytest.raises(UserError, match="no ") as caught:
        resolve_model(name, uri)
    assert there in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "models:/../../x",
        "models:/",
        "models://sepsearch-vn/1",
        "models:/sepsearch-vn/1/2",
        "models:/sepsearch-vn@",
        "models:/sepsearch-vn/..",
        "models:/sepsearch-vn@a/b",
        "models:/vn' or name != '",
        "models:/a\nb",
        "models:/.",
        "models:/sepsearch-vn/1@champion",
        "models:/a:b",
    ],
)
def test_an_odd_name_of_a_model_is_refused_in_one_line_with_what_is_expected(uri, name):
    with pytest.raises(
        UserError, match="expected models:/sepsearch-vn@champion, models:/sepsearch-vn/3 or a folder"
    ) as caught:
        resolve_model(name, uri)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_database_is_an_error_of_one_line(tmp_path):
    (tmp_path / "none.db").write_text("a text")
    with pytest.raises(UserError, match="does not provide") as caught:
        resolve_model("models:/sepsearch-vn@champion", f"sqlite:///{tmp_path / 'none.db'}")
    assert "\n" not in str(caught.value)


def test_looking_for_a_model_makes_no_database(tmp_path):
    with pytest.raises(UserError, match="no MLflow database"):
        resolve_model("models:/sepsearch-vn@champion", f"sqlite:///{tmp_path / 'none.db'}")
    assert not list(tmp_path.iterdir())


def test_the_same_name_and_version_of_two_stores_are_kept_apart(folder, uri, run_id, tmp_path, empty_store):
    register_model(folder, run_id, uri)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    shutil.copy(empty_store, tmp_path / "other.db")
    client = tracker.connect(other)
    run = client.create_run(client.create_experiment("sepsearch", (tmp_path / "others").as_uri()))
    save_model(tmp_path / "other", network(seed=1), card())
    register_model(tmp_path / "other", run.info.run_id, other)
    found = [resolve_model("models:/sepsearch-vn@champion", store) for store in (uri, other)]
    assert found[0] != found[1]


def test_a_model_of_somebody_else_is_refused(uri, tmp_path):
    client = tracker.connect(uri)
    client.create_registered_model("sepsearch-vn")
    (tmp_path / "strange").mkdir()
    client.create_model_version("sepsearch-vn", str(tmp_path / "strange"))
    with pytest.raises(UserError, match="sepsearch-vn"):
        resolve_model("models:/sepsearch-vn/1", uri)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("LICENSE", "\n# CC0 1.0 Universal\nmore", "CC0 1.0 Universal (file LICENSE of the recordings)"),
        ("licence.txt", "CC BY 4.0", "CC BY 4.0 (file licence.txt of the recordings)"),
        ("COPYING", "", "unknown: ask the people who recorded them"),
        ("notes.txt", "CC0", "unknown: ask the people who recorded them"),
    ],
)
def test_the_licence_of_recordings_is_that_of_a_file_in_their_folder_or_unknown(tmp_path, name, content, found):
    (tmp_path / name).write_text(content)
    assert find_licence(tmp_path).startswith(found)


def test_a_licence_that_cannot_be_read_is_unknown(tmp_path, monkeypatch):
    (tmp_path / "LICENSE").write_text("CC0")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert find_licence(tmp_path).startswith("unknown")
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert find_licence(tmp_path).startswith("unknown")


def test_the_demo_ensembles_terms_are_known():
    assert "TimGM6mb" in find_licence(cache_folder() / "demo-abc")
