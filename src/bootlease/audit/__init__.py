"""What an auditor does: decisions made again, proofs checked. Pure functions, no I/O, no clock."""

from bootlease.audit.build import LeaseToken, ProofSource, build_proof
from bootlease.audit.gather import DecisionInputs
from bootlease.audit.proof import ProofReport, ProofTrust, verify_proof
from bootlease.audit.replay import Replayed, Replayer, replay_decision

__all__ = [
    "DecisionInputs",
    "LeaseToken",
    "ProofReport",
    "ProofSource",
    "ProofTrust",
    "Replayed",
    "Replayer",
    "build_proof",
    "replay_decision",
    "verify_proof",
]
