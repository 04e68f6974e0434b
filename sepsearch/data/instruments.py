"""The 13 instruments of URMP, by the codes that its file names use."""

from sepsearch.data.text_identity import caseless

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
