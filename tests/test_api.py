"""`import sepsearch`: its names, that they come when they are used, and that a name which is a package, too, is one."""

import dataclasses
import inspect
import pickle
import subprocess
import sys

import cloudpickle

import sepsearch
from sepsearch import api
from sepsearch.runs.options import RunOptions


def test_importing_the_package_imports_none_of_its_modules():
    code = "import sys, sepsearch; print([name for name in sys.modules if name.startswith('sepsearch.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_the_names_of_the_api():
    assert sepsearch.__all__ == api.__all__
    assert {name: getattr(sepsearch, name) for name in api.__all__ if name != "search"} == {
        name: getattr(api, name) for name in api.__all__ if name != "search"
    }
    assert set(api.__all__) <= set(dir(sepsearch))


def test_search_is_the_function_and_the_package_in_whichever_order_they_are_imported():
    code = (
        "import sys, inspect, sepsearch as ss; {}; import sepsearch.search.events; from sepsearch.search import journal;"
        " print(inspect.signature(ss.search) == inspect.signature(sys.modules['sepsearch.api'].search),"
        " ss.search.journal is journal)"
    )
    for first in ("ss.search", "import sepsearch.search.events", "import sepsearch.api"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(f"{first}; import sepsearch.api")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "True True"


def test_functions_that_use_the_package_are_pickled_for_workers_by_its_name():
    packed = cloudpickle.dumps(lambda: (sepsearch, sepsearch.search))
    assert len(packed) < 2000
    assert pickle.loads(packed)() == (sepsearch, sepsearch.search)


def test_every_option_of_a_run_is_an_argument_of_search_or_resume():
    def named(function):
        return set(inspect.signature(function).parameters) - {"callbacks", "quiet", "families"}

    fields = {field.name for field in dataclasses.fields(RunOptions)}
    assert named(api.search) == fields - {"resume", "continued", "accept_changes"}
    assert named(api.resume) - {"name"} <= fields
    assert named(api.extend) - {"name"} <= fields
