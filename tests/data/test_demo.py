"""The demo ensemble: its catalogue, and one or two short pieces rendered for real."""

import hashlib
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepsearch.data.demo import rendering as demo
from sepsearch.data.demo.arrangements import ARRANGEMENTS, SOUNDS, Arrangement, Player, arrangements_by_title
from sepsearch.data.demo.performance import perform
from sepsearch.data.demo.scores import parse_abc, read_score
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import cache_folder

SHORT = 6.0  # seconds
DUET = Arrangement(1, "Minuet", (Player("vn", 1), Player("vc", 2)))


def samples(path: Path) -> np.ndarray:
    """The file's 24-bit samples as integers, shape (time,)."""
    return soundfile.read(path, dtype="int32")[0].astype(np.int64) >> 8


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder`, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def duet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.render_piece(DUET, tmp_path_factory.mktemp("duet"), seconds=SHORT)


@pytest.fixture(scope="module")
def surprises(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("surprise")
    return demo.render_title(arrangements_by_title()["Surprise"], folder, seconds=20.0)


def test_the_demo_ensemble_has_every_instrument_in_at_least_four_titles() -> None:
    titles: dict[str, set[str]] = defaultdict(set)
    for arrangement in ARRANGEMENTS:
        for instrument in arrangement.instruments:
            titles[instrument].add(arrangement.title)
    assert set(titles) == set(INSTRUMENTS)
    assert min(len(found) for found in titles.values()) >= 4


def test_the_demo_ensemble_has_duets_trios_quartets_and_quintets() -> None:
    sizes = [len(arrangement.players) for arrangement in ARRANGEMENTS]
    assert set(sizes) == {2, 3, 4, 5}
    assert min(sizes.count(size) for size in (2, 3, 4, 5)) >= 5


def test_the_demo_ensemble_has_instruments_that_play_twice_in_a_piece() -> None:
    doubled = {
        instrument
        for arrangement in ARRANGEMENTS
        for instrument in arrangement.instruments
        if arrangement.instruments.count(instrument) == 2
    }
    assert doubled >= {"vn", "va", "fl", "tpt"}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=lambda arrangement: arrangement.folder_name)
def test_every_part_lies_within_its_instruments_range(arrangement: Arrangement) -> None:
    score = read_score(arrangement.score)
    for player in arrangement.players:
        pitches = [note.pitch + 12 * player.octaves for note in score.voices[player.voice - 1]]
        assert SOUNDS[player.instrument].lowest <= min(pitches)
        assert max(pitches) <= SOUNDS[player.instrument].highest


def test_every_bar_of_every_score_is_full_but_an_upbeat_and_the_last_one() -> None:
    for path in sorted(Path(demo.__file__).parent.glob("*.abc")):
        score = read_score(path.stem)
        assert len(set(score.lengths)) == 1, path
        head, *voices = re.split(r"^V:\d+$", path.read_text(), flags=re.MULTILINE)
        if "M:none" in head:
            continue
        for voice in voices:
            bars = [bar for bar in re.split(r"\|\]?", voice) if bar.strip()]
            lengths = [parse_abc("bar", f"{head}V:1\n{bar}|\n").lengths[0] for bar in bars]
            assert set(lengths[1:-1]) == {score.beats}, path


def test_abc_accidentals_hold_until_the_bar_line_and_ties_join_notes() -> None:
    score = parse_abc("x", "X:1\nT:t\nC:c\nM:2/4\nL:1/8\nQ:1/4=60\nK:G\nV:1\nF=F_BB|FB-|B2z2|]\n")
    assert [note.pitch for note in score.voices[0]] == [66, 65, 70, 70, 66, 71]
    assert score.voices[0][-1].duration == 1.5


def test_a_player_plays_the_same_way_every_time_and_never_two_notes_at_once() -> None:
    score = read_score("canon")
    performance = perform(score, Player("vn", 1))
    assert performance == perform(score, Player("vn", 1))
    for note, following in zip(performance.notes, performance.notes[1:], strict=False):
        assert note.onset + note.duration <= following.onset + 1e-9


def test_two_players_of_one_instrument_differ_in_timing() -> None:
    score = read_score("canon")
    first, second = perform(score, Player("vn", 1)), perform(score, Player("fl", 1))
    offsets = [a.onset - b.onset for a, b in zip(first.notes, second.notes, strict=True)]
    assert 0.003 < np.std(offsets) < 0.03


def test_a_piece_has_the_layout_and_the_format_of_urmp(duet: Path) -> None:
    assert duet.name == "01_Minuet_vn_vc"
    assert sorted(path.name for path in duet.iterdir()) == [
        "AuMix_01_Minuet_vn_vc.wav",
        "AuSep_1_vn_01_Minuet.wav",
        "AuSep_2_vc_01_Minuet.wav",
        "Notes_1_vn_01_Minuet.txt",
        "Notes_2_vc_01_Minuet.txt",
    ]
    info = soundfile.info(duet / "AuSep_1_vn_01_Minuet.wav")
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, "PCM_24")


def test_rendering_a_piece_twice_gives_the_same_bytes(duet: Path, tmp_path: Path) -> None:
    assert digest(demo.render_piece(DUET, tmp_path, seconds=SHORT)) == digest(duet)


def test_the_mixture_is_the_plain_sum_of_the_written_stems(surprises: list[Path]) -> None:
    for piece in surprises:
        stems = [samples(path) for path in sorted(piece.glob("AuSep_*"))]
        assert np.array_equal(samples(next(piece.glob("AuMix_*"))), sum(stems))


def test_the_loudest_mixture_of_a_title_peaks_at_minus_six_decibels(surprises: list[Path]) -> None:
    peak = max(np.abs(samples(next(piece.glob("AuMix_*")))).max() for piece in surprises)
    assert 20 * np.log10(peak / demo.FULL_SCALE) == pytest.approx(-6.0, abs=0.1)


def test_a_piece_begins_in_silence_and_every_stem_sounds_without_direct_current(surprises: list[Path]) -> None:
    for path in surprises[0].glob("AuSep_*"):
        stem = samples(path) / demo.FULL_SCALE
        assert not stem[: demo.RATE].any()
        assert np.sqrt(np.mean(stem**2)) > 0.003
        assert abs(stem.mean()) < 0.1 * np.sqrt(np.mean(stem**2))


def test_arrangements_of_a_title_share_takes_byte_for_byte_and_scaled(surprises: list[Path]) -> None:
    quartet, other = surprises
    second_violin = "AuSep_2_vn_{}_Surprise.wav"
    same = [(piece / second_violin.format(piece.name[:2])).read_bytes() for piece in surprises]
    assert same[0] == same[1]
    loud, soft = (samples(next(piece.glob("AuSep_3_va_*"))) for piece in (quartet, other))
    assert np.abs(soft - 0.55 * loud).max() <= 0.5


def test_a_take_may_be_off_by_one_least_significant_bit(tmp_path: Path) -> None:
    rounded = Arrangement(2, "Minuet", (Player("vn", 1), Player("vc", 2, reuse="rounded")))
    pieces = demo.render_title([DUET, rounded], tmp_path, seconds=SHORT)
    first, second = (samples(next(piece.glob("AuSep_2_*"))) for piece in pieces)
    assert np.abs(first - second).max() == 1


def test_the_catalogue_copies_takes_in_all_three_ways() -> None:
    assert {player.reuse for arrangement in ARRANGEMENTS for player in arrangement.players} == {"", "scaled", "rounded"}


def test_note_lists_give_onset_frequency_and_duration_of_what_sounds(duet: Path) -> None:
    lines = (duet / "Notes_1_vn_01_Minuet.txt").read_text().splitlines()
    onset, hertz, duration = (float(field) for field in re.split(r"\s+", lines[0].strip()))
    assert hertz == pytest.approx(587.3, rel=0.01)  # the minuet begins on D5
    stem = np.abs(samples(duet / "AuSep_1_vn_01_Minuet.wav"))
    assert onset == pytest.approx(np.argmax(stem > stem.max() / 50) / demo.RATE, abs=0.1)
    assert 0.2 < duration < 0.6


@pytest.fixture
def one_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ARRANGEMENTS", (DUET,))
    monkeypatch.setattr(demo, "arrangements_by_title", lambda: {"Minuet": [DUET]})


@pytest.mark.usefixtures("one_title")
def test_the_demo_folder_is_rendered_once_and_reports_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = demo.demo_folder(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert [path.name for path in folder.iterdir()] == ["01_Minuet_vn_vc"]
    assert told == [(1, 1)]
    assert demo.demo_folder(tmp_path, progress=lambda done, total: pytest.fail("rendered twice")) == folder


@pytest.mark.usefixtures("one_title")
def test_an_interrupted_rendering_leaves_no_folder_that_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, progress: object) -> None:
        (folder / "01_Minuet_vn_vc").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_render_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.demo_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("one_title")
def test_another_process_that_was_faster_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / f"demo-{demo.fingerprint()}"

    def meanwhile(folder: Path, progress: object) -> None:
        (theirs / "piece").mkdir(parents=True)
        (folder / "piece").mkdir()

    monkeypatch.setattr(demo, "_render_all", meanwhile)
    assert demo.demo_folder(tmp_path) == theirs
    assert list(tmp_path.iterdir()) == [theirs]


@pytest.mark.usefixtures("one_title")
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, progress: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_render_all", full)
    with pytest.raises(UserError, match="No space left on device: free some space"):
        demo.demo_folder(tmp_path)


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPSEARCH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("SEPSEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sepsearch"
