"""The chain of leases of one boot."""

from bootlease.lineage.continuation import Lineage, Prior, continue_lineage, head_after
from bootlease.lineage.highwater import HighWaterMark

__all__ = ["HighWaterMark", "Lineage", "Prior", "continue_lineage", "head_after"]
