"""A search as its journal has it with all that the run report shows, for tests of that page."""

from event_fixtures import members

from sepsearch.spaces.space import parse_space

SPACE = {
    "parameters": {
        "filters": {"choices": [8, 16]},
        "detector_layers": {"choices": [1, 2]},
        "detector_width": {"choices": [64, 128], "when": {"detector_layers": 2}},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    },
    "search": {"trials": 5, "epochs": 4, "grace_epochs": 1, "reduction_factor": 2},
    "final": {"configurations": 1, "seeds": 2, "epochs": 4},
}
# Ratio by epoch of each trial; t0003 is stopped at the first rung.
CURVES = {"t0000": [0.9, 0.8, 0.7, 0.6], "t0001": [0.8, 0.7, 0.6, 0.5], "t0002": [0.7, 0.6, 0.5, 0.4], "t0003": [0.85]}


def params(**changes):
    return parse_space(SPACE, "here").complete({"detector_layers": 1, **changes})


def audio(gain):
    five = {
        name: {"si_sdr_db": value, "sdr_db": None}
        for name, value in {"mixture": 0.0, "estimate": gain, "oracle": 12.0, "gain": gain, "oracle_gain": 12.0}.items()
    }
    return {"titles": 2, "clips": 5, **five, "by_players": {"3": {"titles": 1, "clips": 2, **five}}}


def score(ratio, **changes):
    return {
        "params": params(),
        "seeds": [1, 2],
        "identity_loss": 1.0,
        "val_loss": ratio,
        "ratio": ratio,
        "ratio_mean": ratio,
        "ratio_sd": 0.01,
        "ratio_interval": [ratio - 0.125, ratio + 0.125],
        "test_ratio": ratio + 0.1,
        "si_sdr_gain_db": -2.5,
        "discontinuities": 0,
        "model_uri": "here",
        "configuration": "c0",
        "seed": 1,
        "epoch": 2,
        "protocol": "test titles",
        "audio": audio(-2.5),
        **changes,
    }


def whole_story(text="plain"):
    """Four trials (one stopped, one failed beside them), two finalists with two seeds, a jump, scores."""
    losses = {"identity": {"vn": 1.0, "vc": 1.0}, "zero": {"vn": 1.25}, "gain": {"vn": 0.75}, "oracle": {"vn": 0.0625}}
    yield (
        "search",
        {
            "name": f"duets {text}",
            "run": "abc",
            "space": SPACE,
            "reference": "t0000",
            "seconds": 1.0,
            "settings": {
                "name": text,
                "seed": 0,
                "trials": 5,
                "epochs": 4,
                "final_epochs": 4,
                "instruments": ["vn", "vc"],
                "options": {"data": text},
            },
            "versions": {"sepsearch": "0.1+abc", text: text},
            "dataset": {
                "source": text,
                "pieces": 4,
                "clips": 9,
                "rows": 27,
                "fingerprint": text,
                "split": {"train": [text, "Minuet"], "validation": ["Largo"], "test": []},
            },
            "baselines": {
                "validation": losses,
                "test": {"identity": {"vn": 2.0, "vc": 1.0}, "gain": {"vn": 1.0, "vc": 0.5}},
            },
            "caveats": {"vc": f"one title only {text}"},
        },
    )
    for number, (id, ratios) in enumerate(CURVES.items()):
        yield "trial", {"id": id, "params": params(filters=8 if number % 2 else 16, learning_rate=1e-3 * (number + 1))}
        for epoch, ratio in enumerate(ratios, 1):
            yield "epoch", {"id": id, "epoch": epoch, "ratio": ratio, "members": members(epoch)}
        end = ("stopped", "stopped at rung 1") if len(ratios) == 1 else ("completed", "")
        yield "trial_end", {"id": id, "state": end[0], "reason": end[1], "epochs": len(ratios)}
    yield "trial", {"id": "t0004", "params": params(filters=8)}
    yield "retry", {"id": "t0004", "reason": f"worker died {text}", "epochs": 0, "attempt": 1}
    yield "trial_end", {"id": "t0004", "state": "failed", "reason": f"NaN {text}", "epochs": 0}
    chosen = [("c0", "t0002", False), ("c1", "t0000", True)]
    yield (
        "finalists",
        {
            "seconds": 2.0,
            "configurations": [
                {"id": id, "trial": trial, "params": params(filters=8), "reference": reference}
                for id, trial, reference in chosen
            ],
        },
    )
    for id, _, _ in chosen:
        for seed in (1, 2):
            unit = f"{id}-s{seed}"
            yield "final", {"id": unit, "configuration": id, "seed": seed, "params": params(filters=8)}
            for epoch in (1, 2, 3, 4):
                jump = unit == "c1-s2" and epoch == 3
                of = members(epoch, seed, discontinuity=jump)
                yield "final_epoch", {"id": unit, "epoch": epoch, "ratio": of[0]["ratio"], "members": of}
            yield "final_end", {"id": unit, "state": "completed", "reason": "", "epochs": 4, "weights": None}
    fold = {"id": "f0", "instrument": "vc", "title": "Largo", "configuration": "c0", "seed": 1, "params": params()}
    yield "fold", fold
    yield "fold_end", {"id": "f0", "state": "failed", "reason": f"dead {text}", "epochs": 0, "weights": None}
    yield (
        "scores",
        {
            "seconds": 3.0,
            "final": {"vn": score(0.4), "vc": score(0.3, protocol=f"leave one title out {text}", ratio_sd=None)},
            "reference_final": {"vn": score(0.5, discontinuities=1), "vc": score(0.6)},
        },
    )
    yield "end", {"state": "finished"}
