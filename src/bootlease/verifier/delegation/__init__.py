"""Leases that a lease's holder passes on (docs/delegation.md)."""
