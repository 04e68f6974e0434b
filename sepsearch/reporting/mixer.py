"""The player of a separated recording: voices together in step, each with solo, mute, level and download."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

SCRIPTS = ("clips.js", "mixer.js")


@dataclass(frozen=True)
class Voice:
    """A voice as the player shows it: name, address of its audio, and the name of the file that is saved."""

    name: str
    url: str
    file: str


def mixer_markup(title: str, seconds: float, voices: Sequence[Voice], notes: Sequence[str] = ()) -> str:
    """HTML of the player; `mixer_script` brings it to life, `mixer_style` is its style. All text is escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_part("mixer.html"))
    return template.render(title=title, seconds=f"{seconds:.2f}", voices=voices, notes=notes)


def mixer_script() -> str:
    """JavaScript that defines `mixer(root)`, for an element with the class "mixer", and no other name."""
    parts = "\n".join(_part(name) for name in SCRIPTS)
    return f"const mixer = (() => {{\n{parts}\nreturn mixer;\n}})();"


def mixer_style() -> str:
    """CSS of the player."""
    return _part("mixer.css")


def _part(name: str) -> str:
    return (files("sepsearch.reporting") / "templates" / name).read_text(encoding="utf-8")
