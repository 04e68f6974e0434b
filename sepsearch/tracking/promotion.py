"""Promotion of a model to the champion of its instrument: find it, check it, register it, move the alias."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.runs.run_folder import JOURNAL, NAME, find_run
from sepsearch.tracking.champion import CHAMPION, pick_champion
from sepsearch.tracking.finalist_models import Finals, check_model, make_model, pick_run, read_finals
from sepsearch.tracking.registry import PREFIX, add_version, find_version, resolve_model
from sepsearch.utils.errors import UserError

JOB = re.compile(r"[ct]\d+(-s-?\d+)?")
RUN_ID = re.compile(r"[0-9a-f]{4,32}")
EXAMPLES = "models:/sepsearch-vn/3, a run's name such as demo/c1-s2, or its id in MLflow"


@dataclass(frozen=True)
class Promoted:
    """What a promotion has changed: versions of `name` in MLflow, `old` None where there was none."""

    name: str
    code: str
    new: Any
    old: Any = None

    @property
    def changed(self) -> bool:
        """Whether another version is champion now."""
        return self.old is None or str(self.old.version) != str(self.new.version)

    def lines(self) -> Iterator[str]:
        """Lines that say so; the first is the result."""
        if not self.changed:
            yield f"{self.name}: version {self.new.version} is the champion already, nothing has changed"
            return
        before = f"version {self.old.version}" if self.old else "none"
        yield f"{self.name}@{CHAMPION}: {before} → version {self.new.version}"
        if self.old:
            yield f"  before: {_facts(self.old)}"
        yield f"  now:    {_facts(self.new)}"
        if self.old and self.old.tags.get("fingerprint") != self.new.tags.get("fingerprint"):
            yield "  they were trained on different recordings: their ratios cannot be compared"
        yield f"  searches leave it there from now on; to use it: --model models:/{self.name}@{CHAMPION}, the default"
        if self.old:
            back = f"models:/{self.name}/{self.old.version} --instrument {self.code}"
            yield f"to go back: python -m sepsearch.promote {back}"

    def facts(self) -> dict[str, Any]:
        """The same as plain values, with keys as docs/command-line.md lists them."""
        versions = {"before": self.old, "now": self.new}
        found = {key: one and {"version": str(one.version), "tags": dict(one.tags)} for key, one in versions.items()}
        return {"model": self.name, "instrument": self.code, "alias": CHAMPION, "changed": self.changed, **found}


@dataclass(frozen=True)
class Promotion:
    """Making a model champion of the instrument `code`, in the MLflow of `client`; `runs` holds the folders of runs."""

    client: Any
    uri: str
    runs: Path
    code: str

    def run(self, given: str) -> Promoted:
        """Promote a model, unless it is champion already."""
        name = PREFIX + self.code
        new = self._registered(given) if given.startswith("models:") else self._candidate(given)
        before = self.client.get_registered_model(name).aliases.get(CHAMPION)
        old = self.client.get_model_version(name, str(before)) if before is not None else None
        done = Promoted(name, self.code, new, old)
        if done.changed:
            pick_champion(self.client, name, str(new.version))
        return done

    def _registered(self, given: str) -> Any:
        """A version that is registered already, checked."""
        card = check_model(resolve_model(given, self.uri))
        found = find_version(self.client, given)
        if card.instrument != self.code or found.name != PREFIX + self.code:
            raise UserError(f"{given}: a model of {card.instrument}, expected one of {self.code}")
        return found

    def _candidate(self, given: str) -> Any:
        """The version of a finalist's model, checked and then registered if it is not yet."""
        folder, job = self._find(given)
        finals = read_finals(folder)
        chosen = finals.chosen(self.code)
        if not (job or chosen):
            expected = ", ".join(code for code in finals.scores if finals.chosen(code)) or finals.with_weights()
            raise UserError(f"{given}: chose no model of {self.code}, expected one of: {expected}")
        run = pick_run(finals, job or str(chosen), self.code)
        with tempfile.TemporaryDirectory() as temporary:
            model, card = make_model(finals, run, self.code, Path(temporary, self.code))
            check_model(model)
            # A search's own models belong to its run of the instrument, others to that of the finalist.
            run_id = self._run_id(finals, "" if run.id == chosen else run.id)
            return add_version(self.client, model, card, run_id, self.uri)

    def _run_id(self, finals: Finals, job: str) -> str:
        """MLflow's run of a finalist and seed, or of the search (job "")."""
        key = f"{finals.search['run']}/{job}"
        found = self.client.search_runs(self._experiments(), f"tags.`sepsearch.key` = '{key}'", max_results=1)
        if not found:
            raise UserError(
                f"{finals.name}: not in this MLflow: bring it there first: python -m sepsearch.track {finals.name}"
            )
        return str(found[0].info.run_id)

    def _experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in self.client.search_experiments()]

    def _find(self, given: str) -> tuple[Path, str]:
        """The folder of a run, and the finalist and seed in it; "" for the model that the search chose."""
        name, slash, job = given.partition("/")
        if slash:
            return find_run(self.runs, name, "RUN"), self._job(job)
        folders = sorted(path.parent for path in self.runs.glob(f"*/{JOURNAL}") if NAME.fullmatch(path.parent.name))
        if given in {folder.name for folder in folders}:
            return self.runs / given, ""
        if JOB.fullmatch(given):
            return self._only(given, folders), given
        if RUN_ID.fullmatch(given):
            return self._by_id(given)
        names = ", ".join(folder.name for folder in folders) or f"none is in {self.runs}"
        raise UserError(f"RUN {given!r}: no such run, expected {EXAMPLES}; searches here: {names}")

    def _job(self, name: str) -> str:
        """The finalist and seed of a child run's key: "c0-s2", "vn/c0-s2", or "vn", the chosen one's, for ""."""
        name, _, candidate = name.partition("/")
        if name in INSTRUMENTS and name != self.code:
            raise UserError(f"RUN: a model of {name}, expected one of {self.code}: change --instrument or RUN")
        return candidate if name == self.code else name

    def _only(self, job: str, folders: list[Path]) -> Path:
        """The only search that has a job of this id."""
        found = []
        for folder in folders:
            with contextlib.suppress(UserError):
                finals = read_finals(folder)
                found += [folder] if job in finals.runs or job in finals.trials else []
        if not found:
            raise UserError(f"RUN {job}: no such run in {self.runs}, expected {EXAMPLES}")
        if len(found) > 1:
            names = ", ".join(f"{folder.name}/{job}" for folder in found)
            raise UserError(f"RUN {job}: several searches have one, expected one of: {names}")
        return found[0]

    def _by_id(self, prefix: str) -> tuple[Path, str]:
        """The run of an id in MLflow, or of an id's unique prefix."""
        found = self.client.search_runs(self._experiments(), f"attributes.run_id LIKE '{prefix}%'", max_results=5)
        if not found:
            raise UserError(f"RUN {prefix}: no run in MLflow has an id that begins so, expected {EXAMPLES}")
        if len(found) > 1:
            names = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in found)
            raise UserError(f"RUN {prefix}: several runs begin so, expected one of: {names}")
        tags = found[0].data.tags
        if "sepsearch.key" not in tags:
            raise UserError(f"RUN {prefix}: {found[0].info.run_name} is no run of sepsearch, expected {EXAMPLES}")
        run, _, job = tags["sepsearch.key"].partition("/")
        folder = find_run(self.runs, tags.get("sepsearch.name", ""), "RUN")
        if read_finals(folder).search["run"] != run:
            raise UserError(f"{folder}: another search of the same name as that of {prefix}, expected its own folder")
        named = self._job(job)
        return folder, tags.get("unit") or named


def _facts(version: Any) -> str:
    """A registered version in one line."""
    tags = version.tags
    text = f"ratio {tags.get('ratio', '–')}"
    if "ratio_mean" in tags:
        text += f" (mean of its seeds {tags['ratio_mean']} ± {tags.get('ratio_sd', '–')})"
    text += f", test ratio {tags.get('test_ratio', 'not measured')}"
    origin = f"search {tags.get('search', '?')}"
    if "configuration" in tags:
        origin += f", configuration {tags['configuration']}"
    return f"{text}; {origin}, seed {tags.get('seed', '?')}"
