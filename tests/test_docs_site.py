"""The documentation's site: every page is in its navigation, links resolve, and generated pages have every key."""

import importlib
import json
import os
import posixpath
import re
import shlex
import subprocess
import sys
from typing import get_args

import pytest
import yaml
from event_fixtures import journal
from reference_pages import PAGES, command_page, event_page, parameter_rows, space_keys, space_page
from report_story import whole_story
from repository_links import ROOT, linked_files, shown_file, site_links, site_path
from site_hooks import OUTSIDE

from sepsearch.models.families import FAMILIES, config_class
from sepsearch.models.training_config import TrainingConfig
from sepsearch.runs.results import build_results
from sepsearch.runs.state import reduce_events
from sepsearch.search import events
from sepsearch.spaces.descriptions import KEYS
from sepsearch.utils.command_line import COMMANDS

DOCS = ROOT / "docs"
WORDED = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.glob("*.md"))]


def nav_pages(entry):
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in nav_pages(part)]


@pytest.fixture(scope="module")
def navigation():
    return nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


def outside_pages():
    """Markdown files of the repository that are pages of the site although they are not in docs/."""
    found, waiting = [], [*OUTSIDE]
    for path in WORDED:
        waiting += linked_files(path.removeprefix("docs/"), (ROOT / path).read_text())
    while waiting:
        path = waiting.pop()
        if path not in found and path.endswith(".md"):
            found.append(path)
            waiting += linked_files(path, (ROOT / path).read_text())
    return found


def test_every_page_of_docs_is_in_the_navigation(navigation):
    missing = {path.removeprefix("docs/") for path in WORDED} - set(navigation)
    assert missing == set(), "add them to nav of mkdocs.yml"


def test_every_page_of_the_navigation_is_there_once(navigation):
    there = {path.removeprefix("docs/") for path in WORDED} | set(PAGES) | set(outside_pages())
    assert set(navigation) - there == set()
    assert len(navigation) == len(set(navigation))


def anchors(path):
    """The anchors of a Markdown file's headings, as forges and the site make them."""
    text = re.sub(r"^```.*?^```", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*WORDED, *OUTSIDE, "README.md"])
def test_links_within_the_repository_resolve(path):
    text = re.sub(r"^```.*?^```|^ {4}.*?$", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
    problems = []
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        file, _, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
        known = (ROOT / place).exists() and (not anchor or anchor in anchors(place))
        if not known and not re.match(r"[a-z]+:", target):
            problems.append(target)
    assert problems == []


@pytest.mark.parametrize("path", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_modules_that_pages_name_are_there(path):
    there = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("[!.]*/**/*.py")]
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.py)`", (ROOT / path).read_text())
    assert len(named) > 10
    assert [
        name for name in named if "NAME" not in name and not any(f"/{one}".endswith(f"/{name}") for one in there)
    ] == []


def test_links_to_files_outside_docs_become_links_within_the_site():
    text = "See [the example](../examples/search_with_ray_tune.py), [ports](../cluster/security.md#x) and [code](../examples)."
    assert site_links("ray-tune.md", text) == (
        "See [the example](files/examples/search_with_ray_tune.py.md), [ports](cluster/security.md#x) and code."
    )
    assert site_links("cluster/README.md", "[home](../README.md) [MLflow](mlflow/)") == (
        "[home](../index.md) [MLflow](mlflow/README.md)"
    )
    assert site_path("docs/demo.md") == "demo.md"


def test_code_keeps_what_looks_like_a_link():
    text = "    [the example](../examples/search_with_ray_tune.py)\n"
    assert site_links("ray-tune.md", text) == text


def test_a_notebook_is_shown_with_its_text_code_and_what_it_prints(tmp_path, monkeypatch):
    cells = [
        {"cell_type": "markdown", "source": ["# Read a run\n", "Its trials."]},
        {
            "cell_type": "code",
            "source": ["run.trials"],
            "outputs": [{"data": {"text/plain": ["4 rows"]}}, {"data": {}}],
        },
    ]
    (tmp_path / "read.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr("repository_links.ROOT", tmp_path)
    assert shown_file("read.ipynb") == (
        "# read.ipynb\n\n## Read a run\nIts trials.\n\n```python\nrun.trials\n```\n\n```text\n4 rows\n```\n"
    )


def test_every_key_of_a_space_file_is_described():
    lacking = [key for key, _, meaning in space_keys() if not meaning]
    assert lacking == [], "describe them in sepsearch/spaces/descriptions.py"
    assert set(KEYS) - {key for key, _, _ in space_keys()} == set(), "no space file has these keys"


def test_every_parameter_of_a_network_is_described():
    classes = {family: config_class(family) for family in FAMILIES} | {"training": TrainingConfig}
    lacking = [
        f"{owner}.{row[0]}" for owner, cls in classes.items() for row in parameter_rows(owner, cls) if not row[-1]
    ]
    assert lacking == [], "describe them in sepsearch/spaces/descriptions.py"


def test_the_space_page_has_type_default_limits_and_meaning():
    lines = space_page().splitlines()
    assert (
        "| `trials` | whole number | `100` | 1 to 1000000 | Configurations to try; no more than the space holds, since none is trained twice. |"
        in lines
    )
    assert any(line.startswith("| `learning_rate` | number | `0.001` | above 0, at most 10 |") for line in lines)
    assert any(line.startswith("| `low` | whole number or number | none |") for line in lines)
    names = {key.rpartition(".")[2] for key, _, _ in space_keys()}
    assert {name for name in names if not any(line.startswith(f"| `{name}` |") for line in lines)} == set()


def test_the_event_page_has_every_kind_and_field():
    text = event_page()
    for record in get_args(events.Event):
        assert all(kind in text for kind in get_args(record.__annotations__["event"]))
        assert all(f"| `{name}` |" in text for name in record.__annotations__.keys() - {"event", "time", "elapsed"})
    assert "| `zero_share` | `float \\| None` | no |" in text


def test_the_command_page_has_every_command_and_option():
    text = command_page()
    assert all(f"\n## {command}\n" in text for command in COMMANDS)
    assert "| `--gpus-per-trial N` |" in text
    assert "| `--format {csv,parquet}` |" in text


def test_the_page_of_results_has_every_key():
    results = build_results(reduce_events(journal(whole_story()), history=True))
    text = (DOCS / "results.md").read_text()
    parts = (results, results["trials"][0], results["finalists"][0], results["final"]["vn"], results["dataset"])
    keys = set().union(*parts, results["seconds"], results["final"]["vn"]["audio"])
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="no mkdocs: make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    loaded = re.compile(r'<(?:script|img|iframe|source)[^>]* src="(?:https?:)?//|<link[^>]* href="(?:https?:)?//')
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []


def command_lines(pattern):
    """(page, words) of the commands in docs/ that a pattern finds, without comments, pipes and ellipses."""
    found = []
    for path in WORDED:
        for line in re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE):
            words = shlex.split(re.split(r" [\\|>&]|;", line)[0], comments=True)
            words = words[2:] if words[0] == "python" else words
            words = words[0].split(".")[1:] + words[1:] if "." in words[0] else words[1:]
            if len(words) > 1 and words[0] in COMMANDS and not {"…", "COMMAND"} & set(words):
                found.append((path, words))
    return found


def command_ids(value):
    return value if isinstance(value, str) else " ".join(value)


@pytest.mark.parametrize(("path", "words"), command_lines(r"^ {4}((?:python -m )?sepsearch[ .].*)$"), ids=command_ids)
def test_commands_in_code_blocks_of_the_documentation_are_accepted(path, words):
    parsed = importlib.import_module(f"sepsearch.{words[0]}").make_parser().parse_args(words[1:])  # else UserError
    assert vars(parsed)


@pytest.mark.parametrize(("path", "words"), command_lines(r"`(sepsearch [^`]+)`"), ids=command_ids)
def test_commands_in_sentences_have_options_that_there_are(path, words):
    options = importlib.import_module(f"sepsearch.{words[0]}").make_parser()._option_string_actions
    assert [word for word in words[1:] if word.startswith("-") and word != "-" and word not in options] == []
