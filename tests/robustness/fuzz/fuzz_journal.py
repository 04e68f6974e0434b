"""Fuzzing the journal: lines cut, lost, doubled, moved, bits flipped; a story that somebody has made fit."""

import json
import zlib
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from damages import Case, damaged, damaged_lines, damaged_tree, expect, flipped, repeated
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.runs.results import build_results
from sepsearch.runs.state import reduce_events
from sepsearch.search.events import Event as Record
from sepsearch.search.journal import Journal, read_journal, read_run
from sepsearch.utils.errors import UserError

Event = dict[str, Any]
_PLAIN: dict[Any, Any] = {str: "x", int: 1, dict: {}, list: []}
FIELDS: dict[str, dict[str, Any]] = {
    kind: {name: get_origin(hints[name]) or hints[name] for name in record.__required_keys__ - {"event"}}
    for record in get_args(Record)
    for hints in [get_type_hints(record)]
    for kind in get_args(hints["event"])
}


BEGIN = 1.7e9  # seconds since 1970


def make_event(kind: str, time: float, **fields: Any) -> Event:
    """An event with all fields that its kind needs."""
    needed = {name: _PLAIN.get(wanted, 0.5) for name, wanted in FIELDS.get(kind, {}).items()}
    return {"event": kind, "time": time, "elapsed": time - BEGIN, **needed, **fields}


def make_story(trials: int) -> list[Event]:
    """The events of a whole run of two instruments."""
    titles = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    dataset = {"fingerprint": "f" * 16, "source": "data", "pieces": 3, "clips": 9, "rows": 27, "split": titles}
    baselines = {"validation": {"identity": {"vn": 0.25, "vc": 0.5}, "gain": {"vn": 0.2, "vc": 0.4}}}
    told: list[tuple[str, Event]] = [
        (
            "search",
            {
                "name": "fuzz",
                "run": "r1",
                "dataset": dataset,
                "baselines": baselines,
                "reference": "t0000",
                "space": {"family": "report"},
                "seconds": 1.5,
            },
        )
    ]
    for number in range(trials):
        name = f"t{number:04d}"
        told.append(("trial", {"id": name, "params": {"filters": 8 + number, "learning_rate": 0.001 * (number + 1)}}))
        for epoch in (1, 2):
            ratio = 0.9 / (number + epoch)
            members = [{"instrument": code, "ratio": ratio, "val_loss": ratio / 2} for code in ("vn", "vc")]
            told.append(("epoch", {"id": name, "epoch": epoch, "ratio": ratio, "members": members}))
        told.append(("trial_end", {"id": name, "state": "completed", "reason": "", "epochs": 2}))
    scores = {"identity_loss": 0.25, "val_loss": 0.1, "ratio_mean": 0.4, "ratio_sd": 0.01, "test_ratio": 0.5}
    finalist = {"id": "c0", "trial": "t0000", "params": {"filters": 8}, "reference": True}
    jumped = {"instrument": "vn", "ratio": 0.3, "val_loss": 0.15, "discontinuity": True}
    told += [
        ("finalists", {"configurations": [finalist], "seconds": 20.25}),
        ("final", {"id": "c0-s0", "configuration": "c0", "seed": 0, "params": {"filters": 8}}),
        ("final_epoch", {"id": "c0-s0", "epoch": 1, "ratio": 0.3, "members": [jumped]}),
        ("final_end", {"id": "c0-s0", "state": "completed", "reason": "", "epochs": 1, "weights": None}),
        ("eliminated", {"id": "c0", "seeds": [0], "left": 1, "reason": "behind on every instrument"}),
        ("fold", {"id": "vn-1", "instrument": "vn", "title": "Joy", "configuration": "c0", "seed": 0, "params": {}}),
        ("fold_epoch", {"id": "vn-1", "epoch": 1, "ratio": 0.3, "members": [{**jumped, "instrument": "vn-1"}]}),
        ("fold_end", {"id": "vn-1", "state": "completed", "reason": "", "epochs": 1, "weights": None}),
        ("scores", {"final": {"vn": scores, "vc": scores}, "reference_final": {"vn": scores}, "seconds": 40.5}),
        ("registered", {"models": {"vn": "models:/sepsearch-vn/1"}}),
        ("report", {"file": "report.html"}),
        ("end", {"state": "finished"}),
    ]
    return [make_event(kind, BEGIN + number, **fields) for number, (kind, fields) in enumerate(told)]


def write_lines(events: list[Any]) -> bytes:
    """The journal of these events, byte by byte as `Journal` writes it."""
    lines, checksum = [], 0
    for event in events:
        body = json.dumps(event, separators=(",", ":"))[:-1].encode()
        checksum = zlib.crc32(body, checksum)
        lines.append(body + b',"sum":"%08x"}\n' % checksum)
    return b"".join(lines)


def known_results(events: list[Event]) -> list[str]:
    """The results of every beginning of a journal, shortest first."""
    return [as_text(build_results(reduce_events(events[:length]))) for length in range(len(events) + 1)]


def as_text(results: Any) -> str:
    """Results as they can be compared, NaN and all."""
    return json.dumps(results, sort_keys=True)


class Target:
    """`read_journal`, `read_run`, `Journal(resume=True)`: what they accept is a true beginning of what was written."""

    typed = False

    def __init__(self, folder: Path):
        self.path = folder / "journal.jsonl"
        self.stories = [make_story(trials) for trials in (0, 1, 3)]
        self.files = [write_lines(story) for story in self.stories]
        self.known = {result for story in self.stories for result in known_results(story)}

    def cases(self) -> SearchStrategy[Case]:
        """Damaged journals, and what is to be done with them; "fits": somebody has given them fitting checksums."""

        def damages(data: bytes) -> SearchStrategy[bytes]:
            joined = st.tuples(st.integers(0, len(data)), st.sampled_from(self.files))
            ends = joined.map(lambda found: data[: found[0]] + found[1])
            return st.one_of(flipped(data), flipped(data), damaged(data), ends, *[damaged_lines(data)] * 3)

        files = st.sampled_from(self.files).flatmap(lambda data: repeated(damages, data, 3))
        read = files.map(lambda data: {"journal.jsonl": data})
        resumed = files.map(lambda data: {"journal.jsonl": data, "resume": b""})
        trees = st.sampled_from(self.stories).flatmap(lambda story: repeated(damaged_tree, story, 2))
        fit = trees.map(
            lambda tree: {"journal.jsonl": write_lines(tree if isinstance(tree, list) else [tree]), "fits": b""}
        )
        return st.one_of(*[read] * 6, *[resumed] * 3, fit)

    def check(self, case: Case) -> bool:
        """Read it and go on with it; raises `Wrong` if what was accepted was never written."""
        data = case["journal.jsonl"] or b""
        self.path.write_bytes(data)
        if "resume" in case:
            return self._resume(data)
        events = list(read_journal(self.path))
        results = build_results(reduce_events(read_run(self.path)))
        json.dumps(results, allow_nan=False)  # as `results.json` is written
        if "fits" in case:
            return True
        expect(any(events == story[: len(events)] for story in self._whole()), "events that were never written so")
        expect(as_text(results) in self.known, "results of no beginning of the journal")
        return True

    def _whole(self) -> list[list[Any]]:
        if not hasattr(self, "_read"):
            self._read = []
            for data in self.files:
                other = self.path.with_name("whole.jsonl")
                other.write_bytes(data)
                self._read.append(list(read_journal(other)))
        return self._read

    def _resume(self, data: bytes) -> bool:
        """A journal that is refused stays as it is; one that is accepted goes on where it was whole."""
        try:
            journal = Journal(self.path, resume=True)
        except UserError:
            expect(self.path.read_bytes() == data, "a refused journal was changed")
            raise
        try:
            kept = self.path.read_bytes()
            expect(data.startswith(kept), "going on has changed what was there")
            expect(any(whole.startswith(kept) for whole in self.files), "goes on behind what was never written")
            journal.append({"event": "end", "state": "failed"})
        finally:
            journal.close()
        events = list(read_journal(self.path))
        expect(events[-1]["event"] == "end" and len(events) == kept.count(b"\n") + 1, "what was added is not read back")
        return True
