"""The 13 instruments of URMP by code, and what people call them in English: the one place that resolves names.

A name is compared whole, without regard to case, punctuation and spaces between its words, never by its beginning:
"cello" is the cello, and has nothing to do with "cl", the clarinet.
"""

import difflib
import re

from sepsearch.data.text_identity import caseless
from sepsearch.utils.errors import UserError

INSTRUMENTS: dict[str, str] = {
    "vn": "violin",
    "va": "viola",
    "vc": "cello",
    "db": "double bass",
    "fl": "flute",
    "ob": "oboe",
    "cl": "clarinet",
    "sax": "saxophone",
    "bn": "bassoon",
    "tpt": "trumpet",
    "hn": "horn",
    "tbn": "trombone",
    "tba": "tuba",
}
# Beside code and name, separated by commas; plurals in -s need no entry. Relatives that sound otherwise (piccolo, cor
# anglais, bass clarinet) are no names of these.
_OTHER_NAMES = {
    "vn": "vln, vl, vlin, fiddle",
    "va": "vla",
    "vc": "vlc, vcl, vcello, violoncello, violoncelli, celli",
    "db": "cb, contrabass, contrabasses, doublebass, double basses, dbl bass, d bass, string bass, upright bass,"
    " acoustic bass",
    "fl": "flt",
    "cl": "clar, clt, a clarinet, bb clarinet, b flat clarinet, clarinet in a, clarinet in b, clarinet in bb,"
    " clarinet in b flat",
    "sax": "saxes, soprano sax, alto sax, tenor sax, baritone sax, bari sax, soprano saxophone, alto saxophone,"
    " tenor saxophone, baritone saxophone",
    "bn": "bsn, bssn, fg, fag",
    "tpt": "trp, trpt, tp",
    "hn": "french horn, f horn, horn in f, hrn, hr, fhn",
    "tbn": "trb, trbn, tromb, tenor trombone, bass trombone",
}
_AMBIGUOUS: dict[str, tuple[str, ...]] = {
    "v": ("vn", "va"),
    "vio": ("vn", "va"),
    "viol": ("vn", "va"),
    "c": ("vc", "cl"),
    "b": ("db", "bn"),
    "bass": ("db", "bn"),
    "basses": ("db", "bn"),
    "t": ("tpt", "tbn", "tba"),
    "tr": ("tpt", "tbn"),
    "tb": ("tbn", "tba"),
}


def words_of(text: str) -> list[str]:
    """Words and numbers of a name in the form that names are compared in: "Vln._II" is ["vln", "ii"]."""
    return re.findall(r"[^\W\d_]+|\d+", caseless(text))


def _key(text: str) -> str:
    return " ".join(words_of(text))


_CODES = {
    _key(name): code
    for code, full in INSTRUMENTS.items()
    for name in (code, full, *_OTHER_NAMES.get(code, code).split(","))
}
_CODES |= {f"{name}s": code for name, code in _CODES.items() if f"{name}s" not in _CODES}


def instrument_code(text: str) -> str:
    """The code of an instrument by code or name, such as "Vn" or "Violin"; what names none comes back as it is."""
    return _CODES.get(_key(text), text)


def file_name(code: str) -> str:
    """What an instrument's file is called, such as "violin" or "double_bass"; other names come back as they are."""
    return INSTRUMENTS.get(code, code).replace(" ", "_")


def name_problem(text: str, name: str = "") -> str:
    """Why a text that `instrument_code` does not know names no instrument, for messages: what was found and meant.

    `name` is the part of the text that should have been a name, if it is not all of it.
    """
    key = _key(name or text)
    if (meant := _AMBIGUOUS.get(key)) is not None:
        return f"{text!r}, which may be {' or '.join(f'{code} ({INSTRUMENTS[code]})' for code in meant)}"
    # Names first: two letters are like too many others, and "cel" is meant to be a cello, not the clarinet "cl".
    names = difflib.get_close_matches(key, [name for name in _CODES if len(name) > 2], n=1)
    close = [_CODES[name] for name in names or difflib.get_close_matches(key, INSTRUMENTS, n=1)]
    return f"{text!r}{f' (did you mean {close[0]}?)' if close else ''}"


def parse_codes(text: str, option: str, expected: str = "some") -> tuple[str, ...]:
    """The codes of a list of codes or names such as "vn,cello", each once; `option` and what is `expected` are named in
    errors.

    Raises:
        UserError: an unknown or ambiguous name, or none at all.
    """
    codes = tuple(dict.fromkeys(instrument_code(code.strip()) for code in text.split(",") if code.strip()))
    listed = f"expected {expected} of {known_instruments()}"
    for code in codes:
        if code not in INSTRUMENTS:
            raise UserError(f"{option}: unknown instrument {name_problem(code)}, {listed}")
    if not codes:
        raise UserError(f"{option}: empty, {listed}")
    return codes


def known_instruments() -> str:
    """All codes and names, for messages."""
    return ", ".join(f"{code} {name}" for code, name in INSTRUMENTS.items())
