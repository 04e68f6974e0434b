"""Why a trial's task failed in Ray: an exception, or the death of its worker or node."""

import re
from pathlib import Path

from sepsearch.search.protocol import INTERRUPTED, JobOutcome
from sepsearch.utils.errors import NodeUnfit

# What Ray says of a worker's death, in fewer words.
CAUSES = (
    (r"OutOfMemoryError|low on memory", "out of memory"),
    (r"[Nn]ode( \S+)? (has )?(died|terminated|been marked dead|failed)|node preempted", "its node was lost"),
    (r"temporarily unavailable", "it does not answer"),
)


def task_outcome(path: str | None) -> JobOutcome:
    """How a trial's task ended, from the file in which Ray Tune keeps the text of its error."""
    text = Path(path).read_text() if path and Path(path).exists() else ""
    # The file begins with a line of Tune's own ("Failure # 1 (occurred at …)").
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    if not lines:
        return JobOutcome("died", "worker died: nothing was kept of the reason (a full disk?)")
    if re.search(r"Owner's (node|worker) has (crashed|died)", text):
        return JobOutcome("halted", INTERRUPTED)  # the driver's own node is gone, and the driver will be in a moment
    # The text of the function's own exception begins with the task's name; any other is about the worker or its node.
    if "ray::" not in lines[0]:
        text = " ".join(lines)
        detail = text.partition("exit detail:")[2].partition(". Some common causes")[0].strip()[:160]
        cause = next((short for pattern, short in CAUSES if re.search(pattern, text)), detail or lines[0][:160])
        return JobOutcome("died", f"worker died: {cause}")
    if (unfit := lines[-1].partition(f"{NodeUnfit.__name__}: "))[1]:
        return JobOutcome("died", unfit[2][:300])
    return JobOutcome("raised", f"exception: {lines[-1][:200]}")
