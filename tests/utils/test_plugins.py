"""Plug-ins are found among installed distributions and registered objects alone, and each problem names a distribution."""

import sys

import pytest
from plugin_fixtures import install

from sepsearch.utils.errors import UserError
from sepsearch.utils.plugins import (
    SAMPLERS,
    find_plugin,
    forget_plugin,
    installed_versions,
    known_as,
    load_plugin,
    plugin_names,
    refuse_builtin_name,
    register_plugin,
    unknown_name,
    used_versions,
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def found(name: str):
    plugin = find_plugin(SAMPLERS, name)
    assert plugin is not None
    return plugin


def test_an_installed_entry_point_is_found_by_name_and_imported_only_when_it_is_loaded(site):
    install(site, "my-samplers", {"_lazy": "made = 3"}, {f"{SAMPLERS}: lazy": "_lazy:made"})
    plugin = found("lazy")
    assert (plugin.distribution, plugin.version) == ("my-samplers", "1.0")
    assert "lazy" in plugin_names(SAMPLERS)
    assert "_lazy" not in sys.modules
    assert load_plugin(plugin) == 3


def test_one_that_is_installed_while_the_process_runs_is_found(site):
    assert find_plugin(SAMPLERS, "late") is None
    install(site, "late-samplers", {"_late": "made = 1"}, {f"{SAMPLERS}: late": "_late:made"})
    assert load_plugin(found("late")) == 1


@pytest.mark.parametrize("source", ["import no_such_module", "def (", "raise SystemExit(1)", "other = 1", "1 / 0"])
def test_a_broken_plugin_is_one_line_that_names_its_distribution(site, source):
    module = f"_broken{abs(hash(source))}"
    install(site, "bad-samplers", {module: source}, {f"{SAMPLERS}: broken": f"{module}:made"})
    with pytest.raises(
        UserError, match=r"sampler broken \(bad-samplers 1.0\): cannot be loaded: .*reinstall bad-samplers"
    ):
        load_plugin(found("broken"))


def test_two_distributions_with_one_name_are_both_named(site):
    for distribution in ("first-samplers", "second-samplers"):
        install(site, distribution, {"_twice": "made = 1"}, {f"{SAMPLERS}: twice": "_twice:made"})
    with pytest.raises(UserError, match=r"first-samplers 1.0 and second-samplers 1.0: uninstall one"):
        find_plugin(SAMPLERS, "twice")


def test_the_name_of_a_builtin_is_refused_with_the_distribution(site):
    install(site, "tpe-samplers", {"_tpe": "made = 1"}, {f"{SAMPLERS}: tpe": "_tpe:made"})
    refuse_builtin_name(SAMPLERS, "random")
    with pytest.raises(UserError, match=r"sampler tpe: built into sepsearch, and tpe-samplers 1.0 has another"):
        refuse_builtin_name(SAMPLERS, "tpe")


@pytest.mark.parametrize("name", ["os:system", "os.system", "../x", "/tmp/x.py", "", 3, None, ["a"]])
def test_nothing_but_names_of_plugins_is_found(name):
    assert find_plugin(SAMPLERS, name) is None


def test_a_registered_object_is_found_replaced_and_forgotten():
    register_plugin(SAMPLERS, "own", 1, [len])
    register_plugin(SAMPLERS, "own", 2, [len])
    try:
        assert load_plugin(found("own")) == 2
        assert found("own").distribution == ""
        with known_as(SAMPLERS, "own", 3):
            assert load_plugin(found("own")) == 3
        assert load_plugin(found("own")) == 2
    finally:
        forget_plugin(SAMPLERS, "own")
    assert find_plugin(SAMPLERS, "own") is None


def test_the_name_of_an_installed_plugin_cannot_be_registered(site):
    install(site, "there-samplers", {"_there": "made = 1"}, {f"{SAMPLERS}: there": "_there:made"})
    with pytest.raises(UserError, match=r"installed distribution there-samplers 1.0 has this name"):
        register_plugin(SAMPLERS, "there", 1)


def test_an_unknown_name_is_said_with_all_that_are_valid_and_a_near_one(site):
    install(site, "near-samplers", {"_near": "made = 1"}, {f"{SAMPLERS}: nearby": "_near:made"})
    assert str(unknown_name(SAMPLERS, "nearbi", ["tpe"])).endswith(
        "expected one of tpe, nearby or a plug-in's (did you mean nearby?)"
    )


def test_versions_name_distribution_and_source_and_builtins_have_none(site):
    install(site, "versioned", {"_versioned": "made = 1"}, {f"{SAMPLERS}: versioned": "_versioned:made"})
    used = used_versions([(SAMPLERS, "tpe"), (SAMPLERS, "versioned")])
    assert list(used) == ["versioned"]
    assert used["versioned"].startswith("1.0+")
    assert installed_versions()["versioned"] == used["versioned"]


def test_another_source_of_the_same_version_is_another_version(site, tmp_path_factory, monkeypatch):
    versions = []
    for number in (1, 2):
        folder = tmp_path_factory.mktemp("site")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            install(
                folder, f"edited-{number}", {"_edited": f"made = {number}"}, {f"{SAMPLERS}: edited": "_edited:made"}
            )
            versions += used_versions([(SAMPLERS, "edited")]).values()
    assert len(set(versions)) == 2
    assert all(version.startswith("1.0+") for version in versions)


def test_a_registered_one_has_the_checksum_of_its_source_as_its_version():
    with_source = {}
    for name, value in (("first", install), ("second", found)):
        register_plugin(SAMPLERS, name, value)
        try:
            with_source |= used_versions([(SAMPLERS, name)])
            assert used_versions([(SAMPLERS, name)], registered=False) == {}
        finally:
            forget_plugin(SAMPLERS, name)
    assert with_source.keys() == {"sampler first", "sampler second"}
    assert len(set(with_source.values())) == 2
