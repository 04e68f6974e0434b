"""What a wheel holds: every package, and the space files by name; what is installed with it."""

import re
import tomllib
from pathlib import Path

from sepsearch.spaces import shipped
from sepsearch.spaces.shipped import space_path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_every_package_is_named_for_the_wheel():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sepsearch").rglob("__init__.py")}
    assert set(SETUPTOOLS["packages"]) == found | set(SETUPTOOLS["package-dir"])


def test_every_file_that_is_not_python_is_named_for_the_wheel():
    named = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))).glob(pattern)
    }
    files = [path for folder in ("sepsearch", "search_spaces") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {path for path in files if path.suffix not in (".py", ".pyc")} <= named


def test_a_space_file_that_comes_with_sepsearch_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert space_path("laptop").read_text() == (ROOT / "search_spaces" / "laptop.yaml").read_text()


def test_where_it_was_installed_its_own_folder_is_looked_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "spaces"
    installed.mkdir()
    (installed / "laptop.yaml").write_text("parameters: {filters: [8]}")
    monkeypatch.setattr(shipped, "INSTALLED", installed)
    assert space_path("laptop") == installed / "laptop.yaml"


def test_a_file_of_that_name_is_taken_before_one_that_comes_with_sepsearch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("laptop").write_text("parameters: {filters: [8]}")
    assert space_path("laptop") == Path("laptop")


def test_an_unknown_name_is_left_for_the_error_that_names_it():
    assert space_path("nowhere.yaml") == Path("nowhere.yaml")
    assert space_path("a\0b") == Path("a\0b")


def pins(name: str) -> dict[str, str]:
    """Name → version of all that a file pins; names as the package index compares them."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {normalized(package): version for package, version in found}


def normalized(package: str) -> str:
    """The name of a package as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def test_the_lock_has_all_that_a_user_needs_but_torch_at_the_versions_that_were_tested():
    locked, tested = pins("requirements-lock.txt"), pins("constraints.txt")
    project = PROJECT["project"]
    wanted = {
        normalized(re.split(r"[^\w.-]", requirement)[0])
        for requirement in [
            *project["dependencies"],
            *project["optional-dependencies"]["onnx"],
            *project["optional-dependencies"]["s3"],
        ]
    }
    assert wanted - locked.keys() == {"torch"}, "make lock"
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}, (
        "make lock"
    )


def test_every_pin_of_the_lock_has_checksums_and_no_address_of_an_index():
    text = (ROOT / "requirements-lock.txt").read_text()
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins("requirements-lock.txt")) > 100
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_groups_of_dependencies_name_packages_that_are_pinned():
    tested = pins("constraints.txt")
    for entries in PROJECT["dependency-groups"].values():
        for entry in entries:
            if isinstance(entry, str):
                assert re.split(r"[^\w.-]", entry)[0].lower() in tested
