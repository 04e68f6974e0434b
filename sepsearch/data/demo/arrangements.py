"""Who plays what in the demo ensemble: 31 pieces, 17 titles, 13 instruments."""

from dataclasses import dataclass
from typing import Literal

Reuse = Literal["", "scaled", "rounded"]


@dataclass(frozen=True)
class Sound:
    """How an instrument is rendered.

    `program` is the General MIDI number, `lowest` and `highest` the playable range (MIDI), `level_db` the loudness
    against a violin, `legato` the share of a note's length that sounds, `vibrato` the depth (MIDI controller 1).
    """

    program: int
    lowest: int
    highest: int
    level_db: float
    legato: float
    vibrato: int


SOUNDS: dict[str, Sound] = {
    "vn": Sound(40, 55, 100, 0.0, 0.97, 34),
    "va": Sound(41, 48, 88, -1.0, 0.96, 32),
    "vc": Sound(42, 36, 79, 0.0, 0.96, 32),
    "db": Sound(43, 28, 67, -1.0, 0.92, 22),
    "fl": Sound(73, 59, 98, -2.0, 0.95, 26),
    "ob": Sound(68, 58, 91, -1.0, 0.95, 22),
    "cl": Sound(71, 50, 91, -1.0, 0.96, 6),
    "sax": Sound(66, 44, 76, 0.0, 0.94, 16),  # tenor: the soundfont's alto is mostly direct current
    "bn": Sound(70, 34, 75, -1.0, 0.93, 14),
    "tpt": Sound(56, 52, 84, 1.5, 0.90, 12),
    "hn": Sound(60, 35, 77, 0.0, 0.95, 6),
    "tbn": Sound(57, 40, 74, 1.0, 0.92, 8),
    "tba": Sound(58, 26, 65, 1.0, 0.90, 4),
}


@dataclass(frozen=True)
class Player:
    """One player: an instrument on voice 1, 2, … of the score, moved by whole `octaves`.

    A player of the same instrument, voice and octave in another piece of the title is the same take. `reuse` says
    how the take was copied: "" byte for byte, "scaled" to 0.55, "rounded" within one least significant bit.
    """

    instrument: str
    voice: int
    octaves: int = 0
    reuse: Reuse = ""

    @property
    def take(self) -> tuple[str, int, int]:
        """What makes two recordings the same take within a title."""
        return self.instrument, self.voice, self.octaves


@dataclass(frozen=True)
class Arrangement:
    """One piece of the demo ensemble: a title of the collection, its score's file, and its players in order."""

    number: int
    title: str
    players: tuple[Player, ...]

    @property
    def score(self) -> str:
        """Name of the score's file, without its ending."""
        return self.title.lower()

    @property
    def instruments(self) -> tuple[str, ...]:
        """The players' instrument codes, in order."""
        return tuple(player.instrument for player in self.players)

    @property
    def folder_name(self) -> str:
        """The piece's folder, as URMP names it: `NN_Title_ins_ins`."""
        return f"{self.number:02d}_{self.title}_{'_'.join(self.instruments)}"


def _player(text: str) -> Player:
    """Read `vc:2`, `tba:4-1` (an octave down), `fl:1+1` (up), with a closing `*` (scaled) or `~` (rounded)."""
    reuse: Reuse = "scaled" if text.endswith("*") else "rounded" if text.endswith("~") else ""
    instrument, where = text.rstrip("*~").split(":")
    return Player(instrument, int(where[0]), int(where[1:] or 0), reuse)


_CATALOGUE = """
Minuet vn:1 vc:2 | Minuet vn:1 bn:2
Invention ob:1 bn:2 | Invention cl:1 bn:2~
Variations fl:1 fl:2+1 | Variations sax:1-1 hn:2
Lullaby va:1 vc:3 | Lullaby sax:1-1 hn:2-1 vc:3*
Jesu ob:1 hn:2 vc:3 | Jesu fl:1 hn:2 vc:3
Silent va:1 va:2 vc:3 | Silent cl:1 sax:2 bn:3
Entertainer cl:1 sax:2 tba:3-1 | Entertainer tpt:1 sax:2 tba:3-1
Jacques tpt:1 tpt:2 hn:3 tbn:4-1
Canon vn:1 vn:2 ob:3 vc:4-1 | Canon vn:1 vn:2~ ob:3 db:4-1
Ros tpt:1 hn:2 tbn:3 tba:4-1 | Ros sax:1 hn:2 tbn:3 tba:4-1*
Greensleeves fl:1 ob:2 cl:3 bn:4 | Greensleeves fl:1 ob:2 sax:3 bn:4
Surprise vn:1 vn:2 va:3 vc:4 | Surprise fl:1 vn:2 va:3* db:4
Mountain cl:1 bn:2 va:3 db:4 | Mountain ob:1+1 bn:2 hn:3 tba:4
Adeste vn:1 vn:2 va:3 vc:4 db:4-1 | Adeste tpt:1 tpt:2 hn:3 tbn:4 tba:4-1
Joy tpt:1 tpt:2 hn:3 tbn:4 tba:5 | Joy fl:1+1 ob:2 cl:3 hn:4 bn:5
Promenade tpt:1 tpt:2 hn:3 tbn:4 tba:5
Largo ob:1 cl:2 hn:3 bn:4 db:5-1
"""


def _catalogue() -> tuple[Arrangement, ...]:
    entries = [entry.split() for line in _CATALOGUE.split("\n") for entry in line.split("|") if entry.strip()]
    return tuple(
        Arrangement(number, title, tuple(_player(text) for text in players))
        for number, (title, *players) in enumerate(entries, start=1)
    )


ARRANGEMENTS: tuple[Arrangement, ...] = _catalogue()


def arrangements_by_title() -> dict[str, list[Arrangement]]:
    """The pieces of each title, in the catalogue's order."""
    titles: dict[str, list[Arrangement]] = {}
    for arrangement in ARRANGEMENTS:
        titles.setdefault(arrangement.title, []).append(arrangement)
    return titles
