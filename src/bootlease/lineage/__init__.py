"""The chain of leases of one boot."""

from bootlease.lineage.continuation import (
    IMAProgress,
    Lineage,
    Prior,
    continue_lineage,
    head_after,
)
from bootlease.lineage.highwater import HighWaterMark

__all__ = ["HighWaterMark", "IMAProgress", "Lineage", "Prior", "continue_lineage", "head_after"]
