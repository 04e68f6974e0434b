"""Names as people see them: one composition, and instruments in upper and lower case."""

import pytest

from sepsearch.data.instruments import instrument_code
from sepsearch.data.text_identity import caseless, composed
from sepsearch.pipeline.export_model import _full_name
from sepsearch.runs.options import parse_arguments


def test_a_composed_and_a_decomposed_name_are_one():
    assert composed("E\u0301lise") == composed("\u00c9lise") == "\u00c9lise"


@pytest.mark.parametrize("name", ["E\u0301LISE", "\u00e9lise", "e\u0301lise", "\u00c9Lise"])
def test_names_that_differ_in_case_and_composition_have_one_key(name):
    assert caseless(name) == caseless("\u00c9lise")


def test_names_of_other_letters_have_other_keys():
    assert caseless("Elise") != caseless("\u00c9lise")
    assert caseless("Stra\u00dfe") == caseless("STRASSE")


@pytest.mark.parametrize(("text", "code"), [("VN", "vn"), ("Tpt", "tpt"), ("vc", "vc"), ("Violon", "Violon")])
def test_a_code_is_known_in_upper_and_lower_case(text, code):
    assert instrument_code(text) == code


def test_instruments_of_the_command_line_may_be_in_upper_case():
    assert parse_arguments(["--instruments", "VN, vc,vn"]).instruments == ("vn", "vc")


def test_the_model_to_export_may_be_named_in_upper_case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _full_name("VN") == "models:/sepsearch-vn@champion"


def test_the_model_to_export_may_be_named_by_its_instrument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _full_name("Double Bass") == "models:/sepsearch-db@champion"


def test_instruments_of_a_search_may_be_named_in_words():
    assert parse_arguments(["--instruments", "Violin,cello"]).instruments == ("vn", "vc")
