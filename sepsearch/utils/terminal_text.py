"""Text from files, paths and users made safe for a terminal: control characters escaped, whatever the encoding.

Everything that a command prints goes through here, or through `terminal_console` where tables and bars are drawn.
"""

import codecs
import io
import re
import sys
import unicodedata

# Joiners within words (Persian, Indic scripts, emoji) change no other character's place.
_JOINERS = "\u200c\u200d"
_SUSPECT = re.compile(r"[^\x20-\x7e\n\t]")
# ASCII for characters that our own texts use; what is not listed is shown as its escape, such as \xfc.
_FALLBACKS = {
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "─": "-",
    "━": "=",
    "·": "|",
    "•": "*",
    "±": "+-",
    "×": "x",
    "÷": "/",
    "→": "->",
    "↯": "!",
    "≤": "<=",
    "≥": ">=",
    "²": "^2",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "\u00a0": " ",
}
FALLBACK = "sepsearch.fallback"  # name of the codecs error handler


def printable(text: object, line_breaks: bool = True) -> str:
    """Text without characters that control a terminal: each becomes its escape, such as `\\x1b`; letters stay.

    Escaped are control characters (C0, C1), text direction overrides, invisible formats, surrogates (bytes of file
    names that are no UTF-8), private and unassigned characters.

    Args:
        text: anything; its `str` is meant.
        line_breaks: keep line feeds and tabs; without, they are escaped too.
    """
    kept = _SUSPECT.sub(_escape, str(text))
    return kept if line_breaks else kept.replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]


def encodable(text: str, encoding: str) -> str:
    """Text of characters that an encoding has: others are written in ASCII, as near as there is, or as escapes."""
    _register()
    return text.encode(encoding, FALLBACK).decode(encoding)


def write_line(text: object, error: bool = False) -> None:
    """Print one line on standard output, or on standard error; it is flushed, and safe for any terminal."""
    stream = sys.stderr if error else sys.stdout
    line = printable(text, line_breaks=False)
    print(encodable(line, getattr(stream, "encoding", None) or "utf-8"), file=stream, flush=True)


def use_fallback_characters() -> None:
    """Have standard output and error write what their encoding lacks in ASCII, instead of raising an exception.

    For what others print: argparse's help, libraries, tracebacks.
    """
    _register()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)


def _register() -> None:
    codecs.register_error(FALLBACK, _fallback)


def _fallback(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    failed = error.object[error.start : error.end]
    return "".join(_FALLBACKS.get(character) or ascii(character)[1:-1] for character in failed), error.end
