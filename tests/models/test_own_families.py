"""Families from outside the package: found, checked when they are loaded, saved with where they are from."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from plugin_fixtures import AXES, SMALL, SmallConfig, SmallNetwork, install, install_family
from torch import nn

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.models.card import model_text
from sepsearch.models.families import (
    Family,
    config_params,
    family,
    make_config,
    make_network,
    register_family,
    registered_families,
)
from sepsearch.models.saved_model import ModelCard, load_model, save_model
from sepsearch.spaces.plugins_in_use import plugin_notes, plugin_versions
from sepsearch.spaces.space import parse_space
from sepsearch.utils.errors import UserError
from sepsearch.utils.plugins import FAMILIES, forget_plugin


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def small():
    """The family "small", registered."""
    register_family(SMALL)
    yield SMALL
    forget_plugin(FAMILIES, "small")


def test_a_registered_family_makes_configurations_that_are_checked_as_those_of_sepsearch(small):
    config = make_config({"family": "small", "hidden": 3, "learning_rate": 0.01})
    assert isinstance(config.network, SmallConfig)
    assert make_config(config_params(config)) == config
    assert make_network(config, 2)(torch.rand(1, 1, 64, 128)).shape == (1, 2, 64, 128)
    for key, value in {"hidden": 0, "dropout": "0.5", "hiden": 3}.items():
        with pytest.raises(UserError, match=f"configuration: {key}"):
            make_config({"family": "small", key: value})


def test_registered_families_are_those_of_the_space_alone(small):
    assert registered_families(["report", "small"]) == (SMALL,)
    assert registered_families(["report", "unet"]) == ()


def test_an_installed_family_is_searched_by_its_name(site):
    install_family(site, "installed_net")
    space = parse_space(
        {
            "family": ["report", "installed_net"],
            "parameters": {"hidden": {"choices": [2, 4], "when": {"family": "installed_net"}}},
        },
        "space",
    )
    assert space.families == ("report", "installed_net")
    assert list(plugin_versions(space)) == ["some-networks"]
    assert plugin_versions(space, workers_only=True) == plugin_versions(space)
    assert plugin_notes(space) == ()
    assert registered_families(space.families) == ()


def test_a_parameter_of_one_family_alone_names_the_condition_that_is_missing(site):
    install_family(site, "conditional_net")
    text = {"family": ["report", "conditional_net"], "parameters": {"hidden": [2, 4]}}
    with pytest.raises(UserError, match=r"family report has no such parameter: add when: .family: conditional_net"):
        parse_space(text, "space")


def test_a_space_with_a_registered_family_says_where_its_models_can_be_loaded(small):
    space = parse_space({"family": "small", "parameters": {"hidden": [2, 4]}}, "space")
    assert "small is registered in this process alone" in plugin_notes(space)[0]
    assert plugin_versions(space)["family small"].startswith("registered in Python, source ")
    assert plugin_versions(space, workers_only=True) == {}


@pytest.mark.parametrize("name", ["report", "unet"])
def test_the_name_of_a_builtin_cannot_be_registered(name):
    config = type("Config", (SmallConfig,), {"family": name})
    with pytest.raises(UserError, match=f"family {name}: built into sepsearch"):
        register_family(Family(config, SmallNetwork, AXES))


def test_a_builtin_whose_name_is_taken_by_a_distribution_cannot_be_searched(site):
    install_family(site, "unet", "unet-fork")
    with pytest.raises(UserError, match=r"family unet: built into sepsearch, and unet-fork 1.0 has another"):
        parse_space({"family": "unet", "parameters": {"channels": [4, 8]}}, "space")
    assert family("unet").config.__module__ == "sepsearch.models.unet"


def test_an_entry_point_of_another_name_than_its_family_is_refused(site):
    install(site, "misnamed", {"_misnamed": ""}, {})
    (site / "_misnamed.py").write_text("from plugin_fixtures import SMALL")
    (site / "misnamed-1.0.dist-info" / "entry_points.txt").write_text("[sepsearch.families]\nother = _misnamed:SMALL\n")
    with pytest.raises(
        UserError, match=r"family other \(misnamed 1.0\): SmallConfig.family is 'small', expected 'other'"
    ):
        family("other")


def config_with(**fields: Any) -> type:
    """A frozen dataclass like `SmallConfig` with other parts; a field without a type is one of the class."""
    parts: dict[str, Any] = {"family": "small", "fixed_size": True}
    names = [(name, *value) for name, value in fields.items() if isinstance(value, tuple)]
    parts |= {name: value for name, value in fields.items() if not isinstance(value, tuple)}
    return dataclasses.make_dataclass("Config", names, namespace=parts, frozen=True)


@dataclass
class Thawed:
    family: ClassVar[str] = "small"
    fixed_size: ClassVar[bool] = True


def other(**changes: Any) -> Family:
    return dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            SmallNetwork,
            r"expected sepsearch.models.families.Family\(config, network, output_axes\), found SmallNetwork",
        ),
        (other(config=Thawed), "expected a class with @dataclass"),
        (other(config=dict), "expected a class with @dataclass"),
        (other(config=config_with(family="a b")), "expected a name of letters"),
        (other(config=config_with(family=None)), "family: ClassVar"),
        (other(config=config_with(fixed_size=None)), "has no fixed_size"),
        (other(network=3), "network is 3, expected a class or function"),
        (other(output_axes={"head.weight": -1}), "output_axes is"),
        (other(output_axes=["head.weight"]), "output_axes is"),
        (other(config=config_with(heads=(str, "x"))), "parameter heads: all families have one"),
        (other(config=config_with(hidden=(int,))), "parameter hidden: default is none"),
        (other(config=config_with(hidden=(int, None))), "parameter hidden: default is None"),
        (other(config=config_with(hidden=(int, "many"))), "hidden: .*valid integer"),
    ],
)
def test_what_is_no_family_is_refused_with_what_to_correct(wrong, message):
    with pytest.raises(UserError, match=message):
        register_family(wrong)


class Failing(nn.Module):
    def __init__(self, config: Any, outputs: int):
        raise ZeroDivisionError("no")


class Renamed(SmallNetwork):
    def __init__(self, config: Any, outputs: int):
        super().__init__(config, outputs)
        if outputs > 1:
            self.more = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (other(network=Failing), "cannot be built with the default configuration: ZeroDivisionError: no"),
        (other(network=lambda config, outputs: 3), "expected a torch.nn.Module"),
        (other(output_axes={}), r"head.weight is \(2, 2, 1, 1\) with 2 outputs and \(1, 2, 1, 1\) with one"),
        (other(output_axes={"head.weight": 1, "head.bias": 0}), "head.weight .* output_axes .1."),
        (other(output_axes={**AXES, "tail.bias": 0}), "tail.bias is no weight"),
        (other(network=Renamed), "more.weight is .* and None with one"),
    ],
)
def test_a_space_refuses_a_family_whose_networks_are_not_as_it_says(wrong, message):
    register_family(wrong)
    try:
        with pytest.raises(UserError, match=message):
            parse_space({"family": "small", "parameters": {"hidden": [2, 4]}}, "space")
    finally:
        forget_plugin(FAMILIES, "small")


def saved(folder, name: str, **params: Any) -> nn.Module:
    config = make_config({"family": name, **params})
    network = make_network(config).eval()
    save_model(folder, network, ModelCard("vn", config, FrontEnd(), 10.0))
    return network


def test_a_model_of_an_installed_family_opens_and_its_card_names_the_distribution(site, tmp_path):
    install_family(site, "saved_net")
    network = saved(tmp_path / "vn", "saved_net")
    loaded, card = load_model(tmp_path / "vn")
    rows = torch.rand(1, 1, 128, 128)
    assert torch.equal(loaded(rows), network(rows))
    assert (card.plugin["distribution"], card.plugin["version"]) == ("some-networks", "1.0")
    assert "family saved_net, of the distribution some-networks 1.0." in model_text(card, "x")


def test_a_model_whose_family_is_not_installed_is_one_line_with_what_to_install(site, tmp_path, monkeypatch):
    install_family(site, "gone_net")
    saved(tmp_path / "vn", "gone_net")
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(UserError, match=r"family gone_net, which is not installed: .*distribution some-networks 1.0"):
        load_model(tmp_path / "vn")


def test_a_model_of_a_registered_family_can_only_be_loaded_where_it_is_registered(tmp_path):
    register_family(SMALL)
    try:
        saved(tmp_path / "vn", "small")
        card = load_model(tmp_path / "vn")[1]
        assert "family small, registered in Python where it was trained." in model_text(card, "x")
    finally:
        forget_plugin(FAMILIES, "small")
    with pytest.raises(
        UserError, match=r"it was registered in Python where the model was trained: install it as a plug-in"
    ):
        load_model(tmp_path / "vn")


def test_a_model_of_a_builtin_family_has_no_plugin_in_its_card(tmp_path):
    saved(tmp_path / "vn", "report", filters=2)
    assert "plugin" not in json.loads((tmp_path / "vn" / "model.json").read_text())


@pytest.mark.parametrize(
    "plugin", [{"distribution": "evil\x1b[2J", "version": "1"}, {"distribution": 3}, "text", [], {}]
)
def test_a_hostile_card_is_refused_in_one_printable_line(plugin, tmp_path):
    saved(tmp_path / "vn", "report", filters=2)
    path = tmp_path / "vn" / "model.json"
    card = json.loads(path.read_text())
    card["config"]["family"], card["plugin"] = "os:system", plugin
    path.write_text(json.dumps(card))
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "vn")
    assert str(caught.value).isprintable()
