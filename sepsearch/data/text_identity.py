"""Names as people see them: one Unicode spelling, and comparison without regard to case."""

import unicodedata


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS writes "é" as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def caseless(name: str) -> str:
    """A key that is equal for names that differ in case or composition only (Unicode's canonical caseless match)."""
    return composed(unicodedata.normalize("NFD", name).casefold())
