"""A search as its journal tells it, with all that is known of the chosen models."""

from event_fixtures import PARAMS, epoch_event, story

UNITS = {"vn": ("c0", 1), "vc": ("c0", 0)}


def chosen_story():
    """The story as searches tell it: which seed was chosen, audio measures, a finalist that was eliminated, a page."""
    for kind, fields in story():
        if kind == "scores":
            yield "eliminated", {"id": "c0", "seeds": [0, 1], "left": 1, "reason": "behind on every instrument"}
            yield from (
                (
                    "fold",
                    {
                        "id": "vc-1",
                        "instrument": "vc",
                        "title": "a",
                        "configuration": "c0",
                        "seed": 0,
                        "params": PARAMS,
                    },
                ),
                epoch_event("fold_epoch", "vc-1", 1),
                ("resume", {"units": {"vc-1": 1}, "changed": {}}),
                ("fold_end", {"id": "vc-1", "state": "completed", "reason": "", "epochs": 1, "weights": "w"}),
            )
            audio = {
                "titles": 3,
                "gain": {"si_sdr_db": 6.0, "sdr_db": 5.0},
                "oracle_gain": {"si_sdr_db": 12.0, "sdr_db": None},
            }
            final = {
                code: {
                    **row,
                    "configuration": UNITS[code][0],
                    "seed": UNITS[code][1],
                    "params": PARAMS,
                    "seeds": [0, 1],
                    "val_loss": 0.25,
                    "ratio_interval": [0.2, 0.3],
                    "protocol": "test titles",
                    "audio": audio,
                }
                for code, row in fields["final"].items()
            }
            yield kind, {**fields, "final": final}
        elif kind == "registered":
            yield kind, fields
            yield "report", {"file": "report.html"}
        else:
            yield kind, fields
