"""Validation loss by epoch beside the identity loss, drawn for a search's page in MLflow."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.log_axis import log_axis


def draw_curves(
    curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], identity: Mapping[str, float], reference: set[str]
) -> Iterator[tuple[str, Any]]:
    """Figures of the validation loss by epoch of every trial and finalist, beside the identity loss.

    Args:
        curves: instrument → trial, or finalist and seed ("c0-s1") → (epoch, loss).
        identity: instrument → identity loss.
        reference: ids that train the reference configuration; they get a colour of their own.

    Yields:
        ("all", matplotlib figure of all instruments), then one for each instrument's code.
    """
    from matplotlib.figure import Figure  # no pyplot: it is not made for threads

    codes = [code for code in INSTRUMENTS if code in curves]
    if not codes:
        return
    columns = min(4, len(codes))
    rows = -(-len(codes) // columns)
    for name, shown, grid in [("all", codes, (rows, columns)), *((code, [code], (1, 1)) for code in codes)]:
        figure = Figure(figsize=(max(7, 4 * grid[1]), max(4.5, 3 * grid[0])), layout="constrained")
        panels = list(figure.subplots(*grid, squeeze=False).flat)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        for code, panel in zip(shown, panels, strict=False):
            _draw_instrument(panel, code, curves[code], identity.get(code, math.nan), reference)
        lines = {line.get_label(): line for panel in panels for line in panel.lines if line.get_label()[0] != "_"}
        columns_of_legend = 5 if grid[1] > 2 else 3
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=columns_of_legend, frameon=False)
        yield name, figure


def _draw_instrument(
    panel: Any, code: str, curves: Mapping[str, Sequence[tuple[int, float]]], identity: float, reference: set[str]
) -> None:
    from matplotlib.ticker import MaxNLocator

    styles = {
        (False, False): ("trials", "0.75", 0.8),
        (False, True): ("the reference's trial", "tab:orange", 1.4),
        (True, False): ("finalists", "tab:blue", 1.2),
        (True, True): ("the reference, retrained", "tab:red", 1.2),
    }
    for id, points in curves.items():
        label, colour, width = styles["-s" in id, id in reference]
        panel.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=width)
    panel.axhline(identity, color="black", linestyle="--", linewidth=1, label="identity: doing nothing")
    losses = [loss for points in curves.values() for _, loss in points if math.isfinite(loss)]
    if math.isfinite(identity):
        # What is worse than one and a half times the identity need not be seen.
        losses = [min(loss, 1.5 * identity) for loss in losses] + [identity]
    log_axis(panel, losses)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    panel.set_title(f"{INSTRUMENTS[code]} ({code})")
    panel.set_xlabel("epoch")
    panel.set_ylabel("validation loss")


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
