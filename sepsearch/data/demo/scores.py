"""The scores of the demo ensemble, kept as ABC notation beside this module."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files

SHARPS_OF_KEY = {"C": 0, "G": 1, "D": 2, "F": -1, "Bb": -2, "Am": 0, "Bm": 2}
ORDER_OF_SHARPS = "FCGDAEB"
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"^": 1, "=": 0, "_": -1}
TOKEN = re.compile(r"([\^_=]?)([A-Ga-gz])([,']*)(\d*)(/?)(\d*)(-?)|(\|\]?)|(\s+)")


@dataclass(frozen=True)
class Note:
    """One note of a score: `onset` and `duration` in quarter notes, `pitch` as a MIDI number."""

    onset: Fraction
    duration: Fraction
    pitch: int


@dataclass(frozen=True)
class Score:
    """A piece of music: `voices[k]` holds the notes of ABC voice k + 1, `tempo` is quarter notes a minute."""

    name: str
    title: str
    composer: str
    tempo: float
    beats: Fraction
    voices: tuple[tuple[Note, ...], ...]
    lengths: tuple[Fraction, ...]


@cache
def read_score(name: str) -> Score:
    """Read `<name>.abc`; `beats` is the length of a bar and `lengths` of each voice, in quarter notes."""
    return parse_abc(name, (files("sepsearch.data.demo") / f"{name}.abc").read_text(encoding="utf-8"))


def parse_abc(name: str, text: str) -> Score:
    """Parse the part of ABC notation that the demo's scores use: notes, rests, ties, bars and voices."""
    fields: dict[str, str] = {}
    music: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.match(r"[A-Z]:", line):
            fields[line[0]] = line[2:].strip()
        elif line.strip():
            music.setdefault(fields["V"], []).append(line)
    unit = Fraction(fields["L"]) * 4
    beat, per_minute = fields["Q"].split("=")
    voices = [_parse_voice(" ".join(lines), unit, fields["K"]) for lines in music.values()]
    return Score(
        name=name,
        title=fields["T"],
        composer=fields["C"],
        tempo=float(Fraction(beat) * 4 * int(per_minute)),
        beats=Fraction(4) if fields["M"] == "none" else Fraction(fields["M"]) * 4,
        voices=tuple(notes for notes, _ in voices),
        lengths=tuple(length for _, length in voices),
    )


def _parse_voice(text: str, unit: Fraction, key: str) -> tuple[tuple[Note, ...], Fraction]:
    signature = _key_signature(key)
    altered: dict[tuple[str, str], int] = {}
    notes: list[Note] = []
    now, position, tied = Fraction(0), 0, False
    while position < len(text):
        token = TOKEN.match(text, position)
        if token is None:
            raise ValueError(f"ABC notation not understood here: {text[position : position + 20]!r}")
        position = token.end()
        accidental, letter, octave, times, slash, over, tie, bar, _ = token.groups()
        if bar:
            altered.clear()  # an accidental holds until the bar line
        if not letter:
            continue
        duration = unit * Fraction(int(times or 1), int(over or 2) if slash else 1)
        if letter != "z":
            if accidental:
                altered[letter, octave] = ACCIDENTALS[accidental]
            shift = altered.get((letter, octave), signature.get(letter.upper(), 0))
            pitch = _pitch(letter, octave) + shift
            if tied and notes[-1].pitch == pitch:
                notes[-1] = Note(notes[-1].onset, notes[-1].duration + duration, pitch)
            else:
                notes.append(Note(now, duration, pitch))
            tied = bool(tie)
        now += duration
    return tuple(notes), now


def _pitch(letter: str, octave: str) -> int:
    middle = 60 if letter.isupper() else 72
    return middle + SEMITONES[letter.upper()] + 12 * (octave.count("'") - octave.count(","))


def _key_signature(key: str) -> dict[str, int]:
    sharps = SHARPS_OF_KEY[key]
    if sharps >= 0:
        return dict.fromkeys(ORDER_OF_SHARPS[:sharps], 1)
    return dict.fromkeys(ORDER_OF_SHARPS[sharps:], -1)
