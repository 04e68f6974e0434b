"""Verdicts on final models: the rules, and the sentences that state them."""

import pytest

from sepsearch.runs.verdict import (
    LITTLE,
    UNKNOWN,
    UNSURE,
    VOLUME,
    WORKS,
    Verdict,
    best_instrument,
    judge_models,
    verdict_sentences,
)

BASELINES = {"identity": {"vn": 2.0, "vc": 2.0, "cl": 2.0}, "gain": {"vn": 1.0, "vc": 1.0, "cl": 1.0}}
# Ratio of the constant gain: 0.5.
GOOD = {
    "si_sdr_gain_db": 4.0,
    "mixture_similarity_db": 6.0,
    "ratio_mean": 0.3,
    "ratio_sd": 0.05,
    "ratio_interval": None,
}


def kind_of(**changes) -> str:
    (verdict,) = judge_models({"vn": GOOD | changes}, BASELINES)
    assert (verdict.reason == "") == (verdict.kind == WORKS)
    return verdict.kind


def test_a_model_works_where_it_gains_three_decibels_and_beats_the_constant_gain():
    assert kind_of() == WORKS
    assert kind_of(si_sdr_gain_db=3.0) == WORKS


@pytest.mark.parametrize("gain", [0.1, 2.9])
def test_a_model_that_gains_less_than_three_decibels_gains_a_little(gain):
    assert kind_of(si_sdr_gain_db=gain) == LITTLE


@pytest.mark.parametrize(
    "changes",
    [{"ratio_mean": 0.5}, {"ratio_mean": 0.46}, {"ratio_interval": (0.2, 0.51)}, {"ratio_mean": None}],
    ids=["as a constant", "within two seeds", "within the interval", "no ratio"],
)
def test_a_gain_without_a_ratio_that_beats_the_constant_gain_is_uncertain_and_a_small_one_a_volume_knob(changes):
    assert kind_of(**changes) == kind_of(**changes, si_sdr_gain_db=1.0) == UNSURE
    assert kind_of(**changes, si_sdr_gain_db=0.9) == VOLUME


@pytest.mark.parametrize(
    "changes",
    [{"si_sdr_gain_db": -0.1}, {"si_sdr_gain_db": 0.0}, {"mixture_similarity_db": 20.0}],
    ids=["loses", "gains nothing", "flat mask"],
)
def test_a_model_that_gains_nothing_or_has_a_flat_mask_is_a_volume_knob(changes):
    assert kind_of(**changes) == VOLUME


def test_the_interval_over_seeds_stands_before_their_standard_deviation():
    assert kind_of(ratio_mean=0.48, ratio_sd=0.05, ratio_interval=(0.46, 0.49)) == WORKS


def test_a_run_of_an_earlier_version_is_judged_without_the_similarity():
    assert kind_of(mixture_similarity_db=None) == WORKS


def test_a_model_without_a_test_clip_is_not_judged():
    assert kind_of(si_sdr_gain_db=None) == UNKNOWN


def test_a_model_that_is_worse_than_the_mixture_unchanged_does_not_work_whatever_the_constant_gain():
    loud = {"identity": {"vn": 1.0}, "gain": {"vn": 1.6}}
    assert [one.kind for one in judge_models({"vn": GOOD | {"ratio_mean": 1.4}}, loud)] == [UNSURE]


def test_the_largest_gain_comes_first_and_models_without_one_last():
    final = {"vn": GOOD, "vc": GOOD | {"si_sdr_gain_db": None}, "cl": GOOD | {"si_sdr_gain_db": 5.0}}
    assert [one.instrument for one in judge_models(final, BASELINES)] == ["cl", "vn", "vc"]


def test_one_model_of_each_kind_is_a_sentence_each():
    verdicts = [
        Verdict("vc", WORKS, 6.52),
        Verdict("ob", LITTLE, 0.4),
        Verdict("hn", UNSURE, 2.0),
        Verdict("bn", VOLUME, -1.0),
        Verdict("tba", UNKNOWN, None),
    ]
    assert verdict_sentences(verdicts) == [
        "Cello works: +6.5 dB.",
        "Oboe gains a little: +0.4 dB.",
        "Horn is uncertain, since its seeds' ratios do not clearly beat a constant gain: +2.0 dB.",
        "Bassoon does no more than a volume knob.",
        "Tuba has no test title in which others play along.",
    ]


def test_several_models_of_a_kind_share_a_sentence():
    verdicts = [
        Verdict("vc", WORKS, 6.5),
        Verdict("tpt", WORKS, 3.0),
        *(Verdict(code, VOLUME, 0) for code in ("bn", "cl", "hn")),
    ]
    assert verdict_sentences(verdicts) == [
        "Cello (+6.5 dB) and trumpet (+3.0 dB) work.",
        "Bassoon, clarinet and horn do no more than a volume knob.",
    ]


def test_the_best_instrument_has_the_largest_gain_of_those_whose_models_work():
    assert best_instrument({"vn": GOOD, "vc": GOOD | {"si_sdr_gain_db": 6.0}}, BASELINES) == "vc"
    flat = GOOD | {"si_sdr_gain_db": 9.0, "mixture_similarity_db": 30.0}
    assert best_instrument({"vc": flat, "cl": GOOD | {"si_sdr_gain_db": 0.5}, "vn": GOOD}, BASELINES) == "vn"


def test_an_uncertain_model_is_tried_before_a_volume_knob():
    final = {"vn": GOOD | {"ratio_mean": 0.6}, "vc": GOOD | {"mixture_similarity_db": 30.0, "si_sdr_gain_db": 9.0}}
    assert best_instrument(final, BASELINES) == "vn"


def test_where_no_model_works_the_best_instrument_is_that_of_the_largest_gain():
    flat = GOOD | {"mixture_similarity_db": 30.0}
    assert best_instrument({"vn": GOOD | {"si_sdr_gain_db": None}, "vc": flat}, BASELINES) == "vc"
