"""A folder as musicians have it: names in words, stereo and compressed stems, and all of its problems at once."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recording_fixtures import RATE, melody, write_urmp_tree, write_wav

from sepsearch.data.recordings import load_mixture, load_piece, read_folder
from sepsearch.utils.errors import UserError, UserErrors, each_problem, exit_on_user_error


@pytest.fixture
def tune() -> np.ndarray:
    return melody("vn", 1.0, np.random.default_rng(0))


def players(root: Path, tune: np.ndarray, *names: str, piece: str = "Elise") -> list[tuple[str, str]]:
    """(instrument, file) of the stems of a piece with files of these names, as it is read."""
    for name in names:
        write_wav(root / piece / name, tune)
    return [(stem.instrument, stem.path.name) for stem in read_folder(root).pieces[0].stems]


def problems_of(folder: Path) -> list[str]:
    """What is wrong with a folder, a line each, with paths below it."""
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    found = [str(problem) for problem in each_problem(caught.value)]
    assert not any("\n" in text for text in found)
    return [text.replace(f"{folder}/", "") for text in found]


# Names.


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        (["violin.wav", "cello.wav"], ["vc", "vn"]),
        (["Violin 1.wav", "Violin 2.wav", "Viola.wav", "Cello.wav"], ["va", "vc", "vn", "vn"]),
        (["Vln. I.wav", "Vln. II.wav"], ["vn", "vn"]),
        (["1st violin.wav", "2nd Violin.wav"], ["vn", "vn"]),
        (["First Violin.wav", "second-violin.wav"], ["vn", "vn"]),
        (["01 Violin 1.wav", "02 Violin 2.wav", "03 Viola.wav"], ["va", "vn", "vn"]),
        (["01-vn.wav", "02-vn.wav"], ["vn", "vn"]),
        (["vn1.wav", "vn2.wav", "vn10.wav"], ["vn", "vn", "vn"]),
        (["cello_1.wav", "cello_2.wav"], ["vc", "vc"]),
        (["Elise - Violin 1.wav", "Elise_violin_2.wav"], ["vn", "vn"]),
        (["French Horn.wav", "double_bass.wav"], ["db", "hn"]),
    ],
)
def test_stems_are_known_by_names_and_numbers_in_many_spellings(tmp_path, tune, names, codes):
    found = players(tmp_path, tune, *names)
    assert [code for code, _ in found] == codes
    assert [name for code, name in found if code == "vn"] == [name for name in names if "v" in name.lower()][
        : codes.count("vn")
    ]


@pytest.mark.parametrize("name", ["cello.wav", "Cello 2.wav", "'cello.wav", "cello-1.wav", "Celli.wav"])
def test_a_cello_is_never_a_clarinet(tmp_path, tune, name):
    assert players(tmp_path, tune, name) == [("vc", name)]


@pytest.mark.parametrize("name", ["mix.mp3", "Mixdown.wav", "full mix.flac", "Stereo Master.wav", "Final_Mix.ogg"])
def test_mixtures_have_several_names(tmp_path, tune, name):
    write_wav(tmp_path / "Elise" / "vn.wav", tune)
    soundfile.write(tmp_path / "Elise" / name, tune, RATE)
    assert read_folder(tmp_path).pieces[0].mixture == tmp_path / "Elise" / name


def test_of_two_mixtures_one_is_taken_with_a_note(tmp_path, tune):
    for name in ("vn", "vc", "mix", "mixdown"):
        write_wav(tmp_path / "Elise" / f"{name}.wav", tune)
    assert "Elise: mix.wav is taken as its mixture, mixdown.wav passed over" in read_folder(tmp_path).notes


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "bass.wav",
            "found 'bass', which may be db (double bass) or bn (bassoon): name stems like vn.wav, Violin 1.wav",
        ),
        ("Viol. 1.wav", "found 'Viol. 1', which may be vn (violin) or va (viola)"),
        (
            "piano.wav",
            "expected an instrument's name or code (vn va vc db fl ob cl sax bn tpt hn tbn tba), found 'piano'",
        ),
        ("violin solo take.wav", "found 'violin solo take'"),
        ("vn_1_2.wav", "found 'vn_1_2'"),
    ],
)
def test_a_name_that_is_ambiguous_or_of_no_instrument_is_refused_with_what_was_expected(tmp_path, tune, name, found):
    write_wav(tmp_path / "Elise" / name, tune)
    (problem,) = problems_of(tmp_path)
    assert problem.startswith(f"Elise/{name}: expected an instrument")
    assert found in problem


def test_two_files_of_one_player_are_refused(tmp_path, tune):
    for name in ("vn_1.wav", "Violin 1.wav", "va.wav"):
        write_wav(tmp_path / "Elise" / name, tune)
    (problem,) = problems_of(tmp_path)
    assert "expected one violin 1, found Violin 1.wav and vn_1.wav: number or remove one" in problem


def test_words_in_a_title_of_urmps_layout_are_no_instruments(tmp_path):
    write_urmp_tree(tmp_path, [("01_Horn_vn_vc", 0.3)])
    (piece,) = read_folder(tmp_path).pieces
    assert (piece.title, [stem.instrument for stem in piece.stems]) == ("Horn", ["vn", "vc"])


# Several channels, compressed audio.


def test_stereo_stems_are_mixed_down_to_their_mean_and_noted_once(tmp_path, tune):
    for piece in ("a", "b"):
        write_wav(tmp_path / piece / "vn.wav", np.stack([tune, 0.5 * tune], axis=1))
        write_wav(tmp_path / piece / "vc.wav", tune)
    recordings = read_folder(tmp_path)
    np.testing.assert_allclose(load_piece(recordings.pieces[0])[1], 0.75 * tune, atol=2**-22)
    note = "2 of 4 stems have several channels, such as a/vn.wav: mixed down to one channel, the mean of their channels"
    assert recordings.notes == (note,)


def test_a_stereo_mixture_is_mixed_down_as_the_stems_are(tmp_path, tune):
    for name in ("vn", "mix"):
        write_wav(tmp_path / "Elise" / f"{name}.wav", np.stack([tune, 0.2 * tune], axis=1))
    np.testing.assert_allclose(load_mixture(read_folder(tmp_path).pieces[0]), 0.6 * tune, atol=2**-22)


def test_channels_that_cancel_each_other_are_refused(tmp_path, tune):
    write_wav(tmp_path / "Elise" / "vn.wav", np.stack([tune, -tune], axis=1))
    (piece,) = read_folder(tmp_path).pieces
    with pytest.raises(UserError, match="expected channels that can be mixed down, found that they cancel each other"):
        load_piece(piece)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
def test_compressed_stems_are_read(tmp_path, tune, suffix):
    (tmp_path / "Elise").mkdir()
    soundfile.write(tmp_path / "Elise" / f"violin.{suffix}", tune, RATE)
    (loaded,) = load_piece(read_folder(tmp_path).pieces[0])
    assert len(loaded) == len(tune)
    assert np.abs(loaded - tune).std() < 0.1 * tune.std()


def test_stems_with_losses_are_noted_once(tmp_path, tune):
    for name in ("vn.mp3", "vc.ogg", "va.flac"):
        (tmp_path / "Elise").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "Elise" / name, tune, RATE)
    notes = [note for note in read_folder(tmp_path).notes if "MP3 or Ogg" in note]
    assert notes == [
        "2 of 3 stems are MP3 or Ogg, such as Elise/vc.ogg: read as they are; networks learn the losses, too: use WAV "
        "or FLAC if you can"
    ]


def test_an_mp3_stem_that_does_not_say_its_length_is_counted(tmp_path, tune):
    path = tmp_path / "Elise" / "vn.mp3"
    path.parent.mkdir()
    soundfile.write(path, tune, RATE, bitrate_mode="CONSTANT")
    data = bytearray(path.read_bytes())
    at = max(data.find(b"Info"), data.find(b"Xing"))
    data[at : at + 4] = b"none"
    path.write_bytes(data)
    (stem,) = read_folder(tmp_path).pieces[0].stems
    assert stem.frames == len(soundfile.read(path)[0])


@pytest.mark.parametrize("name", ["violin.m4a", "violin.wma", "violin.aac", "Violin 2.m4a"])
def test_audio_that_cannot_be_read_is_refused_and_never_passed_over(tmp_path, tune, name):
    write_wav(tmp_path / "Elise" / "vc.wav", tune)
    (tmp_path / "Elise" / name).write_bytes(b"\0\0\0 ftypM4A and so on")
    (problem,) = problems_of(tmp_path)
    assert problem.startswith(f"Elise/{name}: expected readable audio, found: Format not recognised: export it again")


# All problems at once.


def test_every_problem_of_a_folder_is_found_in_one_pass(tmp_path, tune):
    write_wav(tmp_path / "a" / "violon.wav", tune)
    write_wav(tmp_path / "a" / "bass.wav", tune)
    write_wav(tmp_path / "a" / "vc.wav", 0 * tune)
    write_wav(tmp_path / "b" / "vn.wav", tune)
    (tmp_path / "b" / "va.wav").write_bytes(b"no audio")
    write_wav(tmp_path / "c" / "fl.wav", np.full(999, np.nan), subtype="FLOAT")
    write_wav(tmp_path / "d" / "ob.wav", tune)
    found = problems_of(tmp_path)
    assert [problem.split(":")[0] for problem in found] == [
        "a/bass.wav",
        "a/violon.wav",
        "b/va.wav",
        "a/vc.wav",
        "c/fl.wav",
    ]
    expected = ["which may be", "did you mean vn", "Format not recognised", "found silence", "finite samples"]
    assert all(word in problem for word, problem in zip(expected, found, strict=True))


def test_stems_beside_pieces_and_pieces_of_one_name_are_among_the_problems(tmp_path, tune):
    write_wav(tmp_path / "vn.wav", tune)
    for place in ("one/Elise/vn.wav", "two/Elise/vn.wav", "three/Pavane/kazoo.wav"):
        write_wav(tmp_path / place, tune)
    found = problems_of(tmp_path)
    assert len(found) == 3
    assert "found both (vn.wav beside Elise)" in found[0]
    assert "found Elise twice" in found[1]
    assert "found 'kazoo'" in found[2]


def test_every_problem_is_a_line_and_the_exit_code_2(tmp_path, tune, capsys):
    for name in ("kazoo", "theremin"):
        write_wav(tmp_path / "Elise" / f"{name}.wav", tune)
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(lambda: read_folder(tmp_path))
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {tmp_path}/Elise/") for line in lines)


def test_one_problem_is_an_error_of_its_own(tmp_path, tune):
    write_wav(tmp_path / "Elise" / "kazoo.wav", tune)
    with pytest.raises(UserError) as caught:
        read_folder(tmp_path)
    assert not isinstance(caught.value, UserErrors)
