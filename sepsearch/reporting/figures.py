"""The report page's figures: which lines and points of a run go into each, and in which colour."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.evaluation.audio_samples import PANELS
from sepsearch.reporting import parameter_plots as draw_parameters
from sepsearch.reporting import plots as draw
from sepsearch.reporting import size_plots as sizes
from sepsearch.reporting import traces
from sepsearch.reporting.importance import Importance, importances, judged_trials
from sepsearch.reporting.parameter_plots import Axis, Point
from sepsearch.reporting.plots import Curve, Judged
from sepsearch.reporting.run_data import RunFacts
from sepsearch.reporting.style import MUTED, PALE, REFERENCE, SERIES, VARIABLES, panel_figure, svg
from sepsearch.reporting.tables import baseline_ratio, finals, test_gain
from sepsearch.runs.job import Job

MOST_AXES = 12  # of the parallel coordinates; the others matter least


@dataclass(frozen=True)
class Picture:
    """A figure and what belongs to it: the sentence below, and the anchor of the instrument or parameter."""

    markup: Markup
    text: str = ""
    key: str = ""


@dataclass(frozen=True)
class Legend:
    """What a colour stands for; `variable` is the style's."""

    variable: str
    text: str


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def colours(facts: RunFacts) -> dict[str, str]:
    """Colours of finalists (c0 …) and of the trials they come from; the reference has its own, in every figure."""
    found = {facts.reference: REFERENCE}
    others = [one for one in facts.finalists if not one.get("reference")]
    for one in facts.finalists:
        colour = REFERENCE if one.get("reference") else SERIES[others.index(one) % len(SERIES)]
        found |= {one["id"]: colour, one.get("trial", one["id"]): colour}
    return found


def legend(facts: RunFacts) -> list[Legend]:
    """The finalists and their colours."""
    by_id = colours(facts)
    return [
        Legend(
            VARIABLES[by_id[one["id"]]],
            f"{one['id']} ({one.get('trial', '')}{', the reference network' if one.get('reference') else ''})",
        )
        for one in facts.finalists
    ]


def final_picture(facts: RunFacts) -> Picture | None:
    """Ratios of the final models; None where there are none."""
    rows = []
    for code, final in finals(facts):
        low, high = final.get("ratio_interval") or (None, None)
        reference = facts.results["reference_final"].get(code, {})
        others = {
            "reference network": _finite(reference.get("ratio_mean")),
            "constant gain": baseline_ratio(facts, "gain", code),
            "constant gain, test titles": test_gain(facts, code),
            "silence": baseline_ratio(facts, "zero", code),
            "oracle": baseline_ratio(facts, "oracle", code),
        }
        mean, low, high, test = (
            _finite(value) for value in (final.get("ratio_mean"), low, high, final.get("test_ratio"))
        )
        rows.append(Judged(INSTRUMENTS.get(code, code), mean, low, high, test, others))
    if not rows:
        return None
    label = f"Ratios of the final models of {len(rows)} instruments; the table below has the numbers."
    return Picture(svg(draw.ratio_figure(rows), "final", label, traces.ratio_traces(rows)))


def curve_pictures(facts: RunFacts) -> list[Picture]:
    """Validation loss by epoch of all finalists and seeds, an instrument a figure."""
    by_id = colours(facts)
    identity = facts.results["baselines"].get("identity", {})
    pictures = []
    for code in facts.codes:
        final = facts.results["final"].get(code, {})
        chosen = f"{final.get('configuration')}-s{final.get('seed')}"
        curves, jumps = [], 0
        for job in facts.finals.values():
            points = job.losses.get(code, [])
            if not points:
                continue
            own = tuple(job.jump_epochs.get(code, ()))
            jumps += len(own)
            bold = job.id == chosen
            epochs, losses = [epoch for epoch, _ in points], [_finite(loss) for _, loss in points]
            mark = final.get("epoch") if bold else None
            curves.append(Curve(epochs, losses, by_id.get(job.configuration, MUTED), bold, own, mark, job.id))
        if curves:
            name = INSTRUMENTS.get(code, code)
            label = f"Validation loss of {name} by epoch: {len(curves)} networks, {jumps} discontinuities."
            figure = draw.curve_figure(name, curves, _finite(identity.get(code)))
            pictures.append(Picture(svg(figure, f"curve-{code}", label, traces.curve_traces(curves)), key=code))
    return pictures


def sample_pictures(facts: RunFacts, code: str) -> dict[str, Picture]:
    """The spectrograms of an instrument's sample by their names: those of PANELS, and what else it has."""
    name, sample = INSTRUMENTS.get(code, code), facts.samples[code]
    texts = dict(
        zip(PANELS, ("of the mixture", "of the target", "that the network predicts", "as a mask"), strict=True)
    )
    return {
        panel: Picture(
            svg(panel_figure(sample, panel), f"{panel}-{code}", f"Spectrogram {texts.get(panel, panel)}, {name}.")
        )
        for panel in sample.spectrograms
    }


def rung_picture(facts: RunFacts) -> Picture | None:
    """Ratios of all trials by epoch; None before the first epoch is done."""
    by_id = colours(facts)
    names = {one.get("trial", ""): f"{one.get('trial', '')} ({one['id']})" for one in facts.finalists}
    names[facts.reference] = f"{facts.reference} (reference)"
    curves = []
    for job in facts.shown.values():
        epochs = [one.epoch for one in job.history]
        values = [_finite(one.ratio) for one in job.history]
        name = names.get(job.id, job.id)
        curves.append((Curve(epochs, values, by_id.get(job.id, PALE), job.id in by_id, name=name), job.state))
    if not any(curve.epochs for curve, _ in curves):
        return None
    last = max(curve.epochs[-1] for curve, _ in curves if curve.epochs)
    budget = facts.search.get("settings", {}).get("epochs")
    rungs = list(facts.audit.rungs.values) if facts.audit else []
    figure = draw.rung_figure(curves, rungs, max(last, budget if isinstance(budget, int) else 1))
    label = f"Ratio by epoch of {len(curves)} trials, with {len(rungs)} rungs as vertical lines."
    return Picture(svg(figure, "rungs", label, traces.curve_traces([curve for curve, _ in curves])))


def size_pictures(facts: RunFacts) -> list[Picture]:
    """Ratio against number of parameters and against speed, of those that are known; empty before a trial has ended."""
    limits = facts.search.get("space", {}).get("constraints") or {}
    names = {one.get("trial", ""): f"{one.get('trial', '')} ({one['id']})" for one in facts.finalists}
    names[facts.reference] = f"{facts.reference} (reference)"
    points = sizes.size_points(facts.shown, limits, names, colours(facts))
    pictures = []
    for key, measure in zip(("parameters", "speed"), sizes.measures(limits), strict=True):
        shown = [point for point in points if measure.value(point) is not None]
        if shown:
            best = ", ".join(point.name for point in sizes.front(shown, measure)) or "none"
            label = f"Ratio of {len(shown)} trials against {measure.label}, with their Pareto front: {best}."
            figure, named = sizes.size_figure(shown, measure), sizes.size_traces(shown, measure)
            pictures.append(Picture(svg(figure, f"size-{key}", label, named), key=key))
    return pictures


@dataclass(frozen=True)
class Mattered:
    """What mattered: importances, slices, parallel coordinates; how many trials they rest on, complete and stopped."""

    importances: list[Importance]
    slices: list[Picture]
    parallel: Picture | None
    complete: int
    stopped: int
    outside: int


def mattered(facts: RunFacts) -> Mattered | None:
    """What the trials say of the parameters; None where the study cannot be had."""
    if facts.audit is None or facts.audit.study is None:
        return None
    by_id = colours(facts)
    points, judged = [], judged_trials(facts.audit.study)
    for trial in judged:
        id = trial.user_attrs.get("trial", "")
        if id in facts.trials and id not in facts.shown:
            continue
        job = facts.trials.get(id, Job(id, "search", {}))
        value = trial.value if trial.value is not None else math.nan
        points.append(Point(trial.params, value, by_id.get(id, MUTED), job.state != "completed", id))
    axes = _axes(facts)
    found = importances(facts.audit.study)
    order = [one.name for one in found]
    axes.sort(key=lambda axis: order.index(axis.name) if axis.name in order else len(order))
    stopped = sum(point.hollow for point in points)
    ended = [job for job in facts.shown.values() if job.state == "completed"]
    outside = max(0, len(ended) - (len(points) - stopped))
    slices, parallel = [], None
    if len(points) >= 2:
        for number, axis in enumerate(axes):
            label = f"Ratio of {len(points)} trials against {axis.name}."
            figure, named = draw_parameters.slice_figure(axis, points), traces.slice_traces(axis, points)
            slices.append(Picture(svg(figure, f"slice-{number}", label, named)))
        shown = axes[:MOST_AXES]
        label = f"{len(points)} trials as lines through {len(shown)} parameters to their ratios."
        figure, named = draw_parameters.parallel_figure(shown, points), traces.parallel_traces(shown, points)
        parallel = Picture(svg(figure, "parallel", label, named))
    return Mattered(found, slices, parallel, len(points) - stopped, stopped, outside)


def _axes(facts: RunFacts) -> list[Axis]:
    parameters: Mapping[str, Any] = facts.audit.space.parameters if facts.audit else {}
    axes = []
    for name, parameter in parameters.items():
        if parameter.choices is not None:
            axes.append(Axis(name, tuple(parameter.choices)))
        else:
            axes.append(Axis(name, (), float(parameter.low), float(parameter.high), parameter.log))
    return axes
