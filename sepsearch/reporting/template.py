"""Pages from the templates of this package: one HTML file with its style and scripts, values escaped."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup


def render_page(name: str, scripts: Sequence[str], **values: Any) -> str:
    """A page as HTML without external parts.

    Args:
        name: of the template, such as report.html.
        scripts: names of the scripts that it runs, in this order.
        values: of the template; text among them is escaped, `Markup` is not.

    Raises:
        jinja2.UndefinedError: the template shows a value that is not given.
    """
    import jinja2

    parts = files("sepsearch.reporting") / "templates"
    loader = jinja2.FunctionLoader(lambda part: (parts / part).read_text(encoding="utf-8"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    css = Markup((parts / "report.css").read_text(encoding="utf-8"))
    script = Markup("\n".join((parts / one).read_text(encoding="utf-8") for one in scripts))
    return environment.get_template(name).render(css=css, script=script, **values)
