"""Jupyter notebooks: whether this process is the kernel of one, and a part of a cell's output that is shown anew."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Whether output goes to cells of a notebook (Jupyter, Colab), which is no terminal and shows HTML."""
    if "ipykernel" not in sys.modules:
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


class NotebookArea:
    """A part of a cell's output whose content is replaced in place; it stands where it was first shown."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, html: str) -> None:
        """Replace the content by `html`, in which text is escaped already."""
        from IPython.display import HTML, display

        content = HTML(f'<div style="font-family: monospace; font-size: 90%; white-space: pre-wrap">{html}</div>')
        if self._handle is None:
            self._handle = display(content, display_id=True)
        else:
            self._handle.update(content)
