import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recording_fixtures import RATE, melody, write_plain_tree, write_urmp_piece, write_urmp_tree, write_wav

from sepsearch.data.recordings import load_mixture, load_piece, load_stem, read_folder
from sepsearch.utils.errors import UserError

DUET, TRIO = "01_Jupiter_vn_vc", "15_Surprise_tpt_tpt_tbn"


@pytest.fixture
def urmp(tmp_path: Path) -> Path:
    return write_urmp_tree(tmp_path / "URMP", [(DUET, 1.0), (TRIO, 1.0)])


@pytest.fixture
def tune() -> np.ndarray:
    return melody("vn", 1.0, np.random.default_rng(0))


def stem_of(root: Path, number: int = 1, piece: str = DUET) -> Path:
    return next((root / piece).glob(f"AuSep_{number}_*"))


def assert_refused(folder: Path, *words: object, load: bool = False) -> None:
    """Reading the folder is refused in one line that holds all the words; with `load`, reading its audio is."""
    if load:
        pieces = read_folder(folder).pieces
        with pytest.raises(UserError) as caught:
            [load_piece(piece) for piece in pieces]
    else:
        with pytest.raises(UserError) as caught:
            read_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("expected", "found", *words):
        assert str(word) in message


def test_a_urmp_tree_is_read_in_the_order_of_its_names(urmp: Path) -> None:
    recordings = read_folder(urmp)
    assert [piece.name for piece in recordings.pieces] == [DUET, TRIO]
    assert [piece.title for piece in recordings.pieces] == ["Jupiter", "Surprise"]
    assert [stem.name for stem in recordings.pieces[0].stems] == ["1_vn", "2_vc"]
    assert recordings.pieces[0].seconds == 1.0


def test_scores_videos_notes_hidden_files_and_supplementary_files_are_passed_over(urmp: Path) -> None:
    assert {path.name[:3] for path in (urmp / DUET).iterdir()} >= {"Sco", "Vid", "F0s", "Not", "._A", ".DS"}
    recordings = read_folder(urmp)
    assert sum(len(piece.stems) for piece in recordings.pieces) == 5
    assert not any("Supplementary" in note for note in recordings.notes)


def test_piece_15s_third_stem_is_a_trombone_because_the_folder_says_so(urmp: Path) -> None:
    recordings = read_folder(urmp)
    assert [stem.instrument for stem in recordings.pieces[1].stems] == ["tpt", "tpt", "tbn"]
    assert recordings.notes == (f"{TRIO}: AuSep_3_tpt_15_Surprise.wav says tpt, the folder says tbn: taken as tbn",)


def test_pieces_one_folder_deeper_are_found(tmp_path: Path) -> None:
    write_urmp_tree(tmp_path / "URMP" / "Dataset", [(DUET, 1.0)])
    assert [piece.name for piece in read_folder(tmp_path / "URMP").pieces] == [DUET]


def test_a_folder_that_is_itself_a_piece_is_accepted(urmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(urmp / DUET)
    assert [piece.name for piece in read_folder(Path(".")).pieces] == [DUET]


def test_a_title_may_contain_underscores(tmp_path: Path) -> None:
    write_urmp_piece(tmp_path, "09_O_Jesus_fl_fl", 1.0, instruments=["fl", "fl"])
    assert read_folder(tmp_path).pieces[0].title == "O_Jesus"


def test_a_title_may_end_in_a_word_that_looks_like_an_instrument(tmp_path: Path) -> None:
    write_urmp_piece(tmp_path, "09_Magic_fl_fl_cl", 1.0, instruments=["fl", "cl"])
    (piece,) = read_folder(tmp_path).pieces
    assert (piece.title, [stem.instrument for stem in piece.stems]) == ("Magic_fl", ["fl", "cl"])


def test_plain_folders_are_read_by_file_name_and_takes_share_a_title(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"Elise--take1": ["vn", "vc_2", "vc_10"], "Elise--take2": ["fl", "mix"]}, 1.0)
    first, second = read_folder(tmp_path).pieces
    assert (first.title, second.title) == ("Elise", "Elise")
    assert [stem.path.stem for stem in first.stems] == ["vc_2", "vc_10", "vn"]
    assert [stem.name for stem in first.stems] == ["1_vc", "2_vc", "3_vn"]
    assert second.mixture == tmp_path / "Elise--take2" / "mix.wav"


def test_other_files_of_a_plain_folder_are_passed_over(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"Elise": ["vn", "vc"]}, 1.0)
    (tmp_path / "Elise" / "notes.txt").write_text("recorded in May")
    assert len(read_folder(tmp_path).pieces[0].stems) == 2


def test_a_folder_without_stems_beside_the_pieces_is_noted(urmp: Path) -> None:
    (urmp / "scores").mkdir()
    assert f"{urmp / 'scores'}: holds no stems and is passed over" in read_folder(urmp).notes


def test_a_solo_is_accepted_and_noted(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"Syrinx": ["fl"]}, 1.0)
    assert "Syrinx: has one player only" in read_folder(tmp_path).notes[0]


def test_a_missing_mixture_is_noted(urmp: Path) -> None:
    (urmp / DUET / f"AuMix_{DUET}.wav").unlink()
    recordings = read_folder(urmp)
    assert any(note.startswith(f"no AuMix file in {DUET}:") for note in recordings.notes)
    assert load_mixture(recordings.pieces[0]) is None


def test_the_mixture_is_read_and_is_the_sum_of_the_stems(urmp: Path) -> None:
    (piece, _) = read_folder(urmp).pieces
    np.testing.assert_allclose(load_mixture(piece), load_piece(piece).sum(axis=0), atol=2**-22)


def test_a_stem_is_loaded_bit_by_bit(tmp_path: Path) -> None:
    integers = np.array([2**22, -(2**23), 2**23 - 1, 1, 0], np.int32)
    write_wav(tmp_path / "p" / "vn.wav", integers * 256)
    loaded = load_stem(read_folder(tmp_path).pieces[0].stems[0])
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded * 2**23, integers)


def test_shorter_stems_are_padded_with_silence_and_noted(tmp_path: Path, tune: np.ndarray) -> None:
    write_wav(tmp_path / "p" / "va.wav", tune[:30_000])
    write_wav(tmp_path / "p" / "vn.wav", tune)
    recordings = read_folder(tmp_path)
    loaded = load_piece(recordings.pieces[0])
    assert loaded.shape == (2, RATE)
    assert np.any(loaded[0, :30_000])
    assert not np.any(loaded[0, 30_000:])
    assert recordings.notes == ("p: stems last from 0.625 to 1.000 s: shorter ones are padded with silence",)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_other_rates_are_resampled_to_48_khz_and_noted(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate + 7) / rate
    write_wav(tmp_path / "p" / "vn.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate)
    recordings = read_folder(tmp_path)
    stem = recordings.pieces[0].stems[0]
    loaded = load_stem(stem)
    assert len(loaded) == stem.samples == round((rate + 7) * RATE / rate)
    inner = slice(2_000, -2_000)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(loaded)) / RATE)
    np.testing.assert_allclose(loaded[inner], wanted[inner], atol=1e-3)
    assert f"p: stems at {rate} Hz are resampled to 48000 Hz" in recordings.notes


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_24"), ("aiff", "PCM_24"), ("WAV", "FLOAT")])
def test_flac_aiff_and_float_wav_are_read(tmp_path: Path, tune: np.ndarray, suffix: str, subtype: str) -> None:
    write_wav(tmp_path / "p" / f"vn.{suffix}", tune, subtype=subtype)
    np.testing.assert_allclose(load_piece(read_folder(tmp_path).pieces[0])[0], tune, atol=2**-22)


@pytest.mark.parametrize("header", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("lost", [0, 1, 30_000])
def test_a_wav_file_that_is_cut_off_is_refused_whatever_its_header(
    tmp_path: Path, tune: np.ndarray, header: str, lost: int
) -> None:
    path = tmp_path / "p" / "vn.wav"
    path.parent.mkdir()
    soundfile.write(path, tune, RATE, subtype="PCM_24", format=header)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - lost])
    if lost:
        assert_refused(tmp_path, path, 144_000, 144_000 - lost, "cut off")
    else:
        assert read_folder(tmp_path).pieces[0].stems[0].frames == RATE


@pytest.mark.parametrize("suffix", ["aiff", "flac"])
def test_an_aiff_or_flac_file_that_is_cut_off_is_refused(tmp_path: Path, tune: np.ndarray, suffix: str) -> None:
    path = tmp_path / "p" / f"vn.{suffix}"
    write_wav(path, tune)
    path.write_bytes(path.read_bytes()[:-20_000])
    assert_refused(tmp_path, path, load=suffix == "flac")


def test_a_wav_file_cut_off_within_its_header_is_refused(urmp: Path) -> None:
    path = stem_of(urmp)
    path.write_bytes(path.read_bytes()[:30])
    assert_refused(urmp, path, "No 'data' chunk", "export it again")


def without_length(path: Path, length: bytes) -> None:
    """Write a WAV file's length of the audio as programs do that stream."""
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + length + content[at + 4 :])


def test_a_header_without_a_length_of_which_nothing_would_be_read_is_refused(urmp: Path) -> None:
    without_length(stem_of(urmp), b"\0\0\0\0")
    assert_refused(urmp, stem_of(urmp), "length of the audio in the header", "sox --ignore-length")


def test_a_note_on_a_stem_names_its_file(urmp: Path) -> None:
    without_length(stem_of(urmp), b"\xff\xff\xff\xff")
    recordings = read_folder(urmp)
    assert recordings.pieces[0].stems[0].frames == RATE
    assert recordings.notes[0].startswith(f"{DUET}/AuSep_1_vn_01_Jupiter.wav: its header gives no length of the audio")


NFC, NFD = "F\u00fcr \u00c9lise", "Fu\u0308r E\u0301lise"  # one name, as most systems and as macOS write it


def test_a_title_from_a_mac_and_from_elsewhere_is_one_title(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {f"{NFC}--take1": ["vn"], f"{NFD}--take2": ["vn"]}, 0.3)
    write_urmp_piece(tmp_path, f"03_{NFD}_vn_vc", 0.3)
    recordings = read_folder(tmp_path)
    assert {piece.title for piece in recordings.pieces} == {NFC}
    assert [piece.name for piece in recordings.pieces] == [f"03_{NFC}_vn_vc", f"{NFC}--take1", f"{NFC}--take2"]
    assert all(stem.path.is_file() for piece in recordings.pieces for stem in piece.stems)
    assert not any(NFD in note for note in recordings.notes)


def test_titles_that_differ_in_case_only_are_one_title_and_noted(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"\u00c9lise--take1": ["vn"], "e\u0301lise--take2": ["vn"]}, 0.3)
    recordings = read_folder(tmp_path)
    assert [piece.title for piece in recordings.pieces] == ["\u00c9lise", "\u00c9lise"]
    assert any("its title is taken as \u00c9lise" in note for note in recordings.notes)


def test_two_folders_whose_names_look_the_same_are_refused(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {NFC: ["vn"], NFD: ["vn"]}, 0.3)
    assert_refused(tmp_path, f"found {NFC} twice", ascii(NFC), ascii(NFD), "rename or remove one")


def test_the_title_of_urmps_files_may_be_composed_otherwise_than_that_of_the_folder(tmp_path: Path) -> None:
    folder = write_urmp_piece(tmp_path, f"09_{NFC} fl_fl_cl", 0.3, instruments=["fl", "cl"])
    for path in folder.glob("AuSep_*"):
        path.rename(path.with_name(path.name.replace(NFC, NFD)))
    assert read_folder(tmp_path).pieces[0].title == f"{NFC} fl"


def test_instruments_and_mixtures_are_known_in_upper_and_lower_case(tmp_path: Path, tune: np.ndarray) -> None:
    write_urmp_piece(tmp_path, "01_Jupiter_Vn_VC", 0.3, instruments=["vn", "vc"])
    for name in ("VN_1", "Vc", "Mix"):
        write_wav(tmp_path / "p" / f"{name}.WAV", tune)
    duet, plain = read_folder(tmp_path).pieces
    assert [stem.name for stem in duet.stems] == ["1_vn", "2_vc"]
    assert [stem.name for stem in plain.stems] == ["1_vc", "2_vn"]
    assert plain.mixture == tmp_path / "p" / "Mix.WAV"


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder of this name may not be read: tests may run as root, who may read everything."""
    listed = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)


@pytest.mark.parametrize("place", ["private", "takes/private"])
def test_a_folder_that_cannot_be_read_is_passed_over_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write_plain_tree(tmp_path, {"takes/Elise": ["vn"]}, 0.3)
    (tmp_path / place).mkdir()
    refuse_to_list(monkeypatch, "private")
    recordings = read_folder(tmp_path)
    assert [piece.name for piece in recordings.pieces] == ["Elise"]
    assert f"{tmp_path / place}: cannot be read (Permission denied) and is passed over" in recordings.notes


def test_an_entry_that_the_system_says_nothing_of_is_passed_over_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plain_tree(tmp_path, {"Elise": ["vn"]}, 0.3)
    (tmp_path / "stale").touch()
    is_dir = Path.is_dir

    def fail(self: Path) -> bool:
        if self.name == "stale":
            raise OSError(116, "Stale file handle")
        return is_dir(self)

    monkeypatch.setattr(Path, "is_dir", fail)
    assert f"{tmp_path / 'stale'}: cannot be read (Stale file handle)" in read_folder(tmp_path).notes[0]


def test_a_piece_by_its_name_that_cannot_be_read_is_refused(urmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_list(monkeypatch, DUET)
    assert_refused(urmp, urmp / DUET, "Permission denied")


@pytest.mark.parametrize("name", ["__MACOSX", "System Volume Information", "$RECYCLE.BIN", "lost+found", "@eaDir"])
def test_what_a_system_leaves_is_passed_over_with_a_note_even_if_it_looks_like_a_piece(
    tmp_path: Path, name: str
) -> None:
    write_plain_tree(tmp_path, {"Elise": ["vn"], f"{name}/Jupiter": ["vn"], ".Trashes/Sonata": ["vn"]}, 0.3)
    for file in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / file).write_bytes(b"no audio")
    recordings = read_folder(tmp_path)
    assert [piece.name for piece in recordings.pieces] == ["Elise"]
    assert f"{tmp_path / name}: left by the system and passed over" in recordings.notes


def test_a_mixture_beside_the_pieces_is_passed_over_with_a_note(urmp: Path) -> None:
    (urmp / "mix.wav").write_bytes(b"RIFF")
    assert f"{urmp / 'mix.wav'}: a mixture beside the pieces, passed over" in read_folder(urmp).notes


def test_a_folder_without_stems_may_have_any_name(urmp: Path) -> None:
    (urmp / "scores\nand parts").mkdir()
    assert any("holds no stems" in note and note.isprintable() for note in read_folder(urmp).notes)


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder: give the folder that holds the recordings"):
        read_folder(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(urmp: Path) -> None:
    assert_refused(stem_of(urmp), stem_of(urmp), "found a file")


def test_a_folder_without_pieces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert_refused(tmp_path, tmp_path, "01_Jupiter_vn_vc", "vn.wav", "found no piece among 1 folders")


def test_stems_beside_folders_of_pieces_are_refused(urmp: Path) -> None:
    shutil.copy(stem_of(urmp), urmp / "vn.wav")
    assert_refused(urmp, urmp, "found both (vn.wav beside 01_Jupiter_vn_vc)")


def test_two_pieces_of_one_name_are_refused(tmp_path: Path) -> None:
    for part in "ab":
        write_urmp_piece(tmp_path / part, DUET, 1.0)
    assert_refused(tmp_path, f"found {DUET} twice", tmp_path / "a" / DUET, tmp_path / "b" / DUET)


def test_a_missing_stem_is_refused(urmp: Path) -> None:
    stem_of(urmp, 2, TRIO).unlink()
    assert_refused(urmp, urmp / TRIO, "3 stems (tpt tpt tbn)", "AuSep_3_tpt_15_Surprise.wav", "AuSep_2_tpt_…wav")


def test_a_urmp_folder_without_stems_is_refused(urmp: Path) -> None:
    for number in (1, 2):
        stem_of(urmp, number).unlink()
    (urmp / DUET / f"AuMix_{DUET}.wav").unlink()
    assert_refused(urmp, urmp / DUET, "2 stems (vn vc)", "found none")


def test_a_plain_folder_with_a_mixture_alone_is_refused(tmp_path: Path, tune: np.ndarray) -> None:
    write_wav(tmp_path / "p" / "mix.wav", tune)
    assert_refused(tmp_path, tmp_path / "p", "vn.wav", "found only mix.wav")


def test_more_stems_than_the_folder_says_are_refused(urmp: Path) -> None:
    extra = urmp / DUET / "AuSep_3_fl_01_Jupiter.wav"
    shutil.copy(stem_of(urmp), extra)
    assert_refused(urmp, extra, "stems 1 to 2", "(vn vc)")


def test_one_stem_in_two_files_is_refused(urmp: Path) -> None:
    shutil.copy(stem_of(urmp), urmp / DUET / "AuSep_1_vn_01_Jupiter copy.wav")
    assert_refused(urmp, urmp / DUET, "one stem number 1", "AuSep_1_vn_01_Jupiter copy.wav")


def test_more_than_16_players_are_refused(tmp_path: Path) -> None:
    write_plain_tree(tmp_path, {"p": [f"vn_{number}" for number in range(1, 18)]}, 0.3)
    assert_refused(tmp_path, tmp_path / "p", "at most 16 players", "found 17")


def test_a_misspelt_instrument_in_a_folders_name_is_refused_with_a_hint(urmp: Path) -> None:
    (urmp / DUET).rename(urmp / "01_Jupiter_vn_vcl")
    assert_refused(urmp, urmp / "01_Jupiter_vn_vcl", "vn va vc db fl ob cl sax bn tpt hn tbn tba", "did you mean vc?")


@pytest.mark.parametrize(("name", "hint"), [("violon", "vn"), ("trmpt", "tpt"), ("Vnn_1", "vn")])
def test_an_unknown_instrument_of_a_plain_file_is_refused_with_a_hint(
    tmp_path: Path, tune: np.ndarray, name: str, hint: str
) -> None:
    write_wav(tmp_path / "p" / f"{name}.wav", tune)
    assert_refused(tmp_path, tmp_path / "p" / f"{name}.wav", "tbn tba", f"did you mean {hint}?")


def test_a_stereo_file_of_urmps_layout_is_refused_with_the_command_that_mixes_it_down(
    urmp: Path, tune: np.ndarray
) -> None:
    write_wav(stem_of(urmp), np.stack([tune, tune], axis=1))
    assert_refused(urmp, stem_of(urmp), "one channel", "found 2", "remix -", "ffmpeg")


@pytest.mark.parametrize("rate", [4_000, 500_000])
def test_a_rate_out_of_range_is_refused(urmp: Path, tune: np.ndarray, rate: int) -> None:
    write_wav(stem_of(urmp), tune, rate)
    assert_refused(urmp, stem_of(urmp), "8000 to 384000 Hz", f"found {rate} Hz")


def test_a_file_that_is_no_audio_is_refused(urmp: Path) -> None:
    stem_of(urmp).write_text("this is a shopping list")
    assert_refused(urmp, stem_of(urmp), "readable audio", "ffmpeg")


def test_a_damaged_header_is_refused(urmp: Path) -> None:
    path = stem_of(urmp)
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xee" * 8 + content[28:])  # the sample format
    assert_refused(urmp, path, "readable audio")


def test_an_empty_file_is_refused(urmp: Path) -> None:
    stem_of(urmp).write_bytes(b"")
    assert_refused(urmp, stem_of(urmp), "found an empty file")


def test_a_file_without_samples_is_refused(urmp: Path) -> None:
    write_wav(stem_of(urmp), np.zeros(0))
    assert_refused(urmp, stem_of(urmp), "expected samples", "found none")


def test_a_folder_in_place_of_a_stem_is_refused(urmp: Path) -> None:
    path = stem_of(urmp)
    path.unlink()
    path.mkdir()
    assert_refused(urmp, path, "found a folder")


def test_a_link_to_nothing_is_refused(urmp: Path) -> None:
    path = stem_of(urmp)
    path.unlink()
    path.symlink_to(urmp / "gone.wav")
    assert_refused(urmp, path, "No such file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_finite_number_is_refused_with_its_second(
    urmp: Path, tune: np.ndarray, value: float
) -> None:
    tune[24_000] = value
    write_wav(stem_of(urmp), tune, subtype="FLOAT")
    assert_refused(urmp, stem_of(urmp), "finite samples", f"found {value}", "second 0.500", load=True)


@pytest.mark.parametrize("peak", [0.0, 3e-5])
def test_a_silent_stem_is_refused(urmp: Path, tune: np.ndarray, peak: float) -> None:
    write_wav(stem_of(urmp), tune * peak / np.abs(tune).max())
    assert_refused(urmp, stem_of(urmp), "found silence", "-90 dBFS", load=True)


def test_samples_on_an_integer_scale_in_a_float_file_are_refused(urmp: Path, tune: np.ndarray) -> None:
    write_wav(stem_of(urmp), tune * 32_768, subtype="FLOAT")
    assert_refused(urmp, stem_of(urmp), "between -1 and 1", "a peak of 4.92e+03", load=True)


def test_a_file_that_changed_since_its_header_was_read_is_refused(urmp: Path, tune: np.ndarray) -> None:
    stem = read_folder(urmp).pieces[0].stems[0]
    write_wav(stem.path, tune[:1_000])
    with pytest.raises(UserError, match="expected 48000 samples, found 1000"):
        load_stem(stem)
