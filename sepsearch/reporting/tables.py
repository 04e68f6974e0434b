"""Tables of final models in the run report, as plain rows of cells that the template turns into markup."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.plots import JUMP
from sepsearch.reporting.run_data import RunFacts
from sepsearch.runs.results import LEFT_OUT, REFERENCE_RATIOS, has_named_scores
from sepsearch.spaces.constraints import rate
from sepsearch.utils.formatting import number

TITLES = "test titles"  # the usual protocol
DASH = "–"
SPEED_HINT = "training examples per second, of the fastest of the first three epochs"


@dataclass(frozen=True)
class Cell:
    """A cell: text, sort key (None: its text), and whether it is bold."""

    text: str
    sort: float | str | None = None
    strong: bool = False


@dataclass(frozen=True)
class Heading:
    """A column: heading, tooltip, whether it holds numbers, and the group of columns that it belongs to."""

    text: str
    hint: str = ""
    numeric: bool = True
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first column names the row; `foot` stays last when rows are sorted."""

    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Cell] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups of neighbouring columns, each with its number of columns; empty without groups."""
        spans = [(name, len(list(group))) for name, group in groupby(heading.group for heading in self.headings)]
        return spans if any(name for name, _ in spans) else []


def columns(*texts: str, group: str = "") -> list[Heading]:
    """Headings of columns, each written "text" or "text: tooltip"; "#" in front marks a column of numbers."""
    parts = [text.removeprefix("#").partition(": ") for text in texts]
    return [Heading(name, hint, text[0] == "#", group) for text, (name, _, hint) in zip(texts, parts, strict=True)]


def figure(value: Any, digits: int = 3, strong: bool = False) -> Cell:
    """A number (`formatting.number`) with a typographic minus sign; a dash for none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Cell(DASH, math.inf)
    return Cell(number(value, digits).replace("-", "−"), float(value), strong)


def count(value: Any) -> Cell:
    """A whole number with its thousands apart; a dash for none."""
    return Cell(f"{value:,}", float(value)) if isinstance(value, int) and not isinstance(value, bool) else figure(None)


def speed(value: Any) -> Cell:
    """Examples a second; a dash for none."""
    cell = figure(value)
    return cell if cell.text == DASH else Cell(rate(value), cell.sort)


def signed(value: Any, digits: int = 1, strong: bool = False) -> Cell:
    """A difference: as `figure`, with a plus sign, too."""
    cell = figure(value, digits, strong)
    positive = isinstance(cell.sort, float) and 0 < cell.sort < math.inf
    return Cell(f"+{cell.text}", cell.sort, strong) if positive else cell


def label(code: str) -> str:
    """Name of an instrument: "violin"."""
    return INSTRUMENTS.get(code, code)


def finals(facts: RunFacts) -> list[tuple[str, Mapping[str, Any]]]:
    """The final models' scores by code, in score order."""
    scores = facts.results["final"]
    return [(code, scores[code]) for code in facts.codes if code in scores]


def _spread(scores: Mapping[str, Any], strong: bool = False) -> Cell:
    mean = figure(scores.get("ratio_mean"))
    if mean.text == DASH:
        return mean
    jumps = scores.get("discontinuities") or 0
    mark = f" {jumps}{JUMP}" if jumps else ""
    sd = figure(scores.get("ratio_sd"))
    return Cell(f"{mean.text} ± {sd.text}{mark}", mean.sort, strong)


def _interval(ends: Any) -> Cell:
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return Cell(DASH, math.inf)
    low, high = figure(ends[0]), figure(ends[1])
    return Cell(f"{low.text} to {high.text}", low.sort)


def baseline_ratio(facts: RunFacts, name: str, code: str) -> float:
    """A baseline's loss over the identity's, on the validation split; NaN where there is none."""
    baselines = facts.results["baselines"]
    loss, identity = (baselines.get(which, {}).get(code) for which in (name, "identity"))
    return loss / identity if loss is not None and identity else math.nan


def test_gain(facts: RunFacts, code: str) -> float:
    """The constant gain's loss over the identity's on the test titles, beside which a test ratio stands.

    NaN where a journal has none, or where titles were left out in turn: then those of the test split are not the ones
    that were scored.
    """
    if (facts.results["final"].get(code, {}).get("protocol") or TITLES) == LEFT_OUT:
        return math.nan
    test = facts.search.get("baselines", {}).get("test", {})
    loss, identity = (test.get(name, {}).get(code) for name in ("gain", "identity"))
    return loss / identity if loss is not None and identity else math.nan


def final_table(facts: RunFacts) -> Table:
    """Final models beside baselines and the reference network."""
    named = has_named_scores(facts.results["final"])
    sized = any(final.get("parameters") is not None for _, final in finals(facts))
    hint = "the test ratio where every mask is divided by the sum of those of all that play (separate --players)"
    headings = columns(
        "instrument",
        "#SI-SDR gain, dB: the estimate less the mixture, on test titles; larger is better",
        "#ratio ± sd: validation titles, mean and standard deviation over seeds",
        "#95 % interval: Student's, of the geometric mean over three seeds or more",
        "#test ratio: the chosen seed on test titles, measured once",
        "#constant gain, test titles: the gain that is best for the training titles, on the test titles",
        *([f"#test ratio, players named: {hint}"] if named else []),
        "#identity: the mixture unchanged",
        "#silence: output of zeros",
        "#constant gain: the mixture times the constant that is best for the training titles",
        "#oracle: the mask computed from the target",
        "#reference network: its configuration (Iyer 2021) retrained here, mean ± sd over seeds",
        "#as published: Iyer's own figure, tuned on the test data: not the same protocol",
        *(["#parameters: of the model’s network"] if sized else []),
    )
    rows = []
    for code, final in finals(facts):
        protocol = final.get("protocol") or TITLES
        marks = ("*" if code in facts.caveats else "") + ("†" if protocol != TITLES else "")
        rows.append(
            [
                Cell(label(code) + marks),
                signed(final.get("si_sdr_gain_db"), strong=True),
                _spread(final, strong=True),
                _interval(final.get("ratio_interval")),
                figure(final.get("test_ratio"), strong=True),
                figure(test_gain(facts, code)),
                *([figure(final.get("named_test_ratio"))] if named else []),
                figure(1.0),
                *(figure(baseline_ratio(facts, name, code)) for name in ("zero", "gain", "oracle")),
                _spread(facts.results["reference_final"].get(code, {})),
                figure(REFERENCE_RATIOS.get(code)),
                *([count(final.get("parameters"))] if sized else []),
            ]
        )
    foot: list[Cell] = []
    if len(rows) > 1:
        foot = [Cell("mean"), _mean([row[1] for row in rows], signed)]
        foot += [_mean([row[column] for row in rows]) for column in range(2, len(headings) - sized)]
        foot += [Cell("")] * sized
    caption = "Final models by instrument: SI-SDR gain, and loss over identity loss, of which smaller is better."
    return Table(caption, headings, rows, foot)


def _mean(cells: Sequence[Cell], write: Callable[[Any], Cell] = figure) -> Cell:
    values = [cell.sort for cell in cells]
    if any("to" in cell.text for cell in cells):
        return Cell("")
    finite = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    return write(fmean(finite) if finite else None)


# Key of the scores → heading; gains are differences, shown with their sign.
MEASURES = {"mixture": "mixture", "estimate": "estimate", "gain": "gain", "oracle": "oracle", "oracle_gain": "its gain"}


def _measured(audio: Mapping[str, Any], key: str) -> list[Cell]:
    values = {name: (audio.get(name) or {}).get(key) for name in MEASURES}
    return [(signed if "gain" in name else figure)(value, 1, name == "gain") for name, value in values.items()]


def audio_table(facts: RunFacts) -> Table | None:
    """SI-SDR and SDR of mixture, estimate and oracle, on test titles; None where nothing was measured.

    With the players named there is one more gain, behind the others.
    """
    named = has_named_scores(facts.results["final"])
    headings = columns("instrument", "#titles", "#clips")
    for group in ("SI-SDR, dB", "SDR, dB"):
        headings += columns(*(f"#{text}" for text in MEASURES.values()), group=group)
    headings += columns("#SI-SDR gain: dB", group="players named") if named else []
    rows = []
    for code, final in finals(facts):
        audio = final.get("audio") or {}
        if not audio and final.get("si_sdr_gain_db") is not None:
            audio = {"gain": {"si_sdr_db": final["si_sdr_gain_db"]}}
        if audio:
            counts = [figure(audio.get(count), 0) for count in ("titles", "clips")]
            row = [Cell(label(code)), *counts, *_measured(audio, "si_sdr_db"), *_measured(audio, "sdr_db")]
            rows.append([*row, *([signed(final.get("named_si_sdr_gain_db"))] if named else [])])
    caption = "Separated audio of the test titles, dB: medians over titles of medians over clips. Larger is better."
    return Table(caption, headings, rows) if rows else None


def ensemble_table(facts: RunFacts) -> Table | None:
    """SI-SDR by the number of players; None where nothing was measured."""
    headings = columns("instrument", "#players", "#titles", "#clips", *(f"#{text}" for text in MEASURES.values()))
    rows = []
    for code, final in finals(facts):
        sizes = (final.get("audio") or {}).get("by_players") or {}
        for players, audio in sorted(sizes.items(), key=lambda item: int(item[0])):
            counts = [figure(audio.get(count), 0) for count in ("titles", "clips")]
            size = Cell(players, float(players))
            rows.append([Cell(label(code)), size, *counts, *_measured(audio, "si_sdr_db")])
    return Table("SI-SDR in dB by the number of players in the mixture.", headings, rows) if rows else None


def curse_table(facts: RunFacts) -> Table | None:
    """Finalists: ratio in the search and with several seeds; None before there are any."""
    finalists = facts.results.get("finalists") or []
    headings = columns(
        "configuration",
        "#in the search: its trial's ratio, with the search's seed",
        "#at epoch",
        "#retrained, same epoch: mean over seeds",
        "#gap: retrained less search: above 0, the search was too optimistic",
        "#best epochs, mean ± sd: every seed at its best epoch of the longer training",
        "#95 % interval",
        "#parameters: of the network of one instrument",
        f"#examples/s: {SPEED_HINT}",
        "#seeds",
        f"#jumps {JUMP}: discontinuities in all of its seeds",
        "chosen for",
        "out because: eliminated, or a constraint is violated: trained for comparison alone",
    )
    rows = []
    for one in finalists:
        name = f"{one['id']} · {one.get('trial', '')}" + (" · reference" if one.get("reference") else "")
        chosen = one.get("chosen") or []
        rows.append(
            [
                Cell(name, strong=bool(chosen)),
                figure(one.get("search_ratio")),
                figure(one.get("search_epochs"), 0),
                figure(one.get("retrained_ratio")),
                signed(one.get("curse"), 3, strong=True),
                _spread(one | {"discontinuities": 0}),
                _interval(one.get("ratio_interval")),
                count(one.get("parameters")),
                speed(one.get("examples_per_second")),
                figure(len(one.get("seeds") or []), 0),
                figure(one.get("discontinuities"), 0),
                Cell(", ".join(map(label, chosen)) or DASH),
                Cell(one.get("eliminated") or one.get("infeasible") or DASH),
            ]
        )
    caption = (
        "Finalists: ratio in the search, by which they were chosen, and ratios with new seeds. Means over instruments."
    )
    return Table(caption, headings, rows) if rows else None
