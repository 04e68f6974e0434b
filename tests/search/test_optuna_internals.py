"""Contract with Optuna: what the study's storage relies on beside its documented interface, in the installed version."""

import json
from typing import Any

import optuna
from optuna.distributions import FloatDistribution

from sepsearch.search.sampling.study_storage import DRAWN, LogFile, StudyLog

TESTED = "5.0"


def moved(what: str) -> str:
    return (
        f"Optuna {optuna.__version__} has changed {what} (tested: {TESTED}): look for it in Optuna's sources, change"
        " sepsearch/search/sampling/study_storage.py, or bound optuna below this version in pyproject.toml"
    )


def test_tpe_keeps_what_it_draws_for_a_trial_as_json_among_its_system_attributes():
    sampler = optuna.samplers.TPESampler(n_startup_trials=1, group=True, multivariate=True, seed=0)
    study = optuna.create_study(sampler=sampler)
    space = {name: FloatDistribution(0, 1) for name in ("x", "y")}
    study.tell(study.ask(space), 1.0)
    study.tell(study.ask(space), 0.5)
    drawn = study.ask(space)
    parts = [text for key, text in study.trials[drawn.number].system_attrs.items() if key.startswith(DRAWN)]
    assert parts, moved(f"TPESampler's attributes {DRAWN!r}")
    assert json.loads("".join(parts)) == drawn.params, moved(f"the content of TPESampler's attributes {DRAWN!r}")


def test_operations_on_a_trial_name_it(monkeypatch):
    written: list[dict[str, Any]] = []
    before = LogFile.append_logs
    monkeypatch.setattr(LogFile, "append_logs", lambda log, logs: (written.extend(logs), before(log, logs))[1])
    study = optuna.create_study(storage=StudyLog(None, 1, 1), sampler=optuna.samplers.RandomSampler())
    trial = study.ask({"x": FloatDistribution(0, 1)})
    trial.report(0.5, 1)
    trial.set_user_attr("trial", "t0000")
    study.tell(trial, 0.5)
    named = [log for log in written if "trial_id" in log]
    assert {log["trial_id"] for log in named} == {trial._trial_id}, moved("the key trial_id of journal operations")
    assert len(named) == 4, moved("the operations of JournalStorage: a parameter, a value, an attribute and an end")
