"""Contract tests for plug-ins: families of networks, samplers and layouts of recordings from outside the package.

Each raises an `AssertionError` that says what to correct; docs/plug-ins.md shows them in use.
"""

from sepsearch.contracts.family_contract import check_family
from sepsearch.contracts.layout_contract import check_layout
from sepsearch.contracts.sampler_contract import check_sampler

__all__ = ["check_family", "check_layout", "check_sampler"]
