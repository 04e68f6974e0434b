"""Sentences of the run report: state and size of the run, reliability of importances, commands."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS, file_name
from sepsearch.evaluation.audio_samples import example_mixture
from sepsearch.evaluation.test_scores import MOSTLY
from sepsearch.reporting.figures import MOST_AXES, Mattered
from sepsearch.reporting.run_data import RunFacts
from sepsearch.runs.verdict import best_instrument
from sepsearch.spaces.constraints import rate
from sepsearch.spaces.space import SearchSettings
from sepsearch.utils.formatting import duration

FEW_TRIALS, SOME_TRIALS = 10, 30  # that ran all epochs: below, importance is unreliable, or only a hint
SPLITS = {"train": "training", "validation": "validation", "test": "test"}
ENDS = {"completed": "ran to the end", "stopped": "stopped early", "failed": "failed", "running": "not ended"}


def when(time: float) -> str:
    """A time in seconds since 1970 as date, hour and minute."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def count(amount: int, what: str) -> str:
    """ "1 trial", "2 trials"."""
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def stopping_text(search: SearchSettings, rungs: Sequence[int]) -> str:
    """How the search stopped trials early; begins with a space."""
    at = f" At the rungs (epochs {', '.join(map(str, rungs))}) a trial"
    best = f"its ratio is among the best 1 in {search.reduction_factor} that have arrived"
    pauses = f"{at} is paused, and goes on once {best} (asynchronous successive halving with promotion"
    return {
        "asha": f"{at} is stopped unless {best} so far (asynchronous successive halving).",
        "asha_promotion": f"{pauses}).",
        "pasha": f"{pauses}; PASHA: the next larger rung opens only while the ranking of trials still changes).",
        "curve_model": f" Every {search.grace_epochs} epochs a trial is stopped if a learning-curve model holds it for"
        " unlikely to end below the best so far.",
        "none": "",
    }[search.stopping]


def sample_rule(facts: RunFacts) -> str:
    """By which rule the clips to listen to were chosen; runs before this version took all test clips."""
    middle = "the one with the median SI-SDR gain: neither the best nor the worst."
    if any(sample.facts.get("sounding_share") is None for sample in facts.samples.values()):
        return f"Of an instrument’s test clips it is {middle}"
    return (
        f"Of the test clips in which the instrument sounds for at least {100 * MOSTLY:g} % of the time (where there is"
        f" none, of those in which it sounds longest) it is {middle}"
    )


def ending(facts: RunFacts) -> str:
    """How the run ended; "finished" also for a run with scores, whose report is written just before its end."""
    return facts.run.end or ("finished" if facts.results["final"] else "")


def state(facts: RunFacts) -> dict[str, str]:
    """The run's state in a word and a sentence."""
    again = f" It was resumed {count(facts.run.resumes, 'time')}." if facts.run.resumes else ""
    again += f" It was extended {count(facts.run.extensions, 'time')}." if facts.run.extensions else ""
    match ending(facts):
        case "finished":
            return {"word": "finished", "kind": "good", "text": f"Models are chosen and scored.{again}"}
        case "interrupted":
            return {"word": "interrupted", "kind": "warn", "text": f"It can be resumed.{again}"}
        case "failed":
            return {"word": "failed", "kind": "warn", "text": f"It ended with an error.{again}"}
    if not facts.search:
        return {"word": "not begun", "kind": "warn", "text": "Its journal is empty."}
    stage = "finalists were being retrained" if facts.finalists else "trials were being searched"
    text = f"At {when(facts.run.written)} {stage}; the journal has no end: the run goes on, or was killed.{again}"
    return {"word": "not finished", "kind": "warn", "text": text}


def lead(facts: RunFacts) -> list[str]:
    """Data, budget and counts of the search in a few sentences."""
    if not facts.search:
        return []
    search, settings, seconds = facts.search, facts.search["settings"], facts.results["seconds"]
    data = search["dataset"]
    source = (settings.get("options") or {}).get("data")
    where = f"the recordings in {Path(source).name}" if source else "the built-in demo ensemble"
    what = f"{count(data['pieces'], 'piece')} in {count(data['clips'], 'clip')}"
    parts = [
        f"Networks that pull {count(len(facts.codes), 'instrument')} out of mixtures, searched for on {where}: {what}."
    ]
    split = [f"{len(titles)} for {SPLITS.get(name, name)}" for name, titles in data["split"].items()]
    if split:
        parts[0] += f" Titles were split: {', '.join(split)}."
    states = [job.state for job in facts.trials.values()]
    counts = [f"{states.count(state)} {word}" for state, word in ENDS.items() if states.count(state)]
    line = f"{count(settings['trials'], 'trial')} of at most {count(settings['epochs'], 'epoch')}"
    if counts:
        line += f": {', '.join(counts)}"
    if facts.finalists:
        seeds = len({job.seed for job in facts.finals.values()})
        line += f". {count(len(facts.finalists), 'configuration')} retrained with up to {count(seeds, 'seed')}"
        if settings.get("final_epochs"):
            line += f" for {count(settings['final_epochs'], 'epoch')}"
    if stopped := facts.run.stopped:
        line += f". The search ended before its last trial: {stopped['reason']}"
    spent = sum(value for value in seconds.values() if isinstance(value, int | float))
    took = f", {duration(spent)} of work" if spent else ""
    version = str(search["versions"].get("sepsearch", "?")).split("+")[0]
    return [*parts, f"{line}. Begun {when(facts.run.begin)}{took}, with sepsearch {version}."]


def known_text(facts: RunFacts) -> str:
    """Earlier runs that the sampler began with, and how many of their trials; "" for none."""
    parts = []
    for one in facts.results["known"]:
        part = f"{one['entered']} of {one['completed']} completed trials of {one['name']}"
        parts.append(f"{part} ({one['outside']} outside this space)" if one["outside"] else part)
    return f"The sampler began with {', '.join(parts)}; they are none of the trials below. " if parts else ""


def mattered_text(mattered: Mattered | None) -> str:
    """Number of trials behind the figures on parameters, and how reliable they are."""
    if mattered is None:
        return "The parameters cannot be compared: the run’s space is not known."
    if not mattered.complete + mattered.stopped:
        return "No trial has ended with a ratio yet, so that parameters cannot be compared."
    text = f"From {count(mattered.complete, 'trial')} that ran to the end"
    if mattered.stopped:
        text += f" and {mattered.stopped} stopped early (ratio of the last epoch)"
    text += "."
    if mattered.outside:
        text += f" {count(mattered.outside, 'more')} outside the space, as the reference network may be, is left out."
    if not mattered.importances:
        return f"{text} That is too little to estimate the importance of parameters."
    above = [one.name for one in mattered.importances if one.share > one.chance]
    found = f"above chance: {', '.join(above)}" if above else "none is above what chance gives"
    if mattered.complete < FEW_TRIALS:
        few = f"With so few that ran to the end, importance is unreliable ({found})"
        return f"{text} {few}; the pictures show what was tried."
    hint = " Take it as a hint." if mattered.complete < SOME_TRIALS else ""
    return f"{text} Of {count(len(mattered.importances), 'parameter')} {found}.{hint}"


def parallel_text(mattered: Mattered | None) -> str:
    """Caption of the parallel coordinates."""
    text = (
        "Every trial as a line through its parameters to its ratio on the right (no job), stronger for better trials."
    )
    if mattered and len(mattered.slices) > MOST_AXES:
        which = "most important" if mattered.importances else "first"
        text += f" It shows the {which} {MOST_AXES} of {len(mattered.slices)} parameters."
    return f"{text} Dashed: stopped early. A line that passes below an axis has no such parameter."


def commands(facts: RunFacts) -> list[tuple[str, str]]:
    """Commands, each as (what it does, command line)."""
    settings, space = facts.search["settings"], facts.search["space"]
    options = settings.get("options") or {}
    parent = facts.folder.parent
    runs = "" if parent == Path("runs") else f" --runs {shlex.quote(str(parent))}"
    name = shlex.quote(facts.folder.name)
    again = f"python -m sepsearch.run --space {shlex.quote(str(facts.folder / 'space.yaml'))} --name {name}-again"
    again += f" --seed {settings.get('seed', 0)} --trials {settings['trials']}{_budget(settings, space)}"
    if settings.get("instruments"):
        again += f" --instruments {','.join(settings['instruments'])}"
    if places := [one["place"] for one in facts.results["known"]]:
        again += f" --warm-start {shlex.quote(','.join(places))}"
    if options.get("data"):
        again += f" --data {shlex.quote(str(options['data']))}"
    commands = [("The same search again (one worker gives the same numbers):", f"{again} --workers 1")]
    if ending(facts) != "finished":
        commands.append(("Resume this run:", f"python -m sepsearch.run --resume {name}{runs}"))
    commands.append(("This report again:", f"python -m sepsearch.report {name}{runs}"))
    commands.append(("The same search under other samplers and rungs:", f"python -m sepsearch.replay {name}{runs}"))
    if facts.results["final"]:
        code = best_instrument(facts.results["final"], facts.results["baselines"])
        mixture = example_mixture(facts.folder, code, facts.results["dataset"].get("source", ""))
        what = shlex.quote(str(mixture)) if mixture else "RECORDING"
        line = f"python -m sepsearch.separate {what} --instrument {shlex.quote(file_name(code))}"
        commands.append((f"Separate a recording ({INSTRUMENTS.get(code, code)}):", line))
    return commands


def _budget(settings: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    """The option --max-epochs where trials or finalists were shorter than in the space file, else ""."""
    for asked, section in (("epochs", "search"), ("final_epochs", "final")):
        whole = (space.get(section) or {}).get("epochs")
        if whole and settings.get(asked) and settings[asked] < whole:
            return f" --max-epochs {settings[asked]}"
    return ""


def size_text(facts: RunFacts) -> str:
    """How to read the figures of size and speed, and what constraints did."""
    text = (
        "Ratio of every trial against the number of parameters of its network (for one instrument) and against the"
        " training examples per second that its worker did, of the fastest of its first three epochs, both on"
        " logarithmic axes. The line is the Pareto front: no other trial that ran all epochs has a better ratio and a"
        " smaller network, or a better ratio and a faster one. Its points are named where there is room."
        " Stopped trials whose ratio is worse than all of those are drawn at the upper edge."
    )
    limits = facts.search.get("space", {}).get("constraints") or {}
    if most := limits.get("parameters"):
        larger = facts.run.too_large
        text += f" At most {most:,.0f} parameters were asked: {count(larger, 'proposal')} had more, and {_was(larger)}"
        text += " not trained."
    if least := limits.get("examples_per_second"):
        text += f" At least {rate(least)} examples per second were asked: {count(facts.run.infeasible, 'trial')} ended"
        text += " because of less."
    return text


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
