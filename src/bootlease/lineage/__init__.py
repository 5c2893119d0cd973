"""The chain of leases of one boot."""

from bootlease.lineage.continuation import Lineage, Prior, continue_lineage, head_after

__all__ = ["Lineage", "Prior", "continue_lineage", "head_after"]
