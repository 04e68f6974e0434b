"""Headers of audio files that contradict themselves: read where nothing is lost or invented, else refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile import refusal
from sound_bytes import INFO, UNKNOWN, chunk, decoded, form, riff, samples

from sepsearch.audio.reading import flac_md5, read_audio, read_header
from sepsearch.audio.streams import check_samples, open_sound

ODD = samples(151)  # 453 bytes
EVEN = samples(150)
SOX_UNKNOWN = 0x7FFFF000 // 3 * 3


def assert_read(path: Path, content: bytes, wanted: np.ndarray, *words: str) -> None:
    """The file is read as these samples; its one note holds the words, or there is none."""
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path), wanted)
    notes = read_header(path).notes
    assert len(notes) == bool(words)
    for word in words:
        assert word in notes[0]


@pytest.mark.parametrize("text", [b"Pro Tools\0", b"Pro Tools, of which the list is so long that I"])
def test_an_odd_number_of_bytes_without_padding_before_another_chunk_is_read_whole(tmp_path, text):
    info = chunk(b"LIST", b"INFO" + chunk(b"ISFT", text))
    assert_read(tmp_path / "vn.wav", riff(form(), chunk(b"data", ODD, padded=False), info), decoded(ODD))


@pytest.mark.parametrize("speed", [0, 96_000, 144_001, UNKNOWN])
def test_a_wrong_number_of_bytes_a_second_is_noted(tmp_path, speed):
    content = riff(form(speed=speed), chunk(b"data", EVEN))
    assert_read(tmp_path / "vn.wav", content, decoded(EVEN), "48000 Hz", f"{speed} bytes a second")


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("behind", [b"", INFO])
def test_half_a_sample_too_much_is_noted_and_all_whole_samples_are_read(tmp_path, bits, behind):
    audio = samples(150, bits) + b"\7"
    content = riff(form(bits=bits), chunk(b"data", audio), behind)
    assert_read(tmp_path / "vn.wav", content, decoded(audio, bits), "ends within a sample")


@pytest.mark.parametrize("padded", [True, False])
def test_an_odd_number_of_8_bit_samples_gets_none_from_the_padding(tmp_path, padded):
    content = riff(form(bits=8), chunk(b"data", samples(151, 8), padded=padded), INFO)
    (tmp_path / "vn.wav").write_bytes(content)
    assert read_header(tmp_path / "vn.wav").frames == 151


@pytest.mark.parametrize(
    "behind",
    [
        b"TAG" + b"title".ljust(125, b"\0"),  # ID3v1
        bytes(700),  # whole sectors
        b"APETAGEX and more",  # outside of what the header counts
    ],
)
def test_what_follows_the_riff_content_is_passed_over(tmp_path, behind):
    assert_read(tmp_path / "vn.wav", riff(form(), chunk(b"data", EVEN)) + behind, decoded(EVEN))


@pytest.mark.parametrize("behind", [bytes(33), chunk(b"LIST", b"INFO", 40_000)])
def test_zeros_or_a_chunk_that_is_cut_off_behind_the_audio_are_passed_over(tmp_path, behind):
    assert_read(tmp_path / "vn.wav", riff(form(), chunk(b"data", EVEN), behind), decoded(EVEN))


@pytest.mark.parametrize("length", [0, 100, UNKNOWN])
def test_a_wrong_length_of_the_riff_content_is_passed_over(tmp_path, length):
    assert_read(tmp_path / "vn.wav", riff(form(), chunk(b"data", EVEN), length=length), decoded(EVEN))


def test_a_wav_file_behind_an_id3_tag_is_read(tmp_path):
    tag = b"ID3\3\0\0\0\0\0\x10" + bytes(16)
    assert_read(tmp_path / "vn.wav", tag + riff(form(), chunk(b"data", ODD, padded=False), INFO), decoded(ODD))


@pytest.mark.parametrize("length", [UNKNOWN, SOX_UNKNOWN])
def test_the_audio_of_a_program_that_streams_is_read_to_its_end_and_noted(tmp_path, length):
    content = riff(form(), chunk(b"data", EVEN, length), length=UNKNOWN)
    assert_read(tmp_path / "vn.wav", content, decoded(EVEN), "no length of the audio")


def test_a_recording_that_was_not_closed_is_read_to_its_end_and_noted(tmp_path):
    content = riff(form(), chunk(b"data", EVEN, 0), length=8)  # libsndfile knows this header, and reads all
    assert_read(tmp_path / "vn.wav", content, decoded(EVEN), "no length of the audio")


def test_a_length_of_zero_of_which_libsndfile_reads_nothing_is_refused_with_a_command(tmp_path):
    (tmp_path / "vn.wav").write_bytes(riff(form(), chunk(b"data", EVEN, 0), length=36))
    assert "sox --ignore-length IN.wav OUT.wav" in refusal(lambda: read_header(tmp_path / "vn.wav"))


def test_chunks_behind_audio_without_a_length_are_refused_with_the_command_that_keeps_the_samples(tmp_path):
    more = chunk(b"id3 ", b"x" * 33)
    (tmp_path / "vn.wav").write_bytes(riff(form(), chunk(b"data", EVEN, UNKNOWN), INFO, more, length=UNKNOWN))
    message = refusal(lambda: read_header(tmp_path / "vn.wav"))
    assert f"{len(INFO + more)} bytes behind the audio" in message
    assert "atrim=end_sample=150 -c:a pcm_s24le" in message


@pytest.mark.parametrize("claimed", [450 + 3, 4500, 0xFFFFFFF0])
def test_a_file_that_is_cut_off_is_refused_with_the_command_that_keeps_what_is_there(tmp_path, claimed):
    (tmp_path / "vn.wav").write_bytes(riff(form(), chunk(b"data", EVEN, claimed)))
    message = refusal(lambda: read_header(tmp_path / "vn.wav"))
    assert f"expected {claimed} bytes of audio as its header says, found 450" in message
    assert "ffmpeg -i IN.wav -c copy OUT.wav" in message


def test_a_padding_byte_that_is_counted_but_not_there_is_passed_over(tmp_path):
    content = riff(form(), chunk(b"data", ODD, len(ODD) + 1, padded=False))
    assert_read(tmp_path / "vn.wav", content, decoded(ODD))


def test_a_cut_is_seen_behind_comments_that_fill_libsndfiles_log(tmp_path):
    comments = chunk(b"LIST", b"INFO" + b"".join(chunk(b"ICMT", b"c" * 100) for _ in range(60)))
    (tmp_path / "vn.wav").write_bytes(riff(form(), comments, chunk(b"data", EVEN, 4500)))
    assert "data" not in soundfile.info(tmp_path / "vn.wav").extra_info
    assert "cut off" in refusal(lambda: read_header(tmp_path / "vn.wav"))


def test_samples_behind_the_length_that_the_header_gives_are_refused(tmp_path):
    (tmp_path / "vn.wav").write_bytes(riff(form(), chunk(b"data", EVEN, 300)))
    assert "found 150 more behind them" in refusal(lambda: read_header(tmp_path / "vn.wav"))


@pytest.mark.parametrize(("bits", "block"), [(16, 4), (24, 4), (32, 3)])
def test_blocks_of_another_size_than_the_samples_are_refused(tmp_path, bits, block):
    content = riff(form(bits=bits, block=block), chunk(b"data", samples(600, 8)))
    (tmp_path / "vn.wav").write_bytes(content)
    assert f"found {block}: the header is damaged" in refusal(lambda: read_header(tmp_path / "vn.wav"))


@pytest.mark.parametrize("name", ["vn.wav", "vn.aiff", "vn.flac"])
@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC"])
def test_the_content_says_what_a_file_is_whatever_its_name(tmp_path, name, kind):
    soundfile.write(tmp_path / name, decoded(EVEN), 48_000, subtype="PCM_24", format=kind)
    np.testing.assert_array_equal(read_audio(tmp_path / name), decoded(EVEN))


@pytest.mark.parametrize(("kind", "subtype"), [("W64", "PCM_16"), ("WAV", "IMA_ADPCM"), ("CAF", "PCM_16")])
def test_another_format_is_refused_by_its_name_with_a_command(tmp_path, kind, subtype):
    soundfile.write(tmp_path / "vn.wav", decoded(samples(2000)), 48_000, subtype=subtype, format=kind)
    message = refusal(lambda: read_header(tmp_path / "vn.wav"))
    assert f"found {kind} of kind {subtype}" in message
    assert "ffmpeg -i IN.wav OUT.flac" in message


def aiff(count: int = 151) -> tuple[bytearray, int, int]:
    """A 24-bit AIFF file of so many samples, and where the lengths in COMM and SSND are."""
    file = io.BytesIO()
    soundfile.write(file, decoded(samples(count)), 48_000, subtype="PCM_24", format="AIFF")
    content = bytearray(file.getvalue())
    return content, content.find(b"COMM") + 10, content.find(b"SSND") + 4


@pytest.mark.parametrize("length", [0, 461, UNKNOWN])
def test_an_aiff_file_whose_lengths_differ_is_read_where_libsndfile_reads_all_its_samples(tmp_path, length):
    content, _, ssnd = aiff()
    content[ssnd : ssnd + 4] = struct.pack(">I", length)
    assert_read(tmp_path / "vn.aiff", bytes(content), decoded(ODD))


def test_an_aiff_file_without_the_last_byte_of_padding_is_read(tmp_path):
    assert_read(tmp_path / "vn.aiff", bytes(aiff()[0][:-1]), decoded(ODD))


def test_an_aiff_file_with_two_sample_rates_is_refused(tmp_path):
    content = aiff()[0]
    begin = content.find(b"COMM")
    other = content[begin : begin + 26]
    other[18:20] = struct.pack(">H", 0xAC44)  # 44,100 Hz
    (tmp_path / "vn.aiff").write_bytes(content[:begin] + other + content[begin:])
    message = refusal(lambda: read_header(tmp_path / "vn.aiff"))
    assert "expected one chunk that gives rate and width, found 2" in message


def test_an_rf64_file_with_another_chunk_of_audio_in_place_of_its_lengths_is_refused(tmp_path):
    soundfile.write(tmp_path / "vn.wav", decoded(ODD), 48_000, subtype="PCM_24", format="RF64")
    content = (tmp_path / "vn.wav").read_bytes()
    (tmp_path / "vn.wav").write_bytes(content.replace(b"ds64", b"data", 1))
    assert "expected one chunk of audio" in refusal(lambda: read_header(tmp_path / "vn.wav"))


@pytest.mark.parametrize("frames", [7, 150, 152])
def test_an_aiff_file_with_two_numbers_of_samples_is_refused(tmp_path, frames):
    content, comm, _ = aiff()
    content[comm : comm + 4] = struct.pack(">I", frames)
    (tmp_path / "vn.aiff").write_bytes(content)
    assert f"expected {frames} samples" in refusal(lambda: read_header(tmp_path / "vn.aiff"))


def test_the_md5_of_a_flac_file_is_found_behind_an_id3_tag(tmp_path):
    soundfile.write(tmp_path / "vn.flac", decoded(ODD), 48_000, subtype="PCM_24")
    content = (tmp_path / "vn.flac").read_bytes()
    md5 = flac_md5(tmp_path / "vn.flac")
    assert md5 == content[26:42]
    assert_read(tmp_path / "vn.flac", b"ID3\3\0\0\0\0\0\x10" + bytes(16) + content, decoded(ODD))
    assert flac_md5(tmp_path / "vn.flac") == md5


def test_a_tag_behind_the_last_page_of_an_ogg_file_is_passed_over(tmp_path):
    soundfile.write(tmp_path / "mix.ogg", decoded(samples(9_000)), 48_000)
    (tmp_path / "mix.ogg").write_bytes((tmp_path / "mix.ogg").read_bytes() + b"TAG0" * 9)
    sound = open_sound(tmp_path / "mix.ogg")
    assert sound.frames == 9_000
    assert check_samples(sound) < 2


@pytest.mark.parametrize("lost", [5, 200])
def test_an_ogg_file_without_a_whole_last_page_is_refused(tmp_path, lost):
    soundfile.write(tmp_path / "mix.ogg", decoded(samples(90_000)), 48_000)
    (tmp_path / "mix.ogg").write_bytes((tmp_path / "mix.ogg").read_bytes()[:-lost])
    assert "the file is cut off" in refusal(lambda: open_sound(tmp_path / "mix.ogg"))
