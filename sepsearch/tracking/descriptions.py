"""Descriptions (Markdown) of MLflow's runs: search, finalist and seed, final model; and lines about champions."""

from collections.abc import Mapping, Sequence
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.search.events import ScoresEvent, SearchEvent
from sepsearch.tracking.mlflow_internals import VIEW_TAG, saved_view
from sepsearch.tracking.records import LONGEST_TAG
from sepsearch.tracking.server_errors import quoted_uri
from sepsearch.utils.errors import one_line
from sepsearch.utils.formatting import number
from sepsearch.utils.programs import program

NOTE = """A run per search; its children are trials (`t0004`), finalists by configuration and seed (`c0-s2`), and for
every instrument its final model (`vn`), with pictures and audio under Artifacts. `ratio` is validation loss / identity
loss: below 1 is better than handing the mixture through; `final_ratio/vn` is that of the weights that were kept.

**Views**, above on the right, have columns for each kind of run. Filters: `tags.stage = 'search'`, `'trial'` or
`'finalist'`; of finalists `tags.instrument = 'vn'` finds the violin model of every search, `'all'` the finalists by
seed. Sort by a metric: sorted by date, MLflow hides children behind their search.

`python -m sepsearch.promote RUN --instrument vn` makes a run's model the champion; RUN is a run's id or `search/c0-s2`.
"""
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
    "models": """Final models; tags.stage = 'finalist' and tags.instrument != 'all';
        metrics.ratio tags.sepsearch.name tags.unit metrics.ratio_mean metrics.ratio_sd metrics.test_ratio
        metrics.constant_gain_ratio metrics.si_sdr_gain_db metrics.oracle_si_sdr_gain_db""",
}


def describe(search: SearchEvent, scores: ScoresEvent | None, models: Mapping[str, str]) -> str:
    """Description of a search; `scores` is None until its end."""
    lines = []
    if scores:
        lines += [
            "| instrument | ratio | mean ± sd of seeds | test ratio | SI-SDR gain | oracle's gain | reference network "
            "| model |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for code, row in scores["final"].items():
            reference = scores["reference_final"].get(code, {}).get("ratio")
            oracle = audio_number(row, "oracle_gain", "si_sdr_db")
            spread = f"{number(row['ratio_mean'])} ± {number(row['ratio_sd'])}"
            cells = [INSTRUMENTS.get(code, code), f"**{number(row['ratio'])}**", spread, number(row["test_ratio"])]
            cells += [decibels(row["si_sdr_gain_db"]), decibels(oracle), number(reference), models.get(code, "")]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Ratio = validation loss / identity loss: below 1 is better than no separation.", ""]
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


def describe_final(name: str, code: str, job: str, row: Mapping[str, Any], gain: float | None, caveat: str) -> str:
    """Description of an instrument's final model.

    Args:
        name: of the search.
        code: the instrument.
        job: the finalist and seed whose weights it has.
        row: of `scores`.final.
        gain: ratio of the best constant gain, on validation titles.
        caveat: how to read the scores; "" for an instrument with enough titles.
    """
    interval = row.get("ratio_interval")
    spread = f"{number(row.get('ratio_mean'))} ± {number(row.get('ratio_sd'))} over {len(row.get('seeds', []))} seeds"
    if interval:
        spread += f" (interval {number(interval[0])} to {number(interval[1])})"
    oracle = audio_number(row, "oracle_gain", "si_sdr_db")
    lines = [
        f"The {INSTRUMENTS.get(code, code)} model that `{name}` chose on validation titles: weights of `{job}`.",
        "",
        "| | |",
        "|---|---|",
        f"| ratio (validation loss / identity loss; below 1 is better than none) | **{number(row.get('ratio'))}** |",
        f"| its configuration | {spread} |",
        f"| best constant gain | {number(gain)} |",
        f"| test ratio, measured once | {number(row.get('test_ratio'))} |",
        f"| SI-SDR gain on test titles | {decibels(row.get('si_sdr_gain_db'))} |",
        f"| the oracle mask's gain | {decibels(oracle)} |",
        "",
        "Picture and audio: tab Artifacts, `spectrograms.png` and `audio/`. "
        f"To use it: `python -m sepsearch.separate mix.wav --instrument {code} -o {code}.wav`.",
    ]
    if caveat:
        lines += ["", f"**Read with care:** {caveat}."]
    return "\n".join(lines)[:LONGEST_TAG]


def audio_number(row: Mapping[str, Any], part: str, measure: str) -> float | None:
    """A number of `audio` in an instrument's scores, such as ("gain", "sdr_db"); None where there is none."""
    values = (row.get("audio") or {}).get(part) or {}
    return values.get(measure) if isinstance(values, dict) else None


def decibels(value: float | None) -> str:
    """Decibels as text."""
    return f"{number(value, 1)} dB"


def champion_line(code: str, outcome: Mapping[str, Any], uri: str | None = None) -> str:
    """One line about an instrument's champion: before, now, why, and the command that undoes the change.

    Args:
        code: of the instrument.
        outcome: `Outcome.facts` of the registry.
        uri: MLflow's address where the command needs it.
    """
    version, before, now, why = (outcome[key] for key in ("version", "before", "now", "why"))

    def promote(which: str) -> str:
        command = f"{program('python')} -m sepsearch.promote models:/{outcome['name']}/{which} --instrument {code}"
        return command + (f" --uri {quoted_uri(uri)}" if uri else "")

    if now == before:
        kept = f"version {now} stays champion" if now else "no champion"
        command = "" if now == version else f"; to choose version {version}: {promote(version)}"
        return one_line(f"{code}: {kept}; version {version}: {why}") + command
    undo = f"; to undo: {promote(before)}" if before else ""
    return (
        one_line(f"{code}: champion is version {now}, before: {f'version {before}' if before else 'none'}; {why}")
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
