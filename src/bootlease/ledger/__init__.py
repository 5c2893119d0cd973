"""What is recorded of decisions."""

from bootlease.ledger.record import DecisionRecord, GrantedLease

__all__ = ["DecisionRecord", "GrantedLease"]
