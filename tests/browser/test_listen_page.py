"""The page of `sepsearch listen` in a real browser: a recording is dropped, and its voices are heard."""

import base64
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import soundfile
from browser_waits import until
from page_checks import SIZES, violations
from untrained_models import write_models, write_noise

# What reaches the loudspeakers goes through an analyser, too, so that a test hears it.
EAR = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) connect.call(this, window.ear ??= new AnalyserNode(this.context, {fftSize: 8192}));
  return connect.call(this, to, ...rest);
};
window.heard = () => {
  const samples = new Float32Array(8192);
  window.ear?.getFloatTimeDomainData(samples);
  return Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
};
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def address(run):
    """The page, served by the command itself, with untrained models of a violin and a cello."""
    pytest.importorskip("gradio", reason="no gradio: make test-browser installs it")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sepsearch.listen", "--model", str(run), "--port", str(port)]
    # The run's folder is the one that it works in, which some servers would hand out.
    process = subprocess.Popen(command, cwd=run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url).close()
            break
        except OSError:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.2)
    yield url
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("recording") / "duo.wav", 20.0)


# What a person does who drops a file: gradio reads `dataTransfer.files`.
DROP = """(area, {name, text}) => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, {type: "audio/wav"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    area.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer}));
}"""


def drop(page, path):
    area = page.locator("button:has(input[type=file])")
    area.wait_for()
    area.evaluate(DROP, {"name": path.name, "text": base64.b64encode(path.read_bytes()).decode()})
    page.locator(".file-preview").wait_for()


@pytest.fixture
def separated(open_page, address, recording):
    """The page with the voices of the recording."""
    page = open_page("about:blank")
    page.add_init_script(EAR)
    page.goto(address)
    drop(page, recording)
    page.get_by_role("button", name="Separate").click()
    page.locator(".mixer").wait_for()
    return page


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def play(page):
    press(page, "Play")
    page.get_by_role("button", name="Pause").wait_for()
    until(page, "heard() > 0.01")


def settled(page):
    """The level that is heard once a change has been carried out."""
    page.wait_for_timeout(500)
    return page.evaluate("heard()")


def test_a_recording_that_is_dropped_becomes_voices(separated):
    assert separated.locator(".voice b").all_text_contents() == ["violin", "cello", "everything else"]
    assert separated.locator(".mixer h2").inner_text() == "duo.wav"


def test_all_voices_together_sound_as_loud_as_the_recording(separated):
    play(separated)
    # Noise of 0.1; the analyser hears the mean of the two channels.
    assert settled(separated) == pytest.approx(0.1 / np.sqrt(2), rel=0.1)


def test_mute_silences_what_plays_and_gives_it_back(separated):
    play(separated)
    for name in ("violin", "cello", "everything else"):
        press(separated, f"Mute {name}")
    assert settled(separated) < 1e-4
    press(separated, "Mute cello")
    assert settled(separated) > 0.005


def test_solo_leaves_one_voice_and_mute_silences_that_too(separated):
    play(separated)
    whole = settled(separated)
    press(separated, "Solo violin")
    assert 0.001 < settled(separated) < 0.9 * whole
    assert separated.locator(".voice.silent b").all_text_contents() == ["cello", "everything else"]
    press(separated, "Mute violin")
    assert settled(separated) < 1e-4


def test_a_voice_is_downloaded_as_long_as_the_recording(separated, recording, tmp_path):
    with separated.expect_download() as saved:
        separated.get_by_role("link", name="Download cello").click()
    assert saved.value.suggested_filename == "duo-cello.wav"
    saved.value.save_as(tmp_path / "vc.wav")
    found, expected = soundfile.info(tmp_path / "vc.wav"), soundfile.info(recording)
    assert (found.frames, found.samplerate, found.channels) == (expected.frames, expected.samplerate, 2)
    assert np.abs(soundfile.read(tmp_path / "vc.wav")[0]).max() > 0.001


def test_what_is_wrong_with_a_file_is_said_on_the_page(open_page, address, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....no sound")
    page = open_page(address)
    drop(page, broken)
    page.get_by_role("button", name="Separate").click()
    said = page.locator(".toast-body", has_text="broken.wav")
    said.wait_for()
    assert "broken.wav" in said.inner_text()


def test_the_page_asks_for_nothing_from_another_machine(browser, address):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    page.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_nothing_but_loopback_is_listened_on(address):
    port = int(address.rsplit(":", 1)[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; says which address of this machine is the outer one
        outer = probe.getsockname()[0]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((outer, port), timeout=5).close()


@pytest.mark.parametrize("path", ["/etc/hostname", "{run}/models/vn/model.json"])
def test_no_other_file_of_this_machine_is_served(address, run, path):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}/gradio_api/file={path.format(run=run)}").close()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_axe_finds_no_violation_before_and_after_a_recording(open_page, address, recording, width, scheme):
    page = open_page(address, width, scheme)
    page.get_by_text("Drop File Here").wait_for()
    page.wait_for_function("!document.querySelector('p.loading')")  # parts of gradio come later on a slow machine
    assert violations(page) == []
    drop(page, recording)
    page.get_by_role("button", name="Separate").click()
    page.locator(".mixer").wait_for()
    press(page, "Solo violin")
    press(page, "Mute cello")
    page.mouse.move(5, 5)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
