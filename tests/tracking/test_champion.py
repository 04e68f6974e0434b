"""Which version of a registered model is champion: a worse model never replaces a better one, and all is said."""

import copy
import itertools
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.data.preparation import prepare
from sepsearch.data.prepared import gather_data
from sepsearch.models.families import make_config, make_network
from sepsearch.models.saved_model import ModelCard, save_model
from sepsearch.spaces.space import parse_space
from sepsearch.tracking import champion as champions
from sepsearch.tracking import tracker
from sepsearch.tracking.champion import (
    BY_SEARCH,
    CONTENDER,
    SETTLED,
    Verdict,
    beats_baselines,
    compare_on,
    compare_recorded,
    pick_champion,
    settle_champion,
)
from sepsearch.tracking.descriptions import champion_line, champion_lines
from sepsearch.tracking.registry import find_version, register_model
from sepsearch.utils.errors import UserError

CONFIG = make_config({"filters": 2, "activation": "silu"})
FRONT_END = FrontEnd(clip_seconds=1.0)


class Gain(nn.Module):
    """A network that scales its input."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return self.gain * mixture


class LowBands(nn.Module):
    """A network that keeps the lower half of the bands."""

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return mixture * (torch.arange(mixture.shape[-1]) < mixture.shape[-1] // 2)


def card(ratio=0.5, **changes):
    facts = {
        "instrument": "vn",
        "config": CONFIG,
        "front_end": FRONT_END,
        "constant": 1.0,
        "fingerprint": "f1",
        "split": {"train": ["a"], "validation": ["b"], "test": ["c"]},
        "scores": {"ratio": ratio},
        "baselines": {"validation": {"identity": 0.5, "gain": 0.4}},
    }
    return ModelCard(**{**facts, **changes})


def model(**changes):
    return nn.Identity(), card(**changes)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(champions, "SETTLING", 0.0)


@pytest.fixture
def uri(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "cache"))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri):
    return tracker.connect(uri)


@pytest.fixture
def run_id(client, tmp_path):
    return client.create_run(client.create_experiment("sepsearch", (tmp_path / "files").as_uri())).info.run_id


def register(tmp_path, run_id, uri, seed, **changes):
    torch.manual_seed(seed)
    save_model(tmp_path / f"m{seed}", make_network(CONFIG).eval(), card(**changes))
    return register_model(tmp_path / f"m{seed}", run_id, uri)


def champion(client, name="sepsearch-vn"):
    alias = client.get_registered_model(name).aliases.get("champion")
    return None if alias is None else str(alias)


def test_a_worse_model_is_registered_and_does_not_replace_the_champion(client, uri, run_id, tmp_path):
    register(tmp_path, run_id, uri, 0, ratio=0.436)
    outcome = register(tmp_path, run_id, uri, 1, ratio=0.7)
    assert champion(client) == "1"
    assert outcome.address == "models:/sepsearch-vn/2"
    assert (outcome.before, outcome.now) == ("1", "1")
    assert outcome.why == "ratio 0.700 against 0.436 on the same validation titles"


@pytest.mark.parametrize(
    ("ratio", "why"),
    [
        (1.568, "ratio 1.568 does not beat the identity (1)"),
        (0.85, "ratio 0.850 does not beat the best constant gain (0.800)"),
        (math.nan, "its card lacks a finite ratio"),
    ],
)
def test_a_model_that_does_not_beat_identity_and_constant_gain_is_no_champion_even_where_there_is_none(
    client, uri, run_id, tmp_path, ratio, why
):
    outcome = register(tmp_path, run_id, uri, 0, ratio=ratio)
    assert champion(client) is None
    assert outcome.now is None
    assert outcome.why.startswith(why)


def test_where_no_version_is_champion_the_line_says_why_and_what_to_use(client, uri, run_id, tmp_path):
    register(tmp_path, run_id, uri, 0, ratio=0.85)
    with pytest.raises(UserError, match=r"has no champion, since .* \(--model models:/sepsearch-vn/1\)"):
        find_version(client, "models:/sepsearch-vn@champion")


def test_a_better_model_of_other_data_without_recordings_to_compare_does_not_replace_the_champion(
    client, uri, run_id, tmp_path
):
    register(tmp_path, run_id, uri, 0)
    outcome = register(tmp_path, run_id, uri, 1, ratio=0.1, fingerprint="f2")
    assert champion(client) == "1"
    assert "no recordings here to compare" in outcome.why


def test_a_champion_that_cannot_be_fetched_stays(client, uri, run_id, tmp_path):
    register(tmp_path, run_id, uri, 0)
    shutil.rmtree(tmp_path / "files")
    outcome = register(tmp_path, run_id, uri, 1, ratio=0.1)
    assert champion(client) == "1"
    assert outcome.why.startswith("version 1 cannot be fetched and scored")


def test_a_persons_choice_stays_although_the_new_model_is_better(client, uri, run_id, tmp_path):
    register(tmp_path, run_id, uri, 0)
    pick_champion(client, "sepsearch-vn", "1")
    outcome = register(tmp_path, run_id, uri, 1, ratio=0.1)
    assert champion(client) == "1"
    assert outcome.why == "a person picked version 1"


def test_an_alias_that_was_settled_before_is_left_as_it_is(client, uri, run_id, tmp_path):
    first = register(tmp_path, run_id, uri, 0, ratio=0.2)
    register(tmp_path, run_id, uri, 1, ratio=0.1)
    outcome = register_model(tmp_path / "m0", run_id, uri, lambda *_: Verdict(True, "now"), settled=first.address)
    assert champion(client) == "2"
    assert outcome.why == ""


@pytest.mark.parametrize(
    ("changes", "better"),
    [
        ({"ratio": 0.4}, True),
        ({"ratio": 0.5}, False),
        ({"ratio": 0.4, "fingerprint": "f2"}, None),
        ({"ratio": 0.4, "split": {"validation": ["d"]}}, None),
        ({"ratio": 0.4, "baselines": {"validation": {"identity": 0.51, "gain": 0.4}}}, None),
        ({"ratio": "good"}, None),
    ],
)
def test_recorded_ratios_compare_only_where_they_were_measured_on_the_same_examples(changes, better):
    assert compare_recorded(model(**changes), model()).better is better


def test_baselines_are_those_of_the_models_own_validation_titles():
    assert beats_baselines(card(ratio=0.79)).better
    assert not beats_baselines(card(ratio=0.79, baselines={"validation": {"identity": 0.5, "gain": 0.3}})).better


@pytest.fixture(scope="module")
def prepared(tree):
    space = parse_space({"parameters": {"filters": [2]}, "front_end": {"clip_seconds": 1.0}}, "test")
    recordings, shards = prepare(tree, space.front_end.resolve(), lambda *_: None)
    return gather_data(recordings, shards, ("vn", "ob"), 0, (0.6, 0.2, 0.2), space.search.validation_examples)


@pytest.fixture
def own(prepared):
    """A card of a model of this data set; `changes` make it another model's."""

    def made(**changes):
        facts = {
            "fingerprint": prepared.shards.fingerprint,
            "split": prepared.split.titles(),
            "front_end": prepared.shards.front_end,
            "constant": prepared.shards.constant,
        }
        return card(**{**facts, **changes})

    return made


def test_models_of_one_front_end_are_compared_by_ratio_on_the_runs_validation_titles(prepared, own):
    losses = {name: prepared.baselines["validation"][name]["vn"] for name in ("identity", "zero")}
    verdict = compare_on(prepared)((Gain(0.0), own()), (Gain(1.0), own()))
    expected = losses["zero"] / losses["identity"]
    assert verdict.why.startswith(f"ratio {expected:.3f} against 1.000 on ")
    assert verdict.better is (expected < 1)
    assert compare_on(prepared)((Gain(1.0), own()), (Gain(0.0), own())).better is (expected > 1)


def test_equal_models_leave_the_champion(prepared, own):
    assert compare_on(prepared)((Gain(1.0), own()), (Gain(1.0), own())).better is False


@pytest.mark.parametrize("other", [{"front_end": FrontEnd(axis="log", low_hz=30.0)}, {"constant": 1e3}])
def test_models_of_other_front_ends_are_compared_by_separated_audio(prepared, own, other):
    passing, low = (Gain(1.0), own()), (LowBands(), own(**other))
    verdict, reverse = (
        compare_on(prepared)(passing, low),
        compare_on(prepared)((LowBands(), own()), (Gain(1.0), own(**other))),
    )
    assert "SI-SDR gain 0.0 dB against" in verdict.why
    assert "the front ends differ" in verdict.why
    assert verdict.better is not reverse.better


def test_it_is_said_how_many_validation_titles_the_champion_was_trained_on(prepared, own):
    titles = sorted({prepared.index.titles[piece] for piece in prepared.examples["vn"]["validation"].piece})
    known = own(fingerprint="other", split={"train": titles[:1]})
    verdict = compare_on(prepared)((Gain(0.0), own()), (Gain(1.0), known))
    assert f"on {len(titles)} validation title" in verdict.why
    assert "(1 of which the champion was trained on, in its favour)" in verdict.why
    assert "in its favour" not in compare_on(prepared)((Gain(0.0), own()), (Gain(1.0), own())).why


def test_an_instrument_validated_on_titles_it_was_trained_on_is_not_compared_with_a_model_of_other_data(prepared, own):
    assert "ob" in prepared.rules
    mine = Gain(0.0), own(instrument="ob")
    assert compare_on(prepared)(mine, (Gain(1.0), own(instrument="ob", fingerprint="other"))).better is None
    assert compare_on(prepared)(mine, (Gain(1.0), own(instrument="ob"))).better is not None


def test_a_model_that_gives_no_numbers_leaves_the_champion(prepared, own):
    assert compare_on(prepared)((Gain(1.0), own()), (Gain(math.nan), own())).better is None


def test_a_line_says_what_the_champion_was_and_is_and_the_command_that_restores_it():
    facts = {"name": "sepsearch-vn", "version": "5", "before": "4", "now": "5", "why": "ratio 0.412 against 0.436"}
    line = champion_line("vn", facts)
    assert line.startswith("violin: champion is version 5, before: version 4; ratio 0.412 against 0.436; to undo: ")
    assert line.endswith("-m sepsearch.promote models:/sepsearch-vn/4 --instrument vn")
    line = champion_line("vn", {**facts, "now": "4", "why": "ratio 1.5\nand more"}, "http://host")
    assert line.startswith("violin: version 4 stays champion; version 5: ratio 1.5 and more; to choose version 5: ")
    assert line.endswith("-m sepsearch.promote models:/sepsearch-vn/5 --instrument vn --uri http://host")
    assert champion_line("vn", {**facts, "before": None, "now": None}).startswith("violin: no champion; version 5: ")
    assert champion_line("vn", {**facts, "before": None}).endswith("before: none; ratio 0.412 against 0.436")


def test_first_champions_share_a_line_and_the_others_have_one_each():
    first = {"name": "sepsearch-vc", "version": "1", "before": None, "now": "1", "why": "ratio 0.4"}
    kept = {"name": "sepsearch-vn", "version": "5", "before": "4", "now": "4", "why": "ratio 0.5"}
    lines = champion_lines({"vc": first, "vn": kept, "db": {**first, "name": "sepsearch-db"}})
    assert lines == ["champions, where there was none: version 1 of cello, double bass", champion_line("vn", kept)]
    assert champion_lines({"vc": first}) == [champion_line("vc", first)]


class Registry:
    """One registered model in memory, with the calls of MLflow's client that aliases and tags need."""

    def __init__(self, versions: int):
        self.aliases: dict[str, int] = {}  # MLflow gives numbers, whatever was set
        self.tags: dict[str, str] = {}
        self.versions = {str(n + 1): SimpleNamespace(version=n + 1, tags={}) for n in range(versions)}

    def get_registered_model(self, name):
        return SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.tags))

    def set_registered_model_alias(self, name, alias, version):
        self.aliases[alias] = int(version)

    def set_registered_model_tag(self, name, key, value):
        self.tags[key] = value

    def get_model_version(self, name, version):
        return copy.deepcopy(self.versions[version])

    def search_model_versions(self, query):
        return copy.deepcopy(list(self.versions.values()))

    def set_model_version_tag(self, name, version, key, value):
        self.versions[version].tags[key] = value

    def delete_model_version_tag(self, name, version, key):
        raise AssertionError("MLflow's permission EDIT, which searchers have, does not delete")


class Interrupted:
    """A client, and what happens just before its call of a number."""

    def __init__(self, client, number, other):
        self._client, self._left, self._other = client, number, other

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments):
            self._left -= 1
            if self._left == -1:
                self._other()
            return method(*arguments)

        return call


def settle(client, version, ratios):
    """As a search whose version has the ratio of that place."""

    def compare(other):
        return Verdict(ratios[int(version) - 1] < ratios[int(other) - 1], "figures")

    return settle_champion(client, "sepsearch-vn", version, Verdict(True, "figures"), compare)


@pytest.mark.parametrize("ratios", list(itertools.permutations((0.5, 0.4, 0.3))), ids=str)
@pytest.mark.parametrize(("mine", "others"), [("2", "3"), ("3", "2")])
def test_of_two_searches_that_end_at_once_the_best_version_is_champion_whenever_they_meet(ratios, mine, others):
    best = str(1 + ratios.index(min(ratios)))
    for number in itertools.count():
        registry, met = Registry(3), []
        settle(registry, "1", ratios)

        def other(registry=registry, met=met):
            met.append(settle(registry, others, ratios))

        settle(Interrupted(registry, number, other), mine, ratios)
        if not met:  # the first was done before
            break
        assert (str(registry.aliases["champion"]), registry.tags[BY_SEARCH]) == (best, best), number
        assert {v for v, of in registry.versions.items() if of.tags.get(CONTENDER, SETTLED) != SETTLED} <= {best}
    assert number > 1


class Died(Exception):
    """The end of a process."""


def test_a_search_that_died_at_any_moment_settles_the_champion_when_it_is_resumed():
    def die():
        raise Died

    for number in itertools.count():
        registry = Registry(2)
        settle(registry, "1", (0.5, 0.4))
        try:
            settle(Interrupted(registry, number, die), "2", (0.5, 0.4))
            break
        except Died:
            outcome = settle(registry, "2", (0.5, 0.4))
        assert (str(registry.aliases["champion"]), registry.tags[BY_SEARCH]) == ("2", "2"), number
        assert (outcome.before, outcome.now) == ("1", "2"), number
    assert number > 5


def test_a_champion_whose_alias_a_person_has_removed_does_not_come_back():
    registry = Registry(2)
    settle(registry, "1", (0.3, 0.4))
    del registry.aliases["champion"]
    assert settle(registry, "2", (0.3, 0.4)).now == "2"


def test_a_damaged_model_changes_no_alias(client, uri, run_id, tmp_path):
    register(tmp_path, run_id, uri, 0)
    (tmp_path / "m0" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError):
        register_model(tmp_path / "m0", run_id, uri)
    assert champion(client) == "1"


def test_a_version_is_compared_with_its_own_weights(prepared, own):
    """Another seed's network of one card is another model."""
    torch.manual_seed(0)
    networks = [make_network(CONFIG).eval() for _ in range(2)]
    verdicts = [compare_on(prepared)((a, own()), (b, own())).better for a, b in (networks, networks[::-1])]
    assert sorted(verdicts) == [False, True]
