import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recording_fixtures import RATE, melody, write_plain_tree, write_urmp_tree, write_wav

from sepsearch.data.duplicates import SharedTake, survey, title_groups
from sepsearch.data.recordings import read_folder
from sepsearch.utils.errors import UserError

LSB = 2.0**-23  # of 24 bits


@pytest.fixture
def tune() -> np.ndarray:
    return melody("vn", 3.0, np.random.default_rng(0))


def shared_by(root: Path, first: np.ndarray, second: np.ndarray, code: str = "vn") -> tuple[SharedTake, ...]:
    """The takes that a piece `a` with the first stem shares with a piece `b` with the second."""
    for name, audio in (("a", first), ("b", second)):
        write_wav(root / name / f"{code}.wav", audio)
    return survey(read_folder(root)).shared


def perform(code: str, seed: int, jitter: float = 0.01) -> np.ndarray:
    """The same 16 notes on the same sampled instrument, each `jitter` s (standard deviation) early or late."""
    rng, audio = np.random.default_rng(seed), np.zeros(9 * RATE)
    for beat, step in enumerate([0, 2, 4, 5, 7, 5, 4, 2] * 2):
        pitch = {"vn": 196.0, "tba": 41.2}[code] * 2 ** (step / 12)
        time = np.arange(RATE // 2) / RATE
        note = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)) * np.sin(np.pi * time / 0.5)
        begin = int((0.2 + beat * 0.5 + rng.normal() * jitter) * RATE)
        audio[begin : begin + len(note)] += 0.1 * note
    return audio


def test_a_copied_file_is_found(tmp_path: Path, tune: np.ndarray) -> None:
    (take,) = shared_by(tmp_path, tune, tune)
    assert take == SharedTake(("a", "1_vn"), ("b", "1_vn"), correlation=1.0, gain=1.0, lag_seconds=0.0)


def test_a_scaled_take_is_found(tmp_path: Path, tune: np.ndarray) -> None:
    (take,) = shared_by(tmp_path, tune, 0.55 * tune)
    assert take.correlation > 0.9999
    assert take.gain == pytest.approx(0.55, abs=1e-4)
    assert take.lag_seconds == 0


def test_a_take_that_differs_by_one_lsb_is_found(tmp_path: Path, tune: np.ndarray) -> None:
    noise = np.random.default_rng(1).integers(-1, 2, len(tune)) * LSB
    (take,) = shared_by(tmp_path, tune, tune + noise)
    assert take.correlation > 0.9999


def test_a_take_with_its_polarity_inverted_is_found(tmp_path: Path, tune: np.ndarray) -> None:
    (take,) = shared_by(tmp_path, tune, -tune)
    assert take.correlation < -0.9999
    assert take.gain == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("samples", [8, 13, 24, 4_800, 96_011])
def test_a_take_with_another_lead_in_is_found(tmp_path: Path, tune: np.ndarray, samples: int) -> None:
    (take,) = shared_by(tmp_path, tune, np.concatenate([np.zeros(samples), tune]))
    assert take.correlation > 0.999
    assert take.lag_seconds == pytest.approx(samples / RATE, abs=2e-5)


def test_a_take_whose_lead_in_was_cut_has_a_negative_lag(tmp_path: Path, tune: np.ndarray) -> None:
    (take,) = shared_by(tmp_path, tune, tune[24_001:])
    assert take.lag_seconds == pytest.approx(-24_001 / RATE, abs=2e-5)


def test_a_high_take_between_two_samples_of_the_low_rate_is_found(tmp_path: Path) -> None:
    tune = melody("fl", 3.0, np.random.default_rng(0))
    (take,) = shared_by(tmp_path, tune, np.concatenate([np.zeros(8), tune]), "fl")
    assert take.correlation > 0.999


def test_an_excerpt_of_a_take_is_found(tmp_path: Path, tune: np.ndarray) -> None:
    whole = np.concatenate([tune, melody("vn", 6.0, np.random.default_rng(7))])
    (take,) = shared_by(tmp_path, whole, 0.5 * tune)
    assert take.correlation > 0.99
    assert take.gain == pytest.approx(0.5, abs=0.01)


def test_a_take_at_another_sample_rate_is_found(tmp_path: Path) -> None:
    time = np.arange(3 * RATE) / RATE
    chirp = np.sin(2 * np.pi * (200 + 100 * time) * time) * np.sin(np.pi * time / 3)
    write_wav(tmp_path / "a" / "vn.wav", 0.1 * chirp)
    write_wav(tmp_path / "b" / "vn.wav", 0.1 * chirp[::2], RATE // 2)
    (take,) = survey(read_folder(tmp_path)).shared
    assert take.correlation > 0.999


@pytest.mark.parametrize("code", ["vn", "tba"])
def test_two_performances_of_the_same_notes_are_not_one_take(tmp_path: Path, code: str) -> None:
    assert shared_by(tmp_path, perform(code, 1), perform(code, 2), code) == ()


@pytest.mark.parametrize("code", ["vn", "tba"])
def test_two_renderings_of_the_same_notes_at_the_same_times_are_one_take(tmp_path: Path, code: str) -> None:
    assert len(shared_by(tmp_path, perform(code, 1), 0.7 * perform(code, 1), code)) == 1


def test_a_direct_current_that_two_stems_have_in_common_does_not_make_them_one_take(tmp_path: Path) -> None:
    first, second = (0.5 + melody("vn", 3.0, np.random.default_rng(seed)) for seed in (1, 2))
    assert shared_by(tmp_path, first, second) == ()


def test_stems_of_a_whole_tree_share_no_take(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [(f"{n:02d}_T{n}_vn_vn_tba_tba", 2.0) for n in range(6)])
    assert survey(read_folder(tmp_path)).shared == ()


def test_stems_of_one_piece_or_of_two_instruments_are_not_compared(tmp_path: Path, tune: np.ndarray) -> None:
    for name in ("a/vn_1", "a/vn_2", "b/va"):
        write_wav(tmp_path / f"{name}.wav", tune)
    assert survey(read_folder(tmp_path)).shared == ()


def test_the_threshold_is_the_least_correlation(tmp_path: Path, tune: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(size=len(tune))
    (take,) = shared_by(tmp_path, tune, tune + 0.01 * noise)
    assert survey(read_folder(tmp_path), threshold=take.correlation + 1e-6).shared == ()


def test_titles_that_share_a_take_are_one_group(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [("01_D_vn_vc", 1.0), ("02_A_vn_vc", 1.0), ("03_B_vn_fl", 1.0), ("04_C_fl_vc", 1.0)])
    shutil.copy(tmp_path / "01_D_vn_vc/AuSep_1_vn_01_D.wav", tmp_path / "03_B_vn_fl/AuSep_1_vn_03_B.wav")
    shutil.copy(tmp_path / "03_B_vn_fl/AuSep_2_fl_03_B.wav", tmp_path / "04_C_fl_vc/AuSep_1_fl_04_C.wav")
    recordings = read_folder(tmp_path)
    assert title_groups(recordings, survey(recordings).shared) == (("A",), ("B", "C", "D"))


def test_arrangements_of_one_title_are_one_title_without_sharing_a_take(tmp_path: Path) -> None:
    write_urmp_tree(
        tmp_path, [("16_Surprise_tpt_sax", 1.0), ("15_Surprise_tpt_tpt_tbn", 1.0), ("01_Jupiter_vn_vc", 1.0)]
    )
    assert title_groups(read_folder(tmp_path), ()) == (("Jupiter",), ("Surprise",))


def test_a_mixture_that_is_the_sum_of_the_stems_deviates_by_nothing(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [("01_Jupiter_vn_vc", 1.0)])
    (check,) = survey(read_folder(tmp_path)).mixtures
    assert check.deviation_db is not None
    assert check.deviation_db < -100
    assert check.gain_db == pytest.approx(0, abs=1e-4)


def test_a_mixture_at_half_the_level_is_told_by_its_gain(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [("01_Jupiter_vn_vc", 1.0)])
    path = tmp_path / "01_Jupiter_vn_vc" / "AuMix_01_Jupiter_vn_vc.wav"
    write_wav(path, 0.5 * soundfile.read(path)[0])
    (check,) = survey(read_folder(tmp_path)).mixtures
    assert check.deviation_db == pytest.approx(0, abs=1e-3)  # the sum is twice the mixture: as much is left over
    assert check.gain_db == pytest.approx(-6.0206, abs=1e-3)
    assert check.fitted_db is not None
    assert check.fitted_db < -80


def test_a_mixture_that_is_longer_than_its_stems_is_compared_to_its_end(tmp_path: Path, tune: np.ndarray) -> None:
    write_wav(tmp_path / "p" / "vn.wav", tune)
    write_wav(tmp_path / "p" / "mix.wav", np.concatenate([tune, tune]))
    (check,) = survey(read_folder(tmp_path)).mixtures
    assert check.deviation_db == pytest.approx(-3.0103, abs=1e-3)


def test_a_mixture_that_cannot_be_read_is_not_compared_and_says_why(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [("01_Jupiter_vn_vc", 1.0)])
    path = tmp_path / "01_Jupiter_vn_vc" / "AuMix_01_Jupiter_vn_vc.wav"
    path.write_bytes(path.read_bytes()[:-500])
    (check,) = survey(read_folder(tmp_path)).mixtures
    assert (check.deviation_db, check.gain_db, check.fitted_db) == (None, None, None)
    assert check.problem == "expected 144000 bytes of audio as its header says, found 143500: the file is cut off"


def test_a_piece_without_a_mixture_has_nothing_to_compare(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"Elise": ["vn", "vc"]}, 1.0)
    (check,) = survey(read_folder(tmp_path)).mixtures
    assert (check.piece, check.deviation_db, check.gain_db, check.fitted_db) == ("Elise", None, None, None)


def test_a_survey_tells_level_peak_content_and_share_of_sound(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    write_wav(tmp_path / "p" / "vn.wav", np.where(time < 0.5, 0.2 * np.sin(2 * np.pi * 500 * time), 0))
    (facts,) = survey(read_folder(tmp_path)).stems
    assert (facts.piece, facts.stem, facts.instrument, facts.seconds) == ("p", "1_vn", "vn", 2.0)
    assert facts.sha256 == hashlib.sha256((tmp_path / "p" / "vn.wav").read_bytes()).hexdigest()
    assert facts.rms == pytest.approx(0.2 / 8**0.5, rel=1e-4)
    assert facts.peak == pytest.approx(0.2, rel=1e-3)
    assert facts.sounding == pytest.approx(0.25)


def test_a_stem_shorter_than_a_frame_is_surveyed(tmp_path: Path) -> None:
    write_wav(tmp_path / "p" / "vn.wav", 0.1 * np.ones(100))
    (facts,) = survey(read_folder(tmp_path)).stems
    assert facts.rms == pytest.approx(0.1, rel=1e-4)
    assert facts.sounding == 1


def test_a_survey_holds_all_parts_in_the_order_of_the_recordings(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path, [("01_A_vn_vc", 1.0), ("02_B_vn_vc_fl", 2.0)])
    shutil.copy(tmp_path / "01_A_vn_vc/AuSep_1_vn_01_A.wav", tmp_path / "02_B_vn_vc_fl/AuSep_1_vn_02_B.wav")
    recordings = read_folder(tmp_path)
    result = survey(recordings)
    assert [(facts.piece[:2], facts.stem) for facts in result.stems] == [
        ("01", "1_vn"),
        ("01", "2_vc"),
        ("02", "1_vn"),
        ("02", "2_vc"),
        ("02", "3_fl"),
    ]
    assert [check.piece[:2] for check in result.mixtures] == ["01", "02"]
    assert [(take.first[1], take.second[1], take.correlation) for take in result.shared] == [("1_vn", "1_vn", 1.0)]
    assert result.groups == (("A", "B"),)


def test_progress_counts_pieces_and_pairs(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"a": ["vn", "vc"], "b": ["vn_1", "vn_2"], "c": ["vc"]}, 0.5)
    told: list[tuple[int, int]] = []
    survey(read_folder(tmp_path), progress=lambda done, total: told.append((done, total)))
    assert told == [(step, 6) for step in range(7)]  # 3 pieces, 2 pairs of violins, 1 of cellos


def test_a_silent_stem_stops_the_survey(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"a": ["vn"], "b": ["vn"]}, 0.5)
    write_wav(tmp_path / "b" / "vn.wav", np.zeros(RATE))
    with pytest.raises(UserError, match=r"b/vn\.wav: expected sound, found silence"):
        survey(read_folder(tmp_path))
