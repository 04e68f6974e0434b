"""Journals of finished runs that differ in what a test says, for tests of their comparison."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from event_fixtures import journal, write_run
from report_story import SPACE, params, score

RATIOS = {"vn": (0.50, 0.51, 0.52), "vc": (0.60, 0.62, 0.64)}  # by instrument and seed
FIRST_SEED = 1


def finished_run(
    name: str,
    ratios: Mapping[str, Sequence[float]] = RATIOS,
    curves: Sequence[Sequence[float]] = ((0.9, 0.8), (0.7, 0.6), (0.85,)),
    fingerprint: str = "f1",
    validation: Sequence[str] = ("Largo",),
    identity: float = 1.0,
    run: str = "",
    **space: Any,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events of a search whose trials have `curves`, and of one finalist with the seeds' `ratios`.

    `space` replaces sections of its space file.
    """
    losses = {"identity": dict.fromkeys(ratios, identity), "gain": dict.fromkeys(ratios, 0.75 * identity)}
    yield (
        "search",
        {
            "name": name,
            "run": run or name,
            "space": SPACE | space,
            "reference": "t0000",
            "seconds": 1.0,
            "settings": {
                "name": name,
                "seed": 0,
                "trials": len(curves),
                "epochs": 2,
                "final_epochs": 4,
                "instruments": list(ratios),
                "options": {"workers": 2},
            },
            "versions": {"sepsearch": "0.1+abc"},
            "dataset": {
                "source": "demo",
                "pieces": 4,
                "clips": 9,
                "rows": 27,
                "fingerprint": fingerprint,
                "split": {"train": ["Minuet"], "validation": list(validation), "test": ["Jesu"]},
            },
            "baselines": {"validation": losses},
            "caveats": {},
        },
    )
    for number, curve in enumerate(curves):
        id = f"t{number:04}"
        yield "trial", {"id": id, "params": params(filters=8 * (number + 1))}
        for epoch, ratio in enumerate(curve, 1):
            yield "epoch", epoch_of(id, epoch, dict.fromkeys(ratios, ratio))
        end = ("completed", "") if len(curve) == 2 else ("stopped", "stopped at rung 1")
        yield "trial_end", {"id": id, "state": end[0], "reason": end[1], "epochs": len(curve)}
    chosen = {"id": "c0", "trial": "t0001", "params": params(filters=16), "reference": False}
    yield "finalists", {"configurations": [chosen], "seconds": 2.0}
    yield from seeds_of(ratios)
    final = {
        code: score(sum(of) / len(of), seeds=list(range(FIRST_SEED, FIRST_SEED + len(of))), si_sdr_gain_db=3.0)
        for code, of in ratios.items()
    }
    yield "scores", {"final": final, "reference_final": {}, "seconds": 3.0}
    yield "end", {"state": "finished"}


def seeds_of(ratios: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events of the finalist c0, trained with every seed for one epoch."""
    for place in range(len(next(iter(ratios.values())))):
        id = f"c0-s{FIRST_SEED + place}"
        begin = {"configuration": "c0", "seed": FIRST_SEED + place, "params": params(filters=16)}
        yield "final", {"id": id, **begin}
        yield "final_epoch", epoch_of(id, 1, {code: of[place] for code, of in ratios.items()})
        yield "final_end", {"id": id, "state": "completed", "reason": "", "epochs": 1, "weights": f"finalists/{id}"}


def epoch_of(id: str, epoch: int, ratios: Mapping[str, float]) -> dict[str, Any]:
    """An event's fields for one epoch with these ratios by instrument."""
    members = [
        {"instrument": code, "ratio": ratio, "val_loss": ratio, "train_loss": ratio / 2, "identity_loss": 1.0}
        for code, ratio in ratios.items()
    ]
    return {"id": id, "epoch": epoch, "ratio": sum(ratios.values()) / len(ratios), "seconds": 1.0, "members": members}


def write_finished(runs: Path, name: str, **changes: Any) -> Path:
    """The folder of such a run below `runs`."""
    return write_run(runs / name, journal(finished_run(name, **changes)))
