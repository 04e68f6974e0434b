"""The run report: one HTML file without external parts, from a run's journal and samples, in any state of the run."""

import base64
from pathlib import Path
from typing import Any

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.evaluation.audio_samples import Sample
from sepsearch.reporting import figures, tables, trial_tables
from sepsearch.reporting import text as say
from sepsearch.reporting.plots import JUMP, MOST_RATIO, WORST
from sepsearch.reporting.run_data import RunFacts, gather_facts
from sepsearch.reporting.style import FLOOR_DB
from sepsearch.reporting.template import render_page
from sepsearch.runs.results import has_named_scores
from sepsearch.runs.run_folder import JOURNAL
from sepsearch.runs.verdict import RULES, judge_models, verdict_sentences
from sepsearch.training.metrics import JUMP_SHARE, JUMP_SPREADS, RECENT
from sepsearch.utils.errors import UserError
from sepsearch.utils.files import write_atomically
from sepsearch.utils.formatting import number

PAGE = "report.html"
SCRIPTS = ("clips.js", "compare.js", "hover.js", "tables.js")
PICTURE_OF = {"estimate": "prediction"}  # others have the panel of their own name
MANY_TRIALS = 30  # a longer table is folded
JUMP_TEXT = (
    f"It is a step up by more than {JUMP_SPREADS:g} times the spread of the loss’s last {RECENT} steps and more than"
    f" {100 * JUMP_SHARE:g} % of the loss."
)


def write_report(folder: Path) -> Path:
    """Write the run report, `report.html`, into a run's folder; returns its path.

    Raises:
        UserError: the journal is damaged or no run's, or the file cannot be written.
    """
    facts = gather_facts(folder)
    try:
        page = render(facts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"an event lacks what the run report shows ({type(error).__name__}: {error})"
        raise UserError(f"{folder / JOURNAL}: {problem}, expected what a run writes: restore the file") from error
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def render(facts: RunFacts) -> str:
    """The run report as HTML; values of the run are escaped."""
    return render_page(
        "report.html",
        SCRIPTS,
        title=facts.name,
        state=say.state(facts),
        verdict=[
            sentence.replace(" dB", "\N{NO-BREAK SPACE}dB")
            for sentence in verdict_sentences(judge_models(facts.results["final"], facts.results["baselines"]))
        ],
        rules=RULES,
        lead=say.lead(facts),
        problems=facts.problems,
        jump=JUMP,
        jump_text=JUMP_TEXT,
        worst=WORST,
        most_ratio=MOST_RATIO,
        floor=f"−{abs(FLOOR_DB):g}",
        percent=lambda share: number(100 * share, 1),
        journal=JOURNAL,
        made=say.when(facts.run.written) if facts.run.written else "",
        **_result(facts),
        **_training(facts),
        **_trials(facts),
        **_data(facts),
    )


def _result(facts: RunFacts) -> dict[str, Any]:
    """The sections Result and Listen."""
    final = facts.results["final"]
    protocols = [(tables.label(code), one["protocol"]) for code, one in final.items() if one.get("protocol")]
    shown = [*final.values(), *facts.results["reference_final"].values()]
    return {
        "final": tables.final_table(facts),
        "final_picture": figures.final_picture(facts),
        "audio": tables.audio_table(facts),
        "ensembles": tables.ensemble_table(facts),
        "named": has_named_scores(final),
        "jumps": any(one.get("discontinuities") for one in shown),
        "protocols": [(name, one) for name, one in protocols if one != tables.TITLES],
        "caveats": [(tables.label(code), text) for code, text in facts.caveats.items()],
        "reasons": [
            (tables.label(code), one["choice_reason"]) for code, one in final.items() if one.get("choice_reason")
        ],
        "two_seeds": any(len(one.get("seeds") or []) == 2 for one in final.values()),
        "no_result": "No model has been chosen yet: that happens after the finalists are retrained.",
        "sample_rule": say.sample_rule(facts),
        "samples": [_sample(facts, code) for code in facts.samples],
    }


def _sample(facts: RunFacts, code: str) -> dict[str, Any]:
    """Values of one article of the section Listen."""
    sample = facts.samples[code]
    about = sample.facts
    begin = tables.figure(about["begin_seconds"], 0).text
    players = ", ".join(INSTRUMENTS.get(player, player) for player in about["players"])
    decibels = {
        key: tables.figure(about[key], 1).text for key in ("mixture_si_sdr_db", "si_sdr_db", "oracle_si_sdr_db")
    }
    share = about.get("sounding_share")
    sounds = f"; it sounds for {number(100 * share, 0)} % of the time" if share is not None else ""
    pictures = figures.sample_pictures(facts, code)
    # Whatever the sample has beyond mixture, target and estimate, such as other candidates, becomes a column, too.
    clips = [
        {
            "name": voice,
            "about": _about_estimate(facts, sample, voice),
            "data": base64.b64encode(path.read_bytes()).decode(),
            "picture": pictures[PICTURE_OF.get(voice, voice)].markup
            if PICTURE_OF.get(voice, voice) in pictures
            else "",
        }
        for voice, path in sample.audio.items()
    ]
    return {
        "code": code,
        "name": INSTRUMENTS.get(code, code),
        "facts": f"{about['title']} ({about['piece']}), from second {begin}; playing: {players}{sounds}",
        "numbers": (
            f"SI-SDR: mixture {decibels['mixture_si_sdr_db']} dB, estimate {decibels['si_sdr_db']} dB"
            f" (gain {_clip_gain(sample)} dB),"
            f" oracle {decibels['oracle_si_sdr_db']} dB"
        ),
        "seconds": sample.front_end.clip_seconds,
        "clips": [*clips, {"name": "mask", "about": "", "data": "", "picture": pictures["mask"].markup}],
    }


def _clip_gain(sample: Sample) -> str:
    """SI-SDR gain of a sample's estimate over its mixture, dB, with its sign; a dash where one is undefined."""
    estimate, mixture = sample.facts["si_sdr_db"], sample.facts["mixture_si_sdr_db"]
    return tables.DASH if estimate is None or mixture is None else tables.signed(estimate - mixture).text


def _about_estimate(facts: RunFacts, sample: Sample, voice: str) -> str:
    """Which model an estimate is of, and its gain on this clip; "" for what is no estimate."""
    if voice == "estimate":
        return f"chosen: {sample.chosen}, gain {_clip_gain(sample)} dB" if sample.chosen else ""
    if (other := sample.candidates.get(voice)) is None:
        return ""
    references = {one["id"] for one in facts.finalists if one.get("reference")}
    kind = "reference network" if voice.split("-")[0] in references else "not chosen"
    return f"{kind}, gain {_clip_gain(other)} dB"


def _training(facts: RunFacts) -> dict[str, Any]:
    """The sections on finalists."""
    gaps = [one.get("curse") for one in facts.results.get("finalists") or []]
    known = [gap for gap in gaps if isinstance(gap, int | float)]
    worse = sum(gap > 0 for gap in known)
    return {
        "curves": figures.curve_pictures(facts),
        "legend": figures.legend(facts),
        "curse": tables.curse_table(facts),
        "configurations": trial_tables.configuration_table(facts),
        "curse_text": f"{worse} of {len(known)} have a higher ratio with new seeds than in the search."
        if known
        else "",
    }


def _trials(facts: RunFacts) -> dict[str, Any]:
    """The sections on the search, its parameters and what failed."""
    mattered = figures.mattered(facts)
    search_text = f"{say.known_text(facts)}Every line is a configuration, trained for all instruments at once."
    if len(facts.shown) < len(facts.trials):
        search_text += (
            f" {len(facts.shown)} of {len(facts.trials)} trials are shown, here and below: the finalists’, the best"
            " that ran all epochs, and some of the others, evenly spaced. results.json has all of them."
        )
    if facts.audit and facts.audit.rungs.values:
        search_text += say.stopping_text(facts.audit.space.search, list(facts.audit.rungs.values))
    return {
        "trials": trial_tables.trial_table(facts),
        "many": len(facts.trials) > MANY_TRIALS,
        "rungs": figures.rung_picture(facts),
        "rung_table": trial_tables.rung_table(facts),
        "search_text": search_text,
        "sizes": figures.size_pictures(facts),
        "size_text": say.size_text(facts),
        "failures": trial_tables.failure_table(facts),
        "mattered": mattered,
        "mattered_text": say.mattered_text(mattered),
        "mattered_keys": ["○ stopped, ratio at that epoch", "● ran to its end"],
        "parallel_text": say.parallel_text(mattered),
    }


_AMOUNTS = {"pieces": "piece", "clips": "clip", "rows": "spectrogram"}


def _data(facts: RunFacts) -> dict[str, Any]:
    """The last sections: data, and how to do it again."""
    if not facts.search:
        return {"split": [], "data_text": "", "commands": [], "versions": []}
    data = facts.search["dataset"]
    settings = facts.search["settings"]
    amounts = [say.count(data[key], what) for key, what in _AMOUNTS.items()]
    text = (
        f"{', '.join(amounts)}, fingerprint {data['fingerprint']}. The split is by title, so that no music is in"
        " two of its parts. The search uses training and validation titles; test titles are used once, for the chosen"
        " models."
    )
    split = [(say.SPLITS.get(name, name), list(titles)) for name, titles in data["split"].items()]
    shown = {**facts.search["versions"], **{key: value for key, value in settings.items() if key != "options"}}
    shown |= settings.get("options") or {}
    plain = [
        (key, tables.DASH if v is None else ", ".join(map(str, v)) if isinstance(v, list) else str(v))
        for key, v in shown.items()
    ]
    return {"split": split, "data_text": text, "commands": say.commands(facts), "versions": plain}
