"""Events of a run's journal: a typed record for each kind (`event_checks` validates them on reading).

An event is a JSON object with its kind in `event`, the tag of the union `Event`. The kinds, in the order in which they
can appear:

    search                          the run began: all that it depends on
    trial, epoch, trial_end         a trial was handed to a worker; one epoch of it; its end
    spared                          exempt from ASHA: it would be stopped at this rung, but runs to its end
    search_stopped                  the search begins no more trials: by a rule of the space file, or by hand
    paused, promoted                a trial waits at a rung without a worker; it goes on from there
    finalists                       the search is over
    final, final_epoch, final_end   the same three for a finalist and seed
    eliminated                      a finalist that cannot win any more gets no other seeds
    fold, fold_epoch, fold_end      the same three for a chosen model trained again without one title
    scores                          the models were chosen and scored on the test titles
    registered                      models are in the registry; again, even after the end, for others
    report                          the run report was written
    end                             how the process ended

and anywhere in between:

    retry                           a job's worker died: it goes on from its last checkpoint
    stop                            a job was asked to end, by hand
    resume                          a new process goes on with the run
    continue                        a new process extends the finished run: finalists, scores and end are taken back

`FORMAT` is the version of these records; the events "search" and "resume" carry it. Journals without it (format 1) are
read as well: what they lack is marked NotRequired here. Events that earlier versions would pass over, and then misread
the run, carry `EXTENDED`, so that those versions refuse that run and no other.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

FORMAT = 2
EXTENDED = 3  # of "search" with `known`, and of "continue"
Params = dict[str, Any]


class _Event(TypedDict):
    """Written by the journal: `time` in seconds since 1970, `elapsed` in seconds since its process opened it."""

    time: NotRequired[float]
    elapsed: NotRequired[float]


class KnownTrialRecord(TypedDict):
    """A completed trial of another run: its id there, its configuration, and its ratio at the full budget."""

    id: str
    params: Params
    ratio: float


class KnownRun(TypedDict):
    """Completed trials of another run, which the sampler's study begins with (`--warm-start`).

    `name` and `run` are the other run's, `place` is where it was read. Of its `completed` trials these were left out:
    `outside` this run's space, `repeated` of a run that was named before, and the `reference` network's (0 or 1).
    """

    name: str
    run: str
    place: str
    completed: int
    outside: int
    repeated: int
    reference: int
    trials: list[KnownTrialRecord]


class SearchEvent(_Event):
    """All that a run depends on; `reference` is the id of the reference network's trial, `seconds` of preparation."""

    event: Literal["search"]
    format: NotRequired[int]
    name: str
    run: str
    space: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, Any]
    dataset: dict[str, Any]
    baselines: dict[str, Any]
    caveats: dict[str, Any]
    reference: str
    seconds: float
    known: NotRequired[list[KnownRun]]


class ResumeEvent(_Event):
    """Jobs that go on, with the epoch after which (an end of theirs is taken back), and changed fields of "search"."""

    event: Literal["resume"]
    format: NotRequired[int]
    units: dict[str, int]
    changed: dict[str, Any]


class ContinueEvent(_Event):
    """A finished run is extended: its finalists, scores and end are taken back, and more trials come.

    `units` and `changed` as in "resume"; `changed` has the settings with the number of trials in all.
    """

    event: Literal["continue"]
    format: int
    units: dict[str, int]
    changed: dict[str, Any]


class TrialEvent(_Event):
    """A trial begins.

    `parameters`: of the network of one instrument. `infeasible`: sampled values of proposals that came before it and
    were not trained, because they violate a constraint.
    """

    event: Literal["trial"]
    id: str
    params: Params
    parameters: NotRequired[int]
    infeasible: NotRequired[list[Params]]


class FinalEvent(_Event):
    """A finalist begins with one seed."""

    event: Literal["final"]
    id: str
    configuration: str
    seed: int
    params: Params


class FoldEvent(_Event):
    """A chosen model begins to be trained again without one title of its instrument."""

    event: Literal["fold"]
    id: str
    instrument: str
    title: str
    configuration: str
    seed: int
    params: Params


class MemberEpoch(TypedDict):
    """One instrument's network in one epoch; losses and ratio are None where they are not finite."""

    instrument: str
    seed: NotRequired[int]
    ratio: NotRequired[float | None]
    train_loss: NotRequired[float | None]
    val_loss: NotRequired[float | None]
    identity_loss: NotRequired[float | None]
    gradient_norm: NotRequired[float | None]
    zero_share: NotRequired[float | None]
    discontinuity: NotRequired[bool]


class EpochEvent(_Event):
    """One epoch of a job: mean ratio over instruments, and every instrument's numbers."""

    event: Literal["epoch", "final_epoch", "fold_epoch"]
    id: str
    epoch: int
    ratio: float | None
    seconds: NotRequired[float | None]
    examples_per_second: NotRequired[float | None]
    members: list[MemberEpoch]


class SparedEvent(_Event):
    """A trial that ASHA would stop at `rung` runs on."""

    event: Literal["spared"]
    id: str
    rung: int


class PauseEvent(_Event):
    """A trial pauses at `rung`, after that many epochs, or goes on from there: it is handed to a worker again."""

    event: Literal["paused", "promoted"]
    id: str
    rung: int


class JobEndEvent(_Event):
    """The end of a job: "completed", "stopped" or "failed".

    `cause` is "environment" for a failure that is not the configuration's own: the job goes on when the run is resumed.
    `weights` is the folder of a finalist's networks, `sha256` the checksums of its files.
    """

    event: Literal["trial_end", "final_end", "fold_end"]
    id: str
    state: str
    reason: str
    epochs: int
    cause: NotRequired[str]
    weights: NotRequired[str | None]
    sha256: NotRequired[dict[str, str] | None]


class RetryEvent(_Event):
    """A job's worker died: attempt number `attempt` goes on after `epochs`."""

    event: Literal["retry"]
    id: str
    reason: str
    epochs: int
    attempt: int
    cause: NotRequired[str]


class StopEvent(_Event):
    """A job was asked to end by `by`, with the request of this id: it ends after its present epoch."""

    event: Literal["stop"]
    id: str
    by: NotRequired[str]
    request: NotRequired[str]


class SearchStoppedEvent(_Event):
    """The search ends before its last trial: `rule` is "patience", "regret" or "by hand"; `by` and `request` then."""

    event: Literal["search_stopped"]
    rule: str
    reason: str
    by: NotRequired[str]
    request: NotRequired[str]


class FinalistRecord(TypedDict):
    """A configuration to retrain; see `selection.Finalist`."""

    id: str
    trial: str
    params: Params
    reference: bool
    parameters: NotRequired[int | None]
    infeasible: NotRequired[str]


class FinalistsEvent(_Event):
    """The search is over; `seconds` is how long it took."""

    event: Literal["finalists"]
    configurations: list[FinalistRecord]
    seconds: float


class EliminatedEvent(_Event):
    """A finalist is out: it was trained with `seeds`, and `left` runs of it are dropped."""

    event: Literal["eliminated"]
    id: str
    seeds: list[int]
    left: int
    reason: str


class ScoresEvent(_Event):
    """Scores by instrument, of the final models and of the reference network; `files`: checksums by path.

    `candidates`: by instrument, then by finalist and seed, of every finalist's best seed.
    """

    event: Literal["scores"]
    final: dict[str, dict[str, Any]]
    reference_final: dict[str, dict[str, Any]]
    seconds: float
    candidates: NotRequired[dict[str, dict[str, dict[str, Any]]]]
    files: NotRequired[dict[str, str]]


class RegisteredEvent(_Event):
    """Models in the registry by instrument; `champions`: what became of the alias (name, version, before, now, why)."""

    event: Literal["registered"]
    models: dict[str, str]
    champions: NotRequired[dict[str, dict[str, Any]]]


class ReportEvent(_Event):
    """The run report was written."""

    event: Literal["report"]
    file: str


class EndEvent(_Event):
    """The process ended: "finished", "interrupted" or "failed"."""

    event: Literal["end"]
    state: str


Event = (
    SearchEvent
    | ResumeEvent
    | ContinueEvent
    | TrialEvent
    | FinalEvent
    | FoldEvent
    | EpochEvent
    | SparedEvent
    | PauseEvent
    | JobEndEvent
    | RetryEvent
    | StopEvent
    | SearchStoppedEvent
    | FinalistsEvent
    | EliminatedEvent
    | ScoresEvent
    | RegisteredEvent
    | ReportEvent
    | EndEvent
)
