"""The page of `sepsearch listen`: a recording in, its voices out, on 127.0.0.1 alone. gradio is imported here only."""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sepsearch.audio.formats import READ_SUFFIXES
from sepsearch.audio.streams import open_sound
from sepsearch.data.instruments import INSTRUMENTS, file_name
from sepsearch.pipeline.separate.files import Voices, check_all, require_length, separate_job
from sepsearch.pipeline.separate.inputs import RESIDUAL
from sepsearch.pipeline.separate.outputs import Job
from sepsearch.tracking.pages import HOST
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.progress import one_torch_thread
from sepsearch.utils.terminal_text import write_line

if TYPE_CHECKING:
    from sepsearch.tracking.resolve import Models

LONGEST = 20  # minutes: the browser holds all voices in memory, about 20 MB a minute of stereo each
KEPT = 4  # separated recordings, the last ones: older files are removed
SYSTEM_FONTS = ["system-ui", "sans-serif"]  # gradio's own would come from elsewhere


def require_gradio() -> None:
    """Raise `UserError` unless gradio is installed."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError("listen: needs gradio, which is not installed: pip install 'sepsearch[listen]'")


class Separation:
    """Separates uploads with some models; voices and residual of the last few recordings are files below `folder`."""

    def __init__(self, models: "Models", folder: Path):
        self._models, self._folder = models, folder
        self._made: deque[Path] = deque()

    def separate(self, path: Path, codes: Sequence[str], all_play: bool) -> str:
        """Markup of the player of a recording's voices.

        Args:
            path: of the recording.
            codes: of the voices.
            all_play: nobody else plays: they share out all of the sound, as with `separate --players`. Else they never
                add up to more than there is, as with `separate --share`, and what is left is a voice of its own.

        Raises:
            UserError: no voice was chosen, or the recording cannot be read, or is too short or too long.
        """
        from sepsearch.audio.stft import NAMED, SHARED
        from sepsearch.reporting.mixer import Voice, mixer_markup

        if not codes:
            raise UserError("voices: none chosen, expected at least one: tick those that you want to hear")
        sound = open_sound(path)
        require_length(sound)
        if sound.seconds > 60 * LONGEST:
            found = f"expected at most {LONGEST} minutes on this page, found {sound.seconds / 60:.0f}"
            raise UserError(f"{path.name}: {found}: use python -m sepsearch.separate, which takes any length")
        models = {code: self._models[code] for code in self._models if code in codes}
        plan = Voices(models, list(models), "wav", not all_play, NAMED if all_play else SHARED)
        target = self._new_folder() / path.stem
        job = Job(sound, target, False)
        with one_torch_thread():
            (peak,) = check_all([job])
            lines = separate_job(job, plan, peak)
        names = {file_name(code): INSTRUMENTS[code] for code in models}
        names |= {} if all_play else {RESIDUAL: "everything else"}
        voices = []
        for stem, name in names.items():
            # The name that a browser saves it by.
            file = (target / f"{stem}.wav").rename(target / f"{path.stem}-{stem}.wav")
            voices.append(Voice(name, f"/gradio_api/file={quote(str(file))}", file.name))
        # Other lines name the files that were written.
        notes = [line.removeprefix(f"{path}: ") for line in lines if line.startswith(f"{path}: ")]
        return mixer_markup(path.name, sound.seconds, voices, notes)

    def _new_folder(self) -> Path:
        while len(self._made) >= KEPT:
            shutil.rmtree(self._made.popleft(), ignore_errors=True)
        self._made.append(Path(tempfile.mkdtemp(dir=self._folder, prefix="voices-")))
        return self._made[-1]


def serve(models: "Models", port: int, open_browser: bool = False) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C, and print its address when it is there.

    Uploads and voices are in a temporary folder, removed at the end.
    """
    # So that the folder is removed after a plain kill, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="sepsearch-listen-") as folder:
        # Read when gradio is imported, and at every upload.
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        page, look = make_page(models, Separation(models, Path(folder)))
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            allowed_paths=[folder],
            **look,
        )
        write_line(f"drop a recording on http://{HOST}:{port} (Ctrl-C ends it); models of {', '.join(models)}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            page.close(verbose=False)


def make_page(models: "Models", separation: Separation) -> tuple[Any, dict[str, Any]]:
    """gradio's `Blocks`, and how `launch` makes them look."""
    import gradio

    from sepsearch.reporting.mixer import mixer_script, mixer_style

    def separate(path: str | None, codes: list[str], all_play: bool) -> str:
        try:
            if path is None:
                raise UserError("recording: none yet: drop one on the page")
            return separation.separate(Path(path), codes, all_play)
        except UserError as error:
            raise gradio.Error(one_line(error), duration=None, print_exception=False) from error

    # Again for every recording, whose player replaces the one before.
    script = (
        f"{mixer_script()}\nconst start = () => element.querySelectorAll('.mixer').forEach(mixer);\n"
        "watch('value', start);\nstart();"
    )
    with gradio.Blocks(title="sepsearch: listen", analytics_enabled=False) as page:
        gradio.Markdown("# Hear the voices of a recording\nIt stays on this machine.")
        types = "Recording (WAV, FLAC, MP3, OGG, AIFF …)"
        recording = gradio.File(label=types, file_types=sorted(READ_SUFFIXES), type="filepath")
        choices = [(_choice(code, card.scores.get("ratio")), code) for code, (_, card) in models.items()]
        voices = gradio.CheckboxGroup(choices, value=list(models), label="Voices")
        all_play = gradio.Checkbox(label="Nobody else plays: share out all of the sound among these voices")
        button = gradio.Button("Separate", variant="primary")
        player = gradio.HTML(js_on_load=script)
        button.click(separate, [recording, voices, all_play], player, concurrency_limit=1)
    theme = gradio.themes.Base(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])
    # Its own blue is too light for white letters, and for links on white.
    blue = {"button_primary_background_fill": "#1d4ed8", "link_text_color": "#1d4ed8"}
    theme.set(**blue, button_primary_background_fill_dark="#1d4ed8", link_text_color_dark="#93c5fd")
    # The "or" between dropping and choosing a file is paler than can be read.
    return page, {"theme": theme, "css": f"{mixer_style()}\n.or {{ color: var(--body-text-color) !important; }}"}


def _choice(code: str, ratio: Any) -> str:
    """An instrument and how good its model is."""
    return f"{INSTRUMENTS[code]} (ratio {ratio:.2f})" if isinstance(ratio, int | float) else INSTRUMENTS[code]
