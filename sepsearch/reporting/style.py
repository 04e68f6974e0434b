"""Style of figures, as SVG with the page's colours and as PNG; and figures of spectrograms."""

import base64
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from markupsafe import Markup, escape
from numpy.typing import NDArray

from sepsearch.audio.reading import RATE
from sepsearch.audio.spectrogram import BINS, FrontEnd, band_matrix, expand
from sepsearch.evaluation.audio_samples import PANELS, Sample
from sepsearch.reporting.hover import Trace, hover_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of figures; in the page the style sheet's variable takes the place of each.
INK, MUTED, GRID, PALE, PAPER, REFERENCE = "#1c2026", "#5f6772", "#e1e4e8", "#b4bac2", "#ffffff", "#c2410c"
SERIES = ("#1a64b7", "#2c7a39", "#8d35ad", "#0b7285", "#a8174f", "#7a6400")
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PALE: "pale", PAPER: "paper", REFERENCE: "reference"} | {
    colour: f"s{number}" for number, colour in enumerate(SERIES)
}
FLOOR_DB = -70.0  # what is quieter than this below the mixture's loudest is drawn as this
HERTZ = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_ONE_AT_A_TIME = threading.RLock()
_PNG = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings while figures are drawn and saved; one thread at a time, since the settings are global."""
    import matplotlib

    rules: dict[Any, Any] = {"text.color": INK, "grid.color": GRID}
    rules |= dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), MUTED)
    sheet = str(files("sepsearch.reporting") / "templates" / "figures.mplstyle")
    with _ONE_AT_A_TIME, matplotlib.rc_context(rules, sheet), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has it
        yield


def new_figure(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> "Figure":
    """An empty figure; call within `style`. Without pyplot, which is not thread-safe.

    Args:
        width: in inches; `height` likewise.
        margins: left, bottom, right and top, in inches; None for matplotlib's layout, which takes as long as drawing.
    """
    from matplotlib.figure import Figure

    if margins is None:
        return Figure(figsize=(width, height), layout="constrained")
    figure = Figure(figsize=(width, height))
    left, bottom, right, top = margins
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG on white."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()


def svg(figure: "Figure", key: str, label: str, traces: Sequence[Trace] = ()) -> Markup:
    """A figure as an SVG element for a page whose style has `VARIABLES`.

    Args:
        figure: drawn in the colours of this module.
        key: makes ids unique within the page.
        label: description for screen readers.
        traces: what the page's script shows of its values; with some it takes the keyboard's focus.
    """
    import matplotlib

    buffer = io.StringIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    # A style element of one figure would apply to the whole page.
    text = re.sub(r"<(metadata|style)\b.*?</\1>|<defs>\s*</defs>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _PNG.sub(lambda match: f"data:image/png;base64,{_fewer_colours(match[1])}", text)
    used = set(re.findall(r"[\"(]#([^\")]+)[\")]", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda m: f"var(--{VARIABLES[m[0]]})" if m[0] in VARIABLES else m[0], text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    box = re.search(r'viewBox="0 0 ([0-9.]+)', text)
    width = float(box[1]) if box else 0.0
    values = f' tabindex="0" data-values="{escape(hover_data(figure, traces))}"' if traces else ""
    head = f'<svg role="img" aria-label="{escape(label)}"{values} style="--width: {width:.0f}" viewBox='
    return Markup(re.sub(r"\s*\n\s*", "\n", re.sub(r"<svg[^>]*? viewBox=", lambda _: head, text, count=1)))


def _fewer_colours(data: str) -> str:
    """A PNG in base64 with a palette: a third of the size."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def sample_figure(sample: Sample) -> "Figure":
    """Mixture, target, prediction and mask of a sample side by side, with scales of decibels and of the mask."""
    with style():
        figure = new_figure(13, 3.1)
        axes = figure.subplots(1, len(PANELS), sharey=True)
        images = [_draw_panel(one, sample, name) for one, name in zip(axes, PANELS, strict=True)]
        for one in axes[1:]:
            one.set_ylabel("")
        figure.colorbar(images[0], ax=axes[2], label="dB re the mixture's loudest", fraction=0.05)
        figure.colorbar(images[-1], ax=axes[3], label="share kept", fraction=0.05)
        return figure


def panel_figure(sample: Sample, name: str) -> "Figure":
    """One of the four of `sample_figure`, without scale and title; the style sheet knows its margins (.panel .span)."""
    with style():
        figure = new_figure(3.4, 2.3, (0.7, 0.45, 0.08, 0.08))
        axes = figure.subplots()
        _draw_panel(axes, sample, name)
        axes.set_title("")
        return figure


def _draw_panel(axes: "Axes", sample: Sample, name: str) -> Any:
    values = sample.spectrograms[name]
    if name == "mask":
        shown, low, high, colours = values, 0.0, 1.0, "viridis"
    else:
        shown, low, high, colours = decibels(sample, name), FLOOR_DB, 0.0, "magma"
    extent = (0.0, sample.front_end.clip_seconds, -0.5, BINS - 0.5)
    image = axes.imshow(
        shown.T, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap=colours, interpolation="none"
    )
    axes.grid(False)
    axes.set_title(name)
    axes.set_xlabel("time, s")
    axes.set_ylabel("frequency, Hz")
    axes.set_yticks(*hertz_ticks(sample.front_end))
    axes.tick_params(axis="y", length=3)
    return image


def decibels(sample: Sample, name: str) -> NDArray[np.float32]:
    """Amplitudes of a panel in dB below the mixture's loudest, (frame, bin), not below `FLOOR_DB`."""
    mixture, own = (
        expand(torch.from_numpy(sample.spectrograms[which]), sample.constant).clamp(min=0).numpy()
        for which in ("mixture", name)
    )
    loudest = float(mixture.max()) or 1.0
    return 20 * np.log10(np.maximum(own / loudest, 10 ** (FLOOR_DB / 20)))


def hertz_ticks(front_end: FrontEnd) -> tuple[list[float], list[str]]:
    """Positions (in bins) of round frequencies on a front end's axis, at readable distances, and their labels in Hz."""
    bands = band_matrix(front_end).numpy().astype(float)
    centres = np.maximum.accumulate((np.arange(len(bands)) * RATE / front_end.window) @ bands)
    linear = front_end.axis == "linear"
    wanted = [hertz for hertz in (range(0, RATE, 4000) if linear else HERTZ) if centres[0] <= hertz <= centres[-1]]
    positions: list[float] = []
    labels: list[str] = []
    for hertz in reversed(wanted):
        position = float(np.interp(hertz, centres, np.arange(BINS)))
        if not positions or positions[-1] - position >= 0.085 * BINS:
            positions.append(position)
            labels.append(str(hertz))
    return positions, labels
