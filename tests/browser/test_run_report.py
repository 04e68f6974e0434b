"""The run report in a real browser: what its script does, and whether everybody can use it."""

import csv
import re

import numpy as np
import pytest
from browser_waits import until
from event_fixtures import journal, write_run
from page_checks import SIZES, requests_of, violations
from report_story import whole_story
from sample_files import FACTS, waveforms
from sample_files import write as write_sample

from sepsearch.audio.spectrogram import FrontEnd
from sepsearch.reporting.page import write_report


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The report of a finished run with two samples: the violin's of 8 s; the cello's of 1 s, which is much quieter."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "duets", journal(whole_story()))
    long = dict(zip(("mixture", "target", "estimate"), (np.tile(voice, 8) for voice in waveforms()), strict=True))
    write_sample(folder / "samples" / "vn", front_end=FrontEnd(clip_seconds=8.0), **long)
    mixture, target, estimate = waveforms(1)
    quiet = {"target": target / 4, "estimate": estimate / 4, "facts": {**FACTS, "instrument": "vc"}}
    write_sample(folder / "samples" / "vc", mixture=mixture, **quiet)
    return write_report(folder).as_uri()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_axe_finds_no_violation(open_page, address, width, scheme):
    page = open_page(address, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert violations(page) == []


@pytest.mark.parametrize("width", [390, 800, 1440])
def test_only_tables_and_figures_scroll_sideways(open_page, address, width):
    assert open_page(address, width).evaluate("document.documentElement.scrollWidth") == width


def test_the_page_asks_for_nothing_from_elsewhere(browser, address):
    assert requests_of(browser, address) == {address}


def test_the_pointer_reads_name_epoch_and_value_of_a_grey_line(open_page, address):
    page = open_page(address)
    # The last point of t0001, which is no finalist.
    place = page.locator("#trials svg[data-values]").evaluate(
        """svg => {
            const {map: [a, b, c, d], traces} = JSON.parse(svg.dataset.values);
            const [, x, y] = traces.find(([name]) => name === "t0001");
            svg.scrollIntoView({block: "center"});
            const at = new DOMPoint(a * x.at(-1) + b, c * Math.log10(y.at(-1)) + d).matrixTransform(svg.getScreenCTM());
            return [at.x, at.y];
        }"""
    )
    page.mouse.move(place[0] + 2, place[1] + 2)
    assert page.locator(".tip").inner_text() == "t0001, epoch 4: 0.5"
    page.mouse.move(5, 5)
    assert page.locator(".tip").is_hidden()


def test_a_point_that_is_read_lies_where_it_is_drawn(open_page, address):
    distance = (
        open_page(address)
        .locator("#curves svg[data-values]")
        .first.evaluate(
            """svg => {
            const {map: [a, b, c, d], traces: [[, x, y]]} = JSON.parse(svg.dataset.values);
            const starts = [...svg.querySelectorAll("path")].map(path => path.getAttribute("d").match(/^M (\\S+) (\\S+)/));
            return Math.min(...starts.filter(Boolean).map(([, px, py]) => Math.hypot(px - a * x[0] - b, py - c * Math.log10(y[0]) - d)));
        }"""
        )
    )
    assert distance < 0.1


def test_arrow_keys_read_a_figure_and_escape_ends_it(open_page, address):
    page = open_page(address)
    page.locator("#trials svg[data-values]").focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        said.append(page.locator(".tip").inner_text())
    assert said == ["t0000 (reference), epoch 1: 0.9", "t0000 (reference), epoch 2: 0.8", "t0001, epoch 2: 0.7"]
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()


def test_the_lines_of_the_search_bear_their_names(open_page, address):
    drawn = open_page(address).locator("#trials svg[data-values] text").all_text_contents()
    assert {"t0000 (reference)", "t0001", "t0002 (c0)", "t0003"} <= set(drawn)


def first_column(page, section):
    return page.locator(f"{section} table").first.locator("tbody th").all_inner_texts()


def test_a_heading_sorts_by_keyboard_and_says_which_way(open_page, address):
    page = open_page(address)
    heading = page.locator("#result th").filter(has_text="ratio ± sd")
    heading.locator("button").focus()
    for way, order in (("ascending", ["cello*†", "violin"]), ("descending", ["violin", "cello*†"])):
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == way
        assert first_column(page, "#result") == order


def test_a_table_is_saved_as_csv_with_numbers_that_programs_read(open_page, address, tmp_path):
    page = open_page(address)
    with page.expect_download() as saved:
        page.get_by_role("button", name=re.compile("Save the table “Separated audio")).click()
    assert saved.value.suggested_filename == "duets-plain-separated-audio-of-the-test-titles.csv"
    saved.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["instrument"] == "violin"
    assert float(rows[0]["gain (SI-SDR, dB)"]) == -2.5
    assert rows[0]["gain (SDR, dB)"] == ""


def test_a_table_is_copied_as_it_is_sorted(open_page, address):
    page = open_page(address, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#result th").filter(has_text="ratio ± sd").locator("button").click()
    page.get_by_role("button", name=re.compile("Copy the table “Final models")).click()
    page.locator(".said", has_text="copied").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["instrument", "cello*†", "violin", "mean"]


def test_another_clip_takes_over_at_the_same_moment(open_page, address):
    page = open_page(address)
    sample = page.locator("#sample-vn")
    sample.get_by_role("button", name="Play violin").click()
    until(page, "Clips.current?.time > 0.2")
    before = page.evaluate("Clips.current.time")
    sample.get_by_role("button", name="estimate").click()
    until(page, "Clips.current.gains[2] > 0")
    after = page.evaluate("({time: Clips.current.time, gains: Clips.current.gains, playing: Clips.current.playing})")
    assert after["playing"]
    assert before <= after["time"] < 8
    assert after["gains"][:2] == [0, 0]
    assert sample.locator("[aria-pressed=true]").inner_text() == "estimate"


def test_clips_play_at_one_level_unless_that_is_switched_off(open_page, address):
    page = open_page(address)
    sample = page.locator("#sample-vc")
    sample.get_by_role("button", name="Play cello").click()
    until(page, "Clips.current?.levels")
    levels = page.evaluate("Clips.current.buffers.map((one, n) => [measure(one), Clips.current.levels[n]])")
    heard = [measured["rms"] * gain for measured, gain in levels]
    assert heard == pytest.approx([heard[0]] * 3, rel=1e-3)
    assert max(measured["peak"] * gain for measured, gain in levels) == pytest.approx(0.95, rel=1e-3)
    assert levels[0][0]["rms"] > 3 * levels[1][0]["rms"]
    sample.get_by_label("same level").uncheck()
    assert page.evaluate("Clips.current.gains") == [1, 0, 0]


def test_one_instrument_plays_at_a_time_and_goes_back_to_its_beginning_at_the_end(open_page, address):
    page = open_page(address)
    page.get_by_role("button", name="Play violin").click()
    page.get_by_role("button", name="Pause violin").wait_for()
    page.get_by_role("button", name="Play cello").click()
    page.get_by_role("button", name="Pause cello").wait_for()
    assert page.get_by_role("button", name="Play violin").is_visible()
    page.get_by_role("button", name="Play cello").wait_for()
    assert page.evaluate("Clips.current.time") == 0


def test_a_click_on_a_spectrogram_goes_there(open_page, address):
    page = open_page(address)
    spectrogram = page.locator("#sample-vn .span").first
    spectrogram.scroll_into_view_if_needed()
    axes = spectrogram.bounding_box()
    page.mouse.click(axes["x"] + axes["width"] / 2, axes["y"] + axes["height"] / 2)
    until(page, "document.querySelector('#sample-vn input[type=range]').value > 3")
    assert float(page.locator("#sample-vn input[type=range]").input_value()) == pytest.approx(4, abs=0.1)


def test_a_blind_test_hides_which_clip_is_heard_and_counts_the_answers(open_page, address):
    page = open_page(address)
    sample = page.locator("#sample-vn")
    sample.get_by_text("Blind test").click()
    sample.get_by_role("button", name="Hear X").click()
    until(page, "Clips.current?.playing")
    assert sample.locator("[aria-pressed=true], .heard").count() == 0
    gains = page.evaluate("Clips.current.gains")
    x = "A" if gains[1] else "B"  # A is the target, B the estimate
    sample.get_by_role("button", name=f"X is {x}").click()
    assert (
        sample.locator(".blind .said").inner_text().startswith(f"Right: X was {x}. 1 of 1 right; guessing gives that")
    )
    assert "probability of 50 %" in sample.locator(".blind .said").inner_text()


def test_without_scripts_every_clip_has_a_plain_player(open_page, address):
    page = open_page(address, java_script_enabled=False)
    assert page.locator("audio").count() == 6
    assert all(player.is_visible() for player in page.locator("audio").all())
    assert page.get_by_role("button", name="Copy").count() == 0


def test_the_first_stop_of_the_keyboard_skips_to_the_content(open_page, address):
    page = open_page(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#content")


def test_arrow_keys_read_sizes_of_trials_from_the_smallest_to_the_largest(open_page, address):
    page = open_page(address)
    page.locator("#size svg[data-values]").first.focus()
    said = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        said.append(page.locator(".tip").inner_text())
    assert said[0] == "t0001: 52,386 parameters, ratio 0.500"
    sizes = [int(re.search(r": ([\d,]+) parameters", text)[1].replace(",", "")) for text in said]
    assert sizes == sorted(sizes)
