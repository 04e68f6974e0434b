"""What receivers of `run --on-event` are told of an event: a sentence, and its numbers as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.job import Job
from sepsearch.runs.state import RunState
from sepsearch.search.events import Event
from sepsearch.utils.errors import one_line
from sepsearch.utils.formatting import counted, number

# What receivers can be told of. "failed" is any trial or finalist that failed, and a run that ended so.
EVENTS = (
    "search",
    "resume",
    "continue",
    "trial_end",
    "search_stopped",
    "finalists",
    "final_end",
    "scores",
    "registered",
    "end",
    "failed",
)
FORMAT = 1
SCORES = ("ratio", "ratio_mean", "test_ratio", "si_sdr_gain_db")


@dataclass(frozen=True)
class EventMessage:
    """One event for receivers.

    `kinds`: the names of EVENTS that it goes by; `data`: its numbers and names, by kind as docs/stopping.md lists them.
    """

    event: str
    kinds: frozenset[str]
    run: str
    folder: str
    time: float
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> bytes:
        """The message as a JSON object; numbers that are none are null."""
        moment = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="seconds")
        head = {"format": FORMAT, "event": self.event, "run": self.run, "time": moment, "folder": self.folder}
        return json.dumps({**head, "text": self.text, "data": _plain(self.data)}, allow_nan=False).encode()


def event_message(event: Event, run: RunState, folder: str) -> EventMessage | None:
    """What receivers are told of an event; None for a kind that they are never told of.

    Args:
        event: as the journal has it.
        run: the state after it.
        folder: of the run.
    """
    kind = event["event"]
    if kind not in EVENTS:
        return None
    text, data = _told(event, run)
    failed = data.get("state") == "failed"
    kinds = frozenset({kind, "failed"} if failed else {kind})
    # One printable line: it may become a mail's subject, and reasons hold what an exception said.
    return EventMessage(kind, kinds, run.name, folder, event["time"], one_line(f"{run.name}: {text}"), data)


def _told(event: Event, run: RunState) -> tuple[str, dict[str, Any]]:
    """The sentence and the data of an event."""
    match event["event"]:
        case "search" | "resume" | "continue":
            settings = run.search["settings"]
            done = run.begun["search"]
            words = {"search": "begins", "resume": f"goes on, {done} trials have begun", "continue": "is extended"}
            text = words[event["event"]] + ("" if event["event"] == "resume" else f", {settings['trials']} trials")
            return text, {"trials": settings["trials"], "epochs": settings["epochs"], "instruments": run.codes}
        case "trial_end" | "final_end":
            return _ended(run.jobs[event["id"]], run)
        case "search_stopped":
            return f"search over: {event['reason']}", {"rule": event["rule"], "reason": event["reason"], **_best(run)}
        case "finalists":
            trials = [one["trial"] for one in event["configurations"]]
            return f"search over after {run.begun['search']} trials, finalists {', '.join(trials)}", {
                "trials": trials,
                "seconds": event["seconds"],
                **_best(run),
            }
        case "scores":
            final = {code: {key: row.get(key) for key in SCORES} for code, row in event["final"].items()}
            gains = [f"{INSTRUMENTS.get(code, code)} {_gain(row)}" for code, row in final.items()]
            return f"models are scored: {', '.join(gains) or 'none'}", {"final": final}
        case "registered":
            return f"{len(event['models'])} models are registered", {"models": event["models"]}
        case "end":
            return f"has ended: {event['state']}", {"state": event["state"], **_best(run)}
    raise AssertionError(event["event"])


def _ended(job: Job, run: RunState) -> tuple[str, dict[str, Any]]:
    """A trial or a finalist with one seed has ended."""
    how = job.reason if job.state == "stopped" else f"{job.state}: {job.reason}" if job.state == "failed" else job.state
    data = {"id": job.id, "state": job.state, "reason": job.reason, "epochs": job.epochs, "ratio": job.ratio}
    best = f"; best {number(run.best.ratio)} ({run.best.id})" if run.best and job.stage == "search" else ""
    done = counted(job.epochs, "epoch")
    return f"{job.id} {how} after {done}, ratio {number(job.ratio)}{best}", {**data, **_best(run)}


def _best(run: RunState) -> dict[str, Any]:
    return {"best": {"id": run.best.id, "ratio": run.best.ratio} if run.best else None}


def _gain(row: Mapping[str, Any]) -> str:
    gain = row["si_sdr_gain_db"]
    return f"{number(gain, 1)} dB" if gain is not None else "without a gain"


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
