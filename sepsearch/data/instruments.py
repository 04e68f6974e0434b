"""The 13 instruments of URMP, by the codes that its file names use."""

import difflib

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


def instrument_code(text: str) -> str:
    """A code as it was typed, such as "Vn", in the spelling of `INSTRUMENTS`; what is no code comes back as it is."""
    return code if (code := caseless(text)) in INSTRUMENTS else text


def parse_codes(text: str, option: str, expected: str = "some") -> tuple[str, ...]:
    """The codes of a list such as "vn,vc", each once; `option` and what is `expected` are named in errors.

    Raises:
        UserError: an unknown code, or none at all.
    """
    codes = tuple(dict.fromkeys(instrument_code(code.strip()) for code in text.split(",") if code.strip()))
    listed = f"expected {expected} of {', '.join(INSTRUMENTS)}"
    for code in codes:
        if code not in INSTRUMENTS:
            close = difflib.get_close_matches(code, INSTRUMENTS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"{option}: unknown code {code!r}{hint}, {listed}")
    if not codes:
        raise UserError(f"{option}: empty, {listed}")
    return codes
