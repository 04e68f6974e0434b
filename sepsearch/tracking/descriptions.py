"""Descriptions (Markdown) of MLflow's runs: search, finalist and seed, final model; and lines about champions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS, file_name
from sepsearch.runs.verdict import RULES, judge_models, verdict_sentences
from sepsearch.search.events import ScoresEvent, SearchEvent
from sepsearch.tracking.mlflow_internals import VIEW_TAG, saved_view
from sepsearch.tracking.records import LONGEST_TAG
from sepsearch.tracking.server_errors import quoted_uri
from sepsearch.utils.errors import one_line
from sepsearch.utils.formatting import number
from sepsearch.utils.programs import program

NOTE = """**Final models** of every instrument, with audio to play: view *Final models*; all candidates of one
instrument: views *Violin*, *Cello* and so on (above on the right, or `…/runs?viewStateShareKey=sepsearch-vn`).

A run per search; its children are trials (`t0004`), finalists by configuration and seed (`c0-s2`), and for every
instrument a run of each finalist's best seed (`violin · c0-s2`), with picture and audio of one clip under Artifacts.
`ratio` is validation loss / identity loss: below 1 is better than handing the mixture through. Test scores were
measured after all choices.

Filters: `tags.stage = 'search'`, `'trial'`, `'finalist'` or `'candidate'`; `tags.instrument = 'vn'` finds the violin
models of every search. Sort by a metric: sorted by date, MLflow hides children behind their search.

`python -m sepsearch.promote RUN --instrument vn` makes a run's model the champion; RUN is a run's id or `search/c0-s2`.
"""
MODELS_VIEW = "sepsearch-models"
_CHOICE = """metrics.ratio metrics.si_sdr_gain_db metrics.test_ratio metrics.constant_gain_ratio tags.chosen
        tags.verdict tags.sepsearch.name"""
# Key → name, filter, and columns, by the first of which the runs are sorted.
VIEWS = {
    "searches": """Searches; tags.stage = 'search';
        metrics.final_ratio_mean metrics.reference_ratio_mean metrics.best_ratio metrics.trials_completed
        metrics.trials_stopped metrics.trials_failed""",
    "trials": """Trials with the full budget; tags.stage = 'trial' and tags.state = 'completed';
        metrics.ratio tags.sepsearch.name metrics.discontinuities params.filters params.head params.activation
        params.learning_rate""",
    "finalists": """Finalists and seeds; tags.stage = 'finalist' and tags.instrument = 'all';
        metrics.final_ratio_mean tags.sepsearch.name tags.chosen tags.eliminated metrics.discontinuities
        metrics.final_ratio/vn""",
    "models": f"Final models; tags.stage = 'finalist' and tags.instrument != 'all'; {_CHOICE}",
    **{code: f"{name.capitalize()}; tags.instrument = '{code}'; {_CHOICE}" for code, name in INSTRUMENTS.items()},
}


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model beside its scores.

    Args:
        chosen: whether it is the search's choice.
        verdict: in words; "" for a candidate.
        gain: ratio of the best constant gain, on validation titles.
        caveat: how to read the scores; "" for an instrument with enough titles.
    """

    chosen: bool
    verdict: str
    gain: float | None
    caveat: str


def describe(search: SearchEvent, scores: ScoresEvent | None, models: Mapping[str, str]) -> str:
    """Description of a search; `scores` is None until its end."""
    lines = []
    if scores:
        verdicts = judge_models(scores["final"], search["baselines"].get("validation", {}))
        lines += [f"**{' '.join(verdict_sentences(verdicts))}**", ""]
        lines += [
            "| instrument | SI-SDR gain | oracle's gain | ratio | mean ± sd of seeds | test ratio | reference network "
            "| model |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for verdict in verdicts:
            code, row = verdict.instrument, scores["final"][verdict.instrument]
            reference = scores["reference_final"].get(code, {}).get("ratio")
            oracle = audio_number(row, "oracle_gain", "si_sdr_db")
            spread = f"{number(row['ratio_mean'])} ± {number(row['ratio_sd'])}"
            cells = [verdict.name, f"**{decibels(row['si_sdr_gain_db'])}**", decibels(oracle), number(row["ratio"])]
            cells += [spread, number(row["test_ratio"]), number(reference), models.get(code, "")]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", f"Ratio = validation loss / identity loss: below 1 is better than no separation. {RULES}", ""]
    data, settings = search["dataset"], search["settings"]
    lines.append(
        f"{data['pieces']} pieces, {data['clips']} clips, {data['rows']} rows from {data['source']}; "
        f"{settings.get('trials', '?')} trials of up to {settings.get('epochs', '?')} epochs. "
        "Split and baselines: artifact `dataset.yaml`; validation loss beside identity loss: artifacts `curves/`."
    )
    lines += ["", *(f"- **{INSTRUMENTS.get(code, code)}**: {text}" for code, text in search["caveats"].items())]
    return "\n".join(lines)[:LONGEST_TAG]


def describe_finalist(name: str, job: str, ratios: Mapping[str, float], chosen: Sequence[str], end: str) -> str:
    """Description of a finalist and seed: ratios of its kept weights, what it was chosen for, and how to choose it.

    Args:
        name: of the search.
        job: finalist and seed, such as "c0-s2".
        ratios: instrument → of the weights that are kept.
        chosen: the instruments whose final model it is.
        end: why it has no weights; "" if it has.
    """
    if end:
        return f"No weights: {end}."
    lines = []
    if chosen:
        names = ", ".join(f"{INSTRUMENTS.get(code, code)} (run `{code}`)" for code in chosen)
        lines += [f"Final model of: {names}. Scores on test titles, pictures and audio are on those runs.", ""]
    lines += ["| instrument | ratio of the weights kept |", "|---|---|"]
    for code, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        bold = "**" * (code in chosen)
        lines.append(f"| {code} {INSTRUMENTS.get(code, '')} | {bold}{number(ratio)}{bold} |")
    code = next(iter(ratios), "vn")
    lines += ["", f"To make one the champion: `python -m sepsearch.promote {name}/{job} --instrument {code}`."]
    return "\n".join(lines)[:LONGEST_TAG]


def describe_final(name: str, code: str, job: str, row: Mapping[str, Any], facts: "ModelFacts") -> str:
    """Description of an instrument's final model, or of another candidate.

    Args:
        name: of the search.
        code: the instrument.
        job: the finalist and seed whose weights it has.
        row: its scores.
        facts: what else is known.
    """
    interval = row.get("ratio_interval")
    spread = f"{number(row.get('ratio_mean'))} ± {number(row.get('ratio_sd'))} over {len(row.get('seeds', []))} seeds"
    if interval:
        spread += f" (interval {number(interval[0])} to {number(interval[1])})"
    oracle = audio_number(row, "oracle_gain", "si_sdr_db")
    instrument = INSTRUMENTS.get(code, code)
    what = f"The {instrument} model that `{name}` chose on validation titles: weights of `{job}`."
    if not facts.chosen:
        what = f"A candidate of `{name}` for the {instrument} that was not chosen: weights of `{job}`."
    lines = [
        *([f"**{facts.verdict}**", ""] if facts.verdict else []),
        what,
        "",
        "| | |",
        "|---|---|",
        f"| ratio (validation loss / identity loss; below 1 is better than none) | **{number(row.get('ratio'))}** |",
        f"| its configuration | {spread} |",
        f"| best constant gain | {number(facts.gain)} |",
        f"| test ratio, measured once | {number(row.get('test_ratio'))} |",
        f"| SI-SDR gain on test titles | {decibels(row.get('si_sdr_gain_db'))} |",
        f"| the oracle mask's gain | {decibels(oracle)} |",
        *_named(row),
        "",
        "Picture and audio: tab Artifacts, `spectrograms.png` and `audio/`; all candidates have the same clip. "
        + (
            f"To use it: `python -m sepsearch.separate mix.wav --instrument {file_name(code)}`."
            if facts.chosen
            else f"To use it: `python -m sepsearch.promote {name}/{job} --instrument {code}`."
        ),
    ]
    if facts.caveat:
        lines += ["", f"**Read with care:** {facts.caveat}."]
    return "\n".join(lines)[:LONGEST_TAG]


def _named(row: Mapping[str, Any]) -> list[str]:
    """Lines of a table: the scores with the players named, where there are any."""
    ratio, gain = row.get("named_test_ratio"), row.get("named_si_sdr_gain_db")
    if ratio is None and gain is None:
        return []
    return [
        f"| with the players named (`--players`): test ratio | {number(ratio)} |",
        f"| with the players named: SI-SDR gain on test titles | {decibels(gain)} |",
    ]


def audio_number(row: Mapping[str, Any], part: str, measure: str) -> float | None:
    """A number of `audio` in an instrument's scores, such as ("gain", "sdr_db"); None where there is none."""
    values = (row.get("audio") or {}).get(part) or {}
    return values.get(measure) if isinstance(values, dict) else None


def decibels(value: float | None) -> str:
    """Decibels as text."""
    return f"{number(value, 1)} dB"


def champion_lines(champions: Mapping[str, Mapping[str, Any]], uri: str | None = None) -> list[str]:
    """Lines about the champions of several instruments, as `champion_line` has them; first champions share a line.

    Args:
        champions: `Outcome.facts` of the registry, by code.
        uri: see `champion_line`.
    """
    first: dict[str, list[str]] = {}  # version → codes
    for code, outcome in champions.items():
        if outcome["now"] and not outcome["before"]:
            first.setdefault(str(outcome["now"]), []).append(code)
    shared = {version: codes for version, codes in first.items() if len(codes) > 1}
    lines = [
        one_line(
            f"champions, where there was none: version {version} of"
            f" {', '.join(INSTRUMENTS.get(code, code) for code in codes)}"
        )
        for version, codes in shared.items()
    ]
    named = {code for codes in shared.values() for code in codes}
    return lines + [champion_line(code, outcome, uri) for code, outcome in champions.items() if code not in named]


def champion_line(code: str, outcome: Mapping[str, Any], uri: str | None = None) -> str:
    """One line about an instrument's champion: before, now, why, and the command that undoes the change.

    Args:
        code: of the instrument.
        outcome: `Outcome.facts` of the registry.
        uri: MLflow's address where the command needs it.
    """
    instrument = INSTRUMENTS.get(code, code)
    version, before, now, why = (outcome[key] for key in ("version", "before", "now", "why"))

    def promote(which: str) -> str:
        command = f"{program('python')} -m sepsearch.promote models:/{outcome['name']}/{which} --instrument {code}"
        return command + (f" --uri {quoted_uri(uri)}" if uri else "")

    if now == before:
        kept = f"version {now} stays champion" if now else "no champion"
        command = "" if now == version else f"; to choose version {version}: {promote(version)}"
        return one_line(f"{instrument}: {kept}; version {version}: {why}") + command
    undo = f"; to undo: {promote(before)}" if before else ""
    return (
        one_line(f"{instrument}: champion is version {now}, before: {f'version {before}' if before else 'none'}; {why}")
        + undo
    )


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment: kind, primary metric, description and saved views."""
    tags = {
        "mlflow.experimentKind": "custom_model_development",  # otherwise MLflow's pages open in their LLM mode
        "mlflow.experiment.primaryMetric.name": "ratio",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
        "mlflow.note.content": NOTE,
    }
    for key, view in VIEWS.items():
        name, search, columns = (part.strip() for part in view.split(";"))
        order, *others = ("{}.`{}`".format(*column.split(".", 1)) for column in columns.split())
        tags[f"{VIEW_TAG}sepsearch-{key}"] = saved_view(name, search, order, others)
    return tags
