"""Whether ratios of two runs are of the same data, and what differs in their spaces."""

from compared_runs import finished_run
from event_fixtures import journal
from report_story import SPACE

from sepsearch.runs.comparison.comparability import data_problems, differing_values, instrument_problem, parameter_text
from sepsearch.runs.state import reduce_events


def run(name="alpha", **changes):
    return reduce_events(journal(finished_run(name, **changes)))


def test_runs_of_the_same_data_have_no_problem():
    assert data_problems(run(), run("beta")) == []


def test_other_recordings_are_named_with_both_fingerprints():
    (problem,) = data_problems(run(), run(fingerprint="f2"))
    assert problem == "recordings: 4 pieces, fingerprint f1 against 4 pieces, fingerprint f2"


def test_another_front_end_is_named_and_its_fingerprint_is_not_taken_for_other_recordings():
    (problem,) = data_problems(run(), run(fingerprint="f2", front_end={"preset": "log15"}))
    assert problem == "front end: preset mel against preset log15"


def test_a_front_end_that_is_written_out_is_the_default_one():
    assert data_problems(run(), run(front_end={"preset": "mel"})) == []


def test_another_split_is_named_with_its_titles():
    assert data_problems(run(), run(validation=("Pavane", "Largo"))) == ["validation titles: only this one has Pavane"]
    (problem,) = data_problems(run(), run(validation=("Pavane",)))
    assert problem == "validation titles: only the first has Largo, only this one has Pavane"


def test_other_validation_examples_show_in_the_identity_loss():
    assert instrument_problem(run(), run(identity=1.00001), "vn") == ""
    problem = instrument_problem(run(), run(identity=1.2), "vn")
    assert problem == "validation examples: identity loss 1 against 1.2"


def test_differences_have_the_keys_that_differ_with_the_value_of_each_run():
    filters = {**SPACE["parameters"], "filters": {"choices": [8, 16, 32]}}
    found = dict(differing_values([run(), run("beta", parameters=filters)]))
    assert found == {"parameters.filters": ["8, 16", "8, 16, 32"]}


def test_a_fixed_parameter_stands_beside_a_searched_one():
    parameters = {name: one for name, one in SPACE["parameters"].items() if name != "learning_rate"}
    other = run("beta", parameters=parameters, fixed={"learning_rate": 0.001})
    found = dict(differing_values([run(), other]))
    assert found == {"parameters.learning_rate": ["0.0001 to 0.01, logarithmic", "0.001"]}


def test_a_key_that_a_run_lacks_is_empty():
    found = dict(differing_values([run(), run("beta", stop={"patience": 20})]))
    assert found == {"stop.patience": ["", "20"]}


def test_parameters_are_written_for_people():
    assert parameter_text({"low": 3, "high": 9, "step": 2, "log": False}) == "3 to 9 in steps of 2"
    assert parameter_text({"choices": [64, 128], "when": {"family": "unet"}}) == "64, 128, when family is unet"
    assert parameter_text("silu") == "silu"
