"""Small space files for tests that start real searches."""

PARAMETERS = """
parameters:
  filters: {filters}
  head: [relu, mask]
  heads: [one, all]
  learning_rate: {{low: 1e-3, high: 1e-2, log: true}}
front_end: {{clip_seconds: 1.0}}
"""


def small_space(search: str, final: str, filters: str = "[4, 8]") -> str:
    """A space of small networks and clips of a second; `search` and `final` are the items of those sections."""
    rules = "grace_epochs: 1, reduction_factor: 2"
    return (
        PARAMETERS.format(filters=filters) + f"search: {{{rules}, {search}}}\nfinal: {{configurations: 1, {final}}}\n"
    )
