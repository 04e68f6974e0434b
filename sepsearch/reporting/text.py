"""The report page's sentences: what a run is, how far it can be believed, and what to type."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.figures import MOST_AXES, Mattered
from sepsearch.reporting.run_data import RunFacts
from sepsearch.reporting.tables import finals
from sepsearch.utils.formatting import duration

FEW_TRIALS, SOME_TRIALS = 10, 30  # that ran to the end: with less, importance means hardly anything, or is a hint
SIDES = {"train": "training", "validation": "validation", "test": "test"}
ENDS = {"completed": "ran to the end", "stopped": "stopped early", "failed": "failed", "running": "not ended"}


def when(time: float) -> str:
    """A time in seconds since 1970, for people."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def count(amount: int, what: str) -> str:
    """ "1 trial", "2 trials"."""
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def ending(facts: RunFacts) -> str:
    """How the run ended; a page that is written before the end of a run with scores will be there after it."""
    return facts.run.end or ("finished" if facts.results["final"] else "")


def state(facts: RunFacts) -> dict[str, str]:
    """The run's state in a word and a sentence."""
    again = f" It was resumed {count(facts.run.resumes, 'time')}." if facts.run.resumes else ""
    match ending(facts):
        case "finished":
            return {"word": "finished", "kind": "good", "text": f"Models are chosen and scored.{again}"}
        case "interrupted":
            return {"word": "interrupted", "kind": "warn", "text": f"It can be resumed.{again}"}
        case "failed":
            return {"word": "failed", "kind": "warn", "text": f"It did not come to its end.{again}"}
    if not facts.search:
        return {"word": "not begun", "kind": "warn", "text": "Its journal says nothing yet."}
    stage = "finalists were being retrained" if facts.finalists else "trials were being searched"
    text = f"At {when(facts.run.written)} {stage}; no end is written: it is still at work, or was killed.{again}"
    return {"word": "not finished", "kind": "warn", "text": text}


def lead(facts: RunFacts) -> list[str]:
    """What was searched, in a few sentences."""
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
    sides = [f"{len(titles)} for {SIDES.get(side, side)}" for side, titles in data["split"].items()]
    if sides:
        parts[0] += f" Titles were split: {', '.join(sides)}."
    states = [unit.state for unit in facts.trials.values()]
    counts = [f"{states.count(state)} {word}" for state, word in ENDS.items() if states.count(state)]
    line = f"{count(settings['trials'], 'trial')} of at most {count(settings['epochs'], 'epoch')}"
    if counts:
        line += f": {', '.join(counts)}"
    if facts.finalists:
        seeds = len({unit.seed for unit in facts.finals.values()})
        line += f". {count(len(facts.finalists), 'configuration')} retrained with up to {count(seeds, 'seed')}"
        if settings.get("final_epochs"):
            line += f" for {count(settings['final_epochs'], 'epoch')}"
    spent = sum(value for value in seconds.values() if isinstance(value, int | float))
    took = f", {duration(spent)} of work" if spent else ""
    version = str(search["versions"].get("sepsearch", "?")).split("+")[0]
    return [*parts, f"{line}. Begun {when(facts.run.begin)}{took}, with sepsearch {version}."]


def mattered_text(mattered: Mattered | None) -> str:
    """What the figures on parameters rest on, and how far they can be believed."""
    if mattered is None:
        return "The parameters cannot be compared: the run’s space is not known."
    if not mattered.complete + mattered.stopped:
        return "No trial has come to an end with a ratio yet, so that nothing can be said of the parameters."
    text = f"From {count(mattered.complete, 'trial')} that ran to the end"
    if mattered.stopped:
        text += f" and {mattered.stopped} stopped early (ratio of the last epoch)"
    text += "."
    if mattered.outside:
        text += f" {count(mattered.outside, 'more')} outside the space, as the report’s network may, is left out."
    if not mattered.importances:
        return f"{text} That is too little to tell the importance of parameters."
    above = [one.name for one in mattered.importances if one.share > one.chance]
    found = f"above chance: {', '.join(above)}" if above else "none is above what chance gives"
    if mattered.complete < FEW_TRIALS:
        few = f"With so few that ran to the end, importance means little ({found})"
        return f"{text} {few}; the pictures show what was tried."
    hint = " Take it as a hint." if mattered.complete < SOME_TRIALS else ""
    return f"{text} Of {count(len(mattered.importances), 'parameter')} {found}.{hint}"


def parallel_text(mattered: Mattered | None) -> str:
    """What the parallel coordinates show."""
    text = "Every trial as a line through its parameters to its ratio on the right (no unit); the better, the stronger."
    if mattered and len(mattered.slices) > MOST_AXES:
        which = "most important" if mattered.importances else "first"
        text += f" It shows the {which} {MOST_AXES} of {len(mattered.slices)} parameters."
    return f"{text} Dashed: stopped early. A line that passes below an axis has no such parameter."


def commands(facts: RunFacts) -> list[tuple[str, str]]:
    """What to type, each with what it does."""
    settings, space = facts.search["settings"], facts.search["space"]
    options = settings.get("options") or {}
    parent = facts.folder.parent
    runs = "" if parent == Path("runs") else f" --runs {shlex.quote(str(parent))}"
    name = shlex.quote(facts.folder.name)
    again = f"python -m sepsearch.run --space {shlex.quote(str(facts.folder / 'space.yaml'))} --name {name}-again"
    again += f" --seed {settings.get('seed', 0)} --trials {settings['trials']}{_budget(settings, space)}"
    if settings.get("instruments"):
        again += f" --instruments {','.join(settings['instruments'])}"
    if options.get("data"):
        again += f" --data {shlex.quote(str(options['data']))}"
    commands = [("The same search again (one worker gives the same numbers):", f"{again} --workers 1")]
    if ending(facts) != "finished":
        commands.append(("Go on with this run:", f"python -m sepsearch.run --resume {name}{runs}"))
    commands.append(("This page again:", f"python -m sepsearch.report {name}{runs}"))
    commands.append(("The same search under other samplers and rungs:", f"python -m sepsearch.replay {name}{runs}"))
    if facts.results["final"]:
        code = finals(facts)[0][0]
        line = f"python -m sepsearch.separate mix.wav --instrument {shlex.quote(code)} -o voices"
        commands.append((f"Separate a recording ({INSTRUMENTS.get(code, code)}):", line))
    return commands


def _budget(settings: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    """The option that made trials or finalists shorter than the space file says, if they were."""
    for asked, section in (("epochs", "search"), ("final_epochs", "final")):
        whole = (space.get(section) or {}).get("epochs")
        if whole and settings.get(asked) and settings[asked] < whole:
            return f" --max-epochs {settings[asked]}"
    return ""
