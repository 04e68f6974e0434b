"""State of a run as plain values, for `sepsearch.watch --json`; the keys are listed in docs/command-line.md."""

from collections.abc import Mapping
from typing import Any

from sepsearch.runs.job import Job
from sepsearch.runs.reducer import STAGES
from sepsearch.runs.state import RunState
from sepsearch.runs.verdict import baseline_ratio
from sepsearch.spaces.constraints import rate

NOT_BEGUN, RUNNING = "not begun", "running"


def run_facts(run: RunState, now: float, resume: str) -> dict[str, Any]:
    """What `monitoring.terminal.make_view` shows, all of it.

    Args:
        run: its state.
        now: a moment as `RunState.last` is.
        resume: command that resumes the run.
    """
    state = run.end or (RUNNING if run.search else NOT_BEGUN)
    facts: dict[str, Any] = {"name": run.name, "state": state, "resume": resume}
    if not run.search:
        return facts
    left = run.remaining(now)
    return facts | {
        "stage": run.stage,
        "began": run.begin,
        "seconds_in_stage": (run.last if run.end else now) - run.since,
        "silent_seconds": run.silence(now),
        "resumes": run.resumes,
        "jobs": {stage: run.states(stage) for stage in STAGES.values() if stage == run.stage or run.begun[stage]},
        "stopped": {"rule": run.stopped["rule"], "reason": run.stopped["reason"]} if run.stopped else None,
        "best": _job(run.best) if run.best else None,
        "instruments": {code: _instrument(run, code) for code in run.codes},
        "running": [_job(job) for job in run.running.values()],
        "rungs": [
            {"epoch": rung, "arrived": len(values), "stopped": run.stopped_at[rung], "cutoff": run.cutoff(rung)}
            for rung, values in run.rungs.values.items()
        ],
        "failures": [{"id": job, "reason": reason} for job, reason in run.failures],
        "dead_workers": run.deaths,
        "constraints": {
            **(run.search.get("space", {}).get("constraints") or {}),
            "proposals_too_large": run.too_large,
            "trials_too_slow": run.infeasible,
        },
        "epochs_per_second": run.throughput.rate(now),
        "examples_per_second": run.examples_per_second(now),
        "remaining_seconds": {"stage": left[0], "finalists": left[1]} if left else None,
        "models": run.models,
    }


def limits_line(run: RunState) -> str:
    """The constraints of a search and what they did, for people; "" without constraints."""
    limits = run.search.get("space", {}).get("constraints") or {}
    parts = []
    if most := limits.get("parameters"):
        parts.append(f"at most {most:,.0f} parameters: {_count(run.too_large, 'larger proposal')} not trained")
    if least := limits.get("examples_per_second"):
        parts.append(f"at least {rate(least)} examples/s: {_count(run.infeasible, 'slower trial')} ended")
    return "; ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "stage": job.stage,
        "epochs": job.epochs,
        "ratio": job.ratio,
        "ratios": job.ratios,
        "params": job.params,
        "parameters": job.parameters,
        "examples_per_second": job.speed,
    }


def _instrument(run: RunState, code: str) -> dict[str, Any]:
    """The best trial of an instrument and its opponents; of finalists the leading one, of final models the scores."""
    validation: Mapping[str, Any] = run.search.get("baselines", {}).get("validation", {})
    ratio, trial = run.best_of.get(code, (None, None))
    chosen, _ = run.chosen(code)
    finalist = None
    if chosen:
        seeds = list(chosen.seeds)
        finalist = {"id": chosen.finalist.id, "ratio_mean": chosen.ratio_mean, "ratio_sd": chosen.ratio_sd}
        finalist |= {"seeds": seeds}
    return {
        "best_ratio": ratio,
        "best_trial": trial,
        "identity_loss": validation.get("identity", {}).get(code),
        "constant_gain_ratio": baseline_ratio(validation, "gain", code),
        "reference_ratio": run.reference.get(code),
        "finalist": finalist,
        "final": run.scores["final"].get(code) if run.scores else None,
        "caveat": (run.search.get("caveats") or {}).get(code),
    }
