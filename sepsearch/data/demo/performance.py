"""From a score's notes to what one player of the demo ensemble does: expressive timing, dynamics, tuning."""

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sepsearch.data.demo.arrangements import SOUNDS, Player
from sepsearch.data.demo.scores import Note, Score

if TYPE_CHECKING:
    import mido

PHRASE = 4  # bars
TICKS = 2000  # a second, so that timing is exact to half a millisecond
RING_OUT = 1.5  # seconds after the last note
BEND_RANGE_CENTS = 200


@dataclass(frozen=True)
class PlayedNote:
    """A note as played: `onset` and `duration` in seconds, `pitch` as a MIDI number, `velocity` 1 to 127."""

    onset: float
    duration: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Performance:
    """All that one player does: notes, a tuning off by `cents`, and the seconds at which the take ends."""

    notes: tuple[PlayedNote, ...]
    cents: float
    end: float

    def hertz(self, pitch: int) -> float:
        """Fundamental frequency of a MIDI pitch as this player tunes it, in Hz (A4 = 440)."""
        return 440.0 * 2 ** ((pitch - 69 + self.cents / 100) / 12)


class Clock:
    """The ensemble's common tempo curve: from quarter notes to seconds, lead-in silence included."""

    def __init__(self, score: Score) -> None:
        chance = random.Random(f"clock {score.name}")
        self.end = float(max(score.lengths))
        self._step = 0.125
        swing = chance.uniform(0.015, 0.035)
        phrase = PHRASE * float(score.beats)
        now = chance.uniform(1.0, 2.0)
        self._seconds = [now]
        for index in range(round(self.end / self._step)):
            quarter = index * self._step
            flow = 1 + swing * math.sin(math.pi * ((quarter % phrase) / phrase * 2 - 0.5))
            to_go = self.end - quarter
            slowing = 1 - 0.3 * max(0.0, 1 - to_go / 4)
            now += self._step * 60 / (score.tempo * flow * slowing)
            self._seconds.append(now)

    def seconds(self, quarter: float) -> float:
        """When the given place of the score comes, in seconds."""
        place = min(quarter / self._step, len(self._seconds) - 1)
        index = min(int(place), len(self._seconds) - 2)
        before, after = self._seconds[index : index + 2]
        return before + (place - index) * (after - before)


def perform(score: Score, player: Player) -> Performance:
    """Play one voice of a score; the same score and player always give the same performance."""
    chance = random.Random(f"player {score.name} {player.take}")
    clock = Clock(score)
    sound = SOUNDS[player.instrument]
    voice = score.voices[player.voice - 1]
    habit = chance.gauss(0.0, 0.008)
    shift = 12 * player.octaves
    mean_pitch = sum(note.pitch for note in voice) / len(voice)
    sections = [chance.choice((-9, -3, 4)) for _ in range(64)]
    onsets: list[float] = []
    for note in voice:
        onset = clock.seconds(float(note.onset)) + habit + max(-0.025, min(0.025, chance.gauss(0, 0.009)))
        onsets.append(max(onset, onsets[-1] + 0.03 if onsets else 0.0))
    played: list[PlayedNote] = []
    for index, note in enumerate(voice):
        until = clock.seconds(float(note.onset + note.duration)) + habit
        duration = (until - onsets[index]) * sound.legato * chance.uniform(0.95, 1.02)
        if index + 1 < len(voice):
            gap = 0.03 if voice[index + 1].pitch == note.pitch else 0.005
            duration = min(duration, onsets[index + 1] - gap - onsets[index])
        velocity = _velocity(note, score, sections, mean_pitch) + chance.gauss(0, 3)
        velocity = max(38, min(120, round(velocity)))
        played.append(PlayedNote(onsets[index], max(duration, 0.04), note.pitch + shift, velocity))
    return Performance(tuple(played), round(chance.gauss(0, 5), 1), clock.seconds(clock.end) + RING_OUT)


def _velocity(note: Note, score: Score, sections: Sequence[int], mean_pitch: float) -> float:
    """Phrase arch, metrical accent, contour and the section's dynamic, as a MIDI velocity."""
    bar = float(note.onset / score.beats)
    arch = 9 * math.sin(math.pi * (bar % PHRASE) / PHRASE)
    accent = 6 if note.onset % score.beats == 0 else 2 if note.onset.denominator == 1 else 0
    return 82 + arch + accent + 0.8 * (note.pitch - mean_pitch) + sections[int(bar / (2 * PHRASE)) % 64]


def to_midi(performance: Performance, player: Player) -> bytes:
    """The performance as a Standard MIDI File: notes, tuning, vibrato and swells within long notes."""
    import mido

    sound = SOUNDS[player.instrument]
    events: list[tuple[float, int, mido.Message]] = [
        (0.0, 0, mido.Message("program_change", program=sound.program)),
        (0.0, 0, mido.Message("control_change", control=7, value=127)),
        (0.0, 0, mido.Message("control_change", control=91, value=30)),  # some of the renderer's room
        (0.0, 0, mido.Message("control_change", control=93, value=0)),  # no chorus
        (0.0, 0, mido.Message("pitchwheel", pitch=round(performance.cents / BEND_RANGE_CENTS * 8192))),
        (performance.end, 4, mido.Message("control_change", control=1, value=0)),  # the file lasts this long
    ]
    for note in performance.notes:
        events += _note_events(note, sound.vibrato)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    ticks = 0
    for seconds, _, message in sorted(events, key=lambda event: (round(event[0] * TICKS), event[1])):
        now = round(seconds * TICKS)
        track.append(message.copy(skip_checks=True, time=now - ticks))
        ticks = now
    buffer = io.BytesIO()
    mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(file=buffer)
    return buffer.getvalue()


def _note_events(note: PlayedNote, vibrato: int) -> list[tuple[float, int, "mido.Message"]]:
    """The events of one note as (seconds, order among simultaneous events, message)."""
    import mido

    end = note.onset + note.duration
    events = [
        (note.onset, 3, mido.Message("note_on", note=note.pitch, velocity=note.velocity)),
        (end, 1, mido.Message("note_off", note=note.pitch)),
        (note.onset, 2, mido.Message("control_change", control=1, value=0)),
        (note.onset, 2, mido.Message("control_change", control=11, value=112)),
    ]
    if note.duration < 0.45:
        return events
    for part in range(1, 9):  # a long note swells, then dies away; vibrato comes after the attack
        at = note.onset + note.duration * part / 9
        swell = round(112 + 15 * math.sin(math.pi * part / 9) - 10 * (part / 9) ** 2)
        events.append((at, 2, mido.Message("control_change", control=11, value=min(127, swell))))
        if vibrato and part >= 2:
            depth = round(vibrato * min(1.0, (part - 1) / 4))
            events.append((at, 2, mido.Message("control_change", control=1, value=depth)))
    return events
