"""Names of instruments as people write them: one code each, or an error that says what was expected."""

import pytest

from sepsearch.data.instruments import INSTRUMENTS, file_name, instrument_code, parse_codes
from sepsearch.utils.errors import UserError


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("vn", "vn VN violin Violins vln Vln. Vl. fiddle"),
        ("va", "va viola VIOLAS vla Vla."),
        ("vc", "vc cello 'cello celli violoncello vlc vcl. Vc."),
        ("db", "db double_bass double-bass DoubleBass contrabass cb upright_bass String_Bass"),
        ("fl", "fl flute Fl. flutes"),
        ("ob", "ob oboe Ob."),
        ("cl", "cl clarinet Clar. Bb_clarinet clarinet_in_A B-flat_Clarinet"),
        ("sax", "sax saxophone alto_sax Tenor_Saxophone"),
        ("bn", "bn bassoon bsn Fag."),
        ("tpt", "tpt trumpet Trp. tp trumpets"),
        ("hn", "hn horn French_Horn horn_in_F"),
        ("tbn", "tbn trombone Trb. bass_trombone"),
        ("tba", "tba tuba"),
    ],
)
def test_a_name_or_abbreviation_in_any_spelling_is_its_instrument(code, names):
    assert {name: instrument_code(name.replace("_", " ")) for name in names.split()} == dict.fromkeys(
        names.split(), code
    )


@pytest.mark.parametrize("name", ["cello", "Cello", "CELLO", "celli", "cellos", "violoncello"])
def test_the_cello_is_never_the_clarinet(name):
    assert instrument_code(name) == "vc"


@pytest.mark.parametrize("name", ["bass clarinet", "English horn", "piccolo", "piano", "alto", "vi", "clar1", ""])
def test_other_instruments_and_beginnings_of_names_are_none_of_these(name):
    assert instrument_code(name) == name


@pytest.mark.parametrize("code", INSTRUMENTS)
def test_every_file_name_is_read_back_as_its_instrument(code):
    assert " " not in file_name(code)
    assert instrument_code(file_name(code)) == code


def test_a_list_may_mix_codes_and_names():
    assert parse_codes("Violin, vc,cello,Double Bass", "--instrument") == ("vn", "vc", "db")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bass", "'bass', which may be db (double bass) or bn (bassoon), expected some of vn violin, va viola"),
        ("viol", "'viol', which may be vn (violin) or va (viola)"),
        ("Tb.", "'Tb.', which may be tbn (trombone) or tba (tuba)"),
        ("clarinette", "'clarinette' (did you mean cl?)"),
        ("cel", "'cel' (did you mean vc?)"),
        ("voilin", "'voilin' (did you mean vn?)"),
        ("xy", "'xy', expected some of vn violin"),
    ],
)
def test_a_name_of_no_instrument_or_of_several_is_refused_with_what_was_expected(name, expected):
    with pytest.raises(UserError, match="--instrument: unknown instrument") as caught:
        parse_codes(name, "--instrument")
    assert expected in str(caught.value)
