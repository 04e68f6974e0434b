"""`python -m sepsearch.listen`: a page in the browser to drop a recording on, and to hear its voices.

It is served on this machine alone, until Ctrl-C, and needs gradio: pip install 'sepsearch[listen]'.
"""

from collections.abc import Sequence

from sepsearch.utils.command_line import ArgumentParser, positive
from sepsearch.utils.errors import exit_on_user_error

DESCRIPTION = (
    "Serve a page to drop a recording on: its voices with solo, mute and download, on this machine alone."
    " Needs gradio: pip install 'sepsearch[listen]'."
)
EXAMPLES = (("--open", "the champions, in the browser"), ("--model runs/demo --port 7861", "the models of a run"))


def make_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = ArgumentParser("listen", DESCRIPTION, EXAMPLES)
    model = "a run's folder (runs/demo), a model's, or a registered model such as models:/sepsearch-vn/3"
    parser.add_argument("--model", help=f"{model} (default: the instruments' champions)")
    port = "port of the page on 127.0.0.1 (default: %(default)s)"
    parser.add_argument("--port", metavar="N", type=positive, default=7860, help=port)
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_general()
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C. Raises `UserError`."""
    options = make_parser().parse_args(argv)

    from sepsearch.pipeline.listen_page import require_gradio, serve
    from sepsearch.tracking.pages import require_port

    require_gradio()
    require_port(options.port)

    from sepsearch.tracking.resolve import choose_models

    serve(choose_models(None, options.model), options.port, options.open)


if __name__ == "__main__":
    exit_on_user_error(main)
