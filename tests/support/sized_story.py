"""A search with constraints as its journal has it: sizes and speeds, a proposal that was too large, a trial too slow."""

from typing import Any

from report_story import whole_story

SIZES = {"t0000": 54_658, "t0001": 40_000, "t0002": 60_000, "t0003": 20_000, "t0004": 10_000}
SPEEDS = {"t0000": 70.0, "t0001": 80.0, "t0002": 60.0, "t0003": 9.0, "t0004": 99.0}
SLOW = "infeasible: 9 examples/s, at least 50 asked"
LIMITS = {"parameters": 5e4, "examples_per_second": 50.0}
REASON = "c0 instead of c1: 54,658 parameters, at most 50,000 asked"


def sized_story() -> Any:
    """`report_story.whole_story` with limits, which the reference's trial t0000 and t0002 violate, and t0003 too slow.

    t0001 had one proposal before it that was too large. Later limits of a space need not have held before.
    """
    for kind, fields in whole_story():
        fields = dict(fields)
        if kind == "search":
            fields["space"] = {**fields["space"], "constraints": LIMITS}
        elif kind == "trial":
            fields["parameters"] = SIZES[fields["id"]]
            fields |= {"infeasible": [{"filters": 16, "detector_layers": 1}]} if fields["id"] == "t0001" else {}
        elif kind == "epoch":
            fields["examples_per_second"] = SPEEDS[fields["id"]] - fields["epoch"]
        elif kind == "final_epoch":
            fields["examples_per_second"] = 55.0
        elif kind == "trial_end" and fields["id"] == "t0003":
            fields |= {"reason": SLOW}
        elif kind == "finalists":
            violated = "54,658 parameters, at most 50,000 asked"
            fields["configurations"] = [
                {**one, "parameters": SIZES[one["trial"]], "infeasible": violated if one["reference"] else ""}
                for one in fields["configurations"]
            ]
        elif kind == "scores":
            of = {"parameters": 40_000, "examples_per_second": 55.0, "choice_reason": REASON}
            fields["final"] = {code: {**row, **of} for code, row in fields["final"].items()}
        yield kind, fields
