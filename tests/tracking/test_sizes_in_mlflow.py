"""Sizes, speeds and constraints in MLflow's runs, without MLflow."""

from event_fixtures import journal
from sized_story import REASON, sized_story

from sepsearch.tracking.mapping import Projection
from sepsearch.tracking.records import PARENT


def test_trials_finalists_and_final_models_have_their_size_and_the_search_what_limits_did():
    projection = Projection()
    for event in journal(sized_story()):
        projection.apply(event)

    def last(run: str) -> dict[str, float]:
        return {key: value for key, value, _, _ in projection.work[run].metrics}

    assert (last("t0003")["parameters"], last("t0003")["examples_per_second"]) == (20_000, 8.0)
    assert projection.work["t0003"].tags["reason"].startswith("infeasible: 9 examples/s")
    assert last("c0-s1")["parameters"] > 0
    assert (last("vn")["parameters"], last("vn")["examples_per_second"]) == (40_000, 55.0)
    assert projection.work["vn"].tags["choice_reason"] == REASON
    assert (last(PARENT)["proposals_too_large"], last(PARENT)["trials_infeasible"]) == (1, 1)
    projection.draw()
    assert {"size/ratio_by_parameters.png", "size/ratio_by_speed.png"} <= projection.work[PARENT].files.keys()
