"""Titles into train, validation and test."""

import pytest
from synthetic import synthetic_index

from sepsearch.data.split_examples import split_pairs
from sepsearch.data.splits import TitleFacts, split_titles
from sepsearch.utils.errors import UserError

# The 27 titles of URMP with their ensemble sizes and instruments, pieces of one title together.
URMP = """Jupiter:vn vc;Sonata:vn vn;Dance:fl cl;Allegro:fl fl;Entertainer:tpt tpt,sax sax;GString:tpt tbn;Spring:fl vn,
vn vn vc;Jesus:tpt vn;March:tpt sax;Maria:ob vc;Hark:vn vn va;Waltz:fl fl cl;Surprise:tpt tpt tbn,tpt tpt sax;
Nocturne:vn fl cl,vn fl tpt;Pavane:cl vn vc,tpt vn vc;Rejouissance:cl tbn tba,sax tbn tba,cl sax tba;
Pirates:vn vn va vc,vn vn va sax;King:vn vn va vc,vn vn va sax;Fugue:fl ob cl bn,fl fl ob cl,fl fl ob sax,vn vn va vc,
tpt tpt hn tbn;Slavonic:tpt tpt hn tbn;Elise:tpt tpt hn tbn;Rondeau:vn vn va db,vn vn va vc,vn fl va cl;
Jerusalem:vn vn va vc db,vn vn va sax db;Miserere:fl fl ob cl bn,fl fl ob sax bn;Arioso:tpt tpt hn tbn tba;
Chorale:tpt tpt hn tbn tba;K515:vn vn va va vc"""


def urmp_facts(looked_at: bool = False) -> list[TitleFacts]:
    """The titles; `looked_at`: with those instruments that others play with."""
    facts = []
    for entry in URMP.replace("\n", "").split(";"):
        title, pieces = entry.split(":")
        players = [piece.split() for piece in pieces.split(",")]
        sizes: dict[int, int] = {}
        for piece in players:
            sizes[len(piece)] = sizes.get(len(piece), 0) + 10
        codes = frozenset(code for piece in players for code in piece)
        separable = frozenset(code for code in codes if any(code in piece and {code} < set(piece) for piece in players))
        facts.append(TitleFacts(title, sizes, codes, separable if looked_at else None))
    return facts


@pytest.mark.parametrize("seed", range(3))
def test_every_title_is_on_exactly_one_side(seed):
    split = split_titles(urmp_facts(), seed=seed)
    titles = [*split.train, *split.validation, *split.test]
    assert sorted(titles) == sorted(fact.title for fact in urmp_facts())


def test_titles_that_share_a_take_stay_on_one_side_whatever_the_seed():
    for seed in range(10):
        split = split_titles(urmp_facts(), groups=[("Jupiter", "Elise", "Dance")], seed=seed)
        sides = {side for side, titles in split.titles().items() for t in ("Jupiter", "Elise", "Dance") if t in titles}
        assert len(sides) == 1


@pytest.mark.parametrize("seed", range(3))
def test_in_urmp_every_instrument_with_three_titles_is_on_three_sides(seed):
    split = split_titles(urmp_facts(), seed=seed)
    few = {code for code in ("db", "bn") if sum(code in fact.instruments for fact in urmp_facts()) < 3}
    assert few == {"db", "bn"}
    assert split.rules == {"db": "few titles", "bn": "few titles"}


def test_the_sides_come_near_the_wanted_shares_for_every_ensemble_size():
    facts = {fact.title: fact for fact in urmp_facts()}
    split = split_titles(list(facts.values()), seed=0)
    for size in (2, 3, 4, 5):
        clips = {s: sum(facts[t].clips_by_players.get(size, 0) for t in ts) for s, ts in split.titles().items()}
        assert 0.4 <= clips["train"] / sum(clips.values()) <= 0.8


def test_the_same_seed_gives_the_same_split_in_any_order_of_titles():
    assert split_titles(urmp_facts(), seed=3) == split_titles(urmp_facts()[::-1], seed=3)


def test_another_seed_shuffles():
    assert len({split_titles(urmp_facts(), seed=seed).test for seed in range(5)}) > 1


def test_an_instrument_with_two_titles_never_validates_or_tests_on_a_clip_it_trains_on():
    index = synthetic_index({"a": ("vn", "db"), "b": ("db", "vn"), "c": ("vn",), "d": ("vn", "vn")}, clips=4)
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=0), ["db"])
    clips = {
        side: set(zip(index.piece[pairs.mixture].tolist(), index.clip[pairs.mixture].tolist(), strict=True))
        for side, pairs in examples["db"].items()
    }
    assert rules == {"db": "few titles"}
    assert all(clips.values())
    assert len(clips["train"] | clips["validation"] | clips["test"]) == sum(map(len, clips.values()))
    assert {p for p, _ in clips["train"]}.isdisjoint({p for p, _ in clips["test"]})


def test_an_instrument_with_one_title_is_divided_by_time_and_marked():
    index = synthetic_index({"a": ("vn", "db"), "b": ("vn",), "c": ("vn",)}, clips=5)
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=0), ["db"])
    clips = [sorted(set(index.clip[examples["db"][side].mixture].tolist())) for side in ("train", "validation", "test")]
    assert rules == {"db": "one title"}
    assert clips == [[0, 1, 2], [3], [4]]


def test_with_a_single_clip_nothing_can_be_held_back_and_that_is_marked():
    index = synthetic_index({"a": ("vn", "vc")}, clips=1)
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=0), ["vn", "vc"])
    assert rules == {"vn": "shared clips", "vc": "shared clips"}
    assert all(len(pairs) for sides in examples.values() for pairs in sides.values())


# Half of the titles are solos, or duets of two of a kind.
SOLOS = {
    "a": ("vn", "vc"),
    "b": ("vn",),
    "c": ("vc",),
    "d": ("fl", "vn"),
    "e": ("vn", "vn"),
    "f": ("vc", "fl", "vn"),
    "g": ("fl",),
    "h": ("vc", "vc"),
    "i": ("fl", "vc"),
    "j": ("fl", "fl"),
    "k": ("vn", "vc", "fl"),
    "l": ("vn",),
}


@pytest.mark.parametrize("seed", range(20))
def test_every_side_has_something_to_separate_for_every_instrument_with_titles_enough(seed):
    index = synthetic_index(SOLOS, clips=3)
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=seed), ["vn", "vc", "fl"])
    assert rules == {}
    for sides in examples.values():
        for pairs in sides.values():
            assert (pairs.mixture != pairs.target).any()


@pytest.mark.parametrize("seed", [3, 8, 11])  # where flutes, trumpets or saxophones had nothing but their duets
def test_in_urmp_every_instrument_with_three_such_titles_has_something_to_separate_on_every_side(seed):
    facts = {fact.title: fact for fact in urmp_facts(looked_at=True)}
    split = split_titles(list(facts.values()), seed=seed)
    assert split.rules.keys() == {"db", "bn"}
    for code in {"vn", "va", "vc", "fl", "ob", "cl", "sax", "tpt", "hn", "tbn", "tba"}:
        for side, titles in split.titles().items():
            assert any(facts[title].is_separable(code) for title in titles), (code, side)


def test_a_split_that_has_something_to_separate_everywhere_stays_what_it_was():
    players = {"a": "vn vc", "b": "vn vc", "c": "vn cl", "d": "vn cl", "e": "vn vn", "f": "vn vn", "g": "vn vn"}
    facts = synthetic_index({title: tuple(codes.split()) for title, codes in players.items()}, clips=3).title_facts()
    stayed = []
    for seed in range(8):
        before = split_titles([TitleFacts(f.title, f.clips_by_players, f.instruments) for f in facts], seed=seed)
        sides = [[fact for fact in facts if fact.title in titles] for titles in before.titles().values()]
        sound = all(any(fact.is_separable("vn") for fact in side) for side in sides)
        stayed.append(split_titles(facts, seed=seed) == before)
        assert stayed[-1] == sound
    assert set(stayed) == {True, False}


def clips_by_side(index, pairs_by_side) -> dict[str, set[tuple[str, int]]]:
    """(Title, clip) of all examples of each side."""
    return {
        side: {(index.titles[index.piece[row]], int(index.clip[row])) for row in pairs.mixture}
        for side, pairs in pairs_by_side.items()
    }


def test_an_instrument_that_plays_with_others_in_one_title_alone_is_divided_there_whatever_solos_it_has():
    index = synthetic_index({"a": ("fl", "vn"), "b": ("fl",), "c": ("fl",), "d": ("fl", "fl")}, clips=5)
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=0), ["fl"])
    assert rules == {"fl": "one title"}
    assert clips_by_side(index, examples["fl"]) == {
        "train": {("a", 0), ("a", 1), ("a", 2)},
        "validation": {("a", 3)},
        "test": {("a", 4)},
    }


@pytest.mark.parametrize("seed", range(5))
def test_an_instrument_that_plays_with_others_in_two_titles_validates_and_tests_on_one_of_them(seed):
    index = synthetic_index(
        {"a": ("fl", "vn"), "b": ("fl",), "c": ("fl", "vc"), "d": ("fl", "fl"), "e": ("vn",)}, clips=4
    )
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=seed), ["fl"])
    clips = clips_by_side(index, examples["fl"])
    assert rules == {"fl": "few titles"}
    assert {title for title, _ in clips["validation"]} == {title for title, _ in clips["test"]} < {"a", "c"}
    assert clips["validation"].isdisjoint(clips["test"])
    assert {title for title, _ in clips["train"]} < {"a", "c"}


def test_where_others_rest_in_all_clips_of_a_side_the_clips_are_shared_and_that_is_marked():
    index = synthetic_index({"a": ("fl", "vn"), "b": ("vn",), "c": ("vn",)}, clips=5)
    index.sound[(index.subset == 0b10) & (index.clip == 3)] = 0  # the only clip that would validate
    examples, rules = split_pairs(index, split_titles(index.title_facts(), seed=0), ["fl"])
    assert rules == {"fl": "shared clips"}
    assert all(len(pairs.separable) for pairs in examples["fl"].values())


def test_no_titles_is_an_error_in_one_line():
    with pytest.raises(UserError, match="no titles"):
        split_titles([])
