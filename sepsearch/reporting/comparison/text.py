"""Sentences of a comparison of runs: what can be compared, how significance is tested, what was found."""

from collections.abc import Sequence

from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.reporting.comparison.facts import HIGHER, LOWER, ComparedRun, Comparison, SignificanceTest
from sepsearch.runs.comparison.significance import CONFIDENCE, LEAST_SEEDS, LEVEL

BIAS = (
    "A configuration is chosen by these same validation ratios, so a run with more finalists is at an advantage; the"
    " test ratio has none, but is that of one seed. Seeds tell how much trainings scatter, not how much searches do: to"
    " compare two ways of searching, repeat each with several seeds (--seed)."
)


def tested(comparison: Comparison) -> list[SignificanceTest]:
    """The comparisons that have a test."""
    return [one for one in comparison.tests if one.test]


def significance_rule(comparison: Comparison) -> str:
    """How significance is tested."""
    amount = len(tested(comparison))
    return (
        "Welch’s two-sided t test of the logarithms of the final model’s ratios over its seeds, on validation titles,"
        f" of every run against {comparison.first.label}, with {LEAST_SEEDS} seeds or more of each. Intervals are"
        f" {100 * CONFIDENCE:g} % each. P-values are corrected for {amount}"
        f" comparison{'' if amount == 1 else 's'} by Holm’s method; the level is {LEVEL:g}."
    )


def data_sentences(comparison: Comparison) -> list[str]:
    """Which runs are of other data than the first, with the difference; none where all are of the same."""
    first = comparison.first.label
    return [
        f"{name} is not comparable to {first}. {'. '.join(_capital(one) for one in problems)}."
        for name, problems in comparison.problems.items()
    ]


def instrument_sentences(comparison: Comparison) -> list[str]:
    """Which runs are of other instruments than the first, so that means over instruments do not compare."""
    first = comparison.first
    return [
        f"{one.label} is of {_instruments(one)}, {first.label} of {_instruments(first)}: the ratios of their trials are"
        " means over different instruments, and do not compare. Those of single instruments do."
        for one in comparison.runs[1:]
        if set(one.run.codes) != set(first.run.codes)
    ]


def _instruments(one: ComparedRun) -> str:
    return ", ".join(INSTRUMENTS.get(code, code) for code in one.run.codes) or "no instrument"


def untested_sentences(comparison: Comparison) -> list[str]:
    """Instruments without a test, by run and reason; what `data_sentences` or `findings` have is not said again."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in comparison.tests:
        if one.problem and one.run not in comparison.problems and not _reason(comparison, one.run):
            groups.setdefault((one.run, one.problem), []).append(INSTRUMENTS.get(one.instrument, one.instrument))
    return [f"{run}, {', '.join(names)}: not tested. {_capital(why)}." for (run, why), names in groups.items()]


def findings(comparison: Comparison) -> list[str]:
    """For every other run: on how many instruments its loss is lower, higher, or no difference is shown or tested."""
    sentences = []
    for name in comparison.labels[1:]:
        own = [one for one in tested(comparison) if one.run == name]
        if not own:
            if reason := _reason(comparison, name):
                sentences.append(
                    f"{name} against {comparison.first.label}: no difference is tested. {_capital(reason)}."
                )
            continue
        lower, higher = (_names(own, conclusion) for conclusion in (LOWER, HIGHER))
        rest = len(own) - len(lower) - len(higher)
        parts = [f"lower on {', '.join(lower)}"] if lower else []
        parts += [f"higher on {', '.join(higher)}"] if higher else []
        parts += [f"not shown to differ on {rest} of {len(own)} instruments"] if rest else []
        sentences.append(f"{name} against {comparison.first.label}: the loss is {'; '.join(parts)}.")
    return sentences


def _reason(comparison: Comparison, name: str) -> str:
    """Why nothing of a run is tested, if that is the same for all instruments; "" otherwise, and for other data."""
    own = [one for one in comparison.tests if one.run == name]
    reasons = {one.problem for one in own}
    return reasons.pop() if own and name not in comparison.problems and len(reasons) == 1 else ""


def _names(tests: Sequence[SignificanceTest], conclusion: str) -> list[str]:
    return [INSTRUMENTS.get(one.instrument, one.instrument) for one in tests if one.conclusion == conclusion]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
