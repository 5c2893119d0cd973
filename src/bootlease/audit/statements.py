"""What a verified proof proves, and what it does not, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bootlease.audit.proof import ProofReport
from bootlease.token import TokenFormat

_NEVER: Final = (
    "that the verifier had a credential activated when the node enrolled, which ties AK to EK",
    "that its nonces were random and used once, and that its clock was right",
    "that policy, references and roots were those that governance records had activated by then",
    "that the lease was not ended before it expired, or who used it",
    "what the node ran besides what was measured, and whether its buses were tampered with",
)


def proven(report: ProofReport) -> Iterator[str]:
    """Yield what a proof proves."""
    claims = report.claims
    yield (
        f"the ledger {report.origin} holds decision {claims.decision.hex()} and the claims of lease"
        f" {claims.lease_id.hex()}, in the tree of {report.size} entries that its key signed"
    )
    if report.decisions == 1:
        yield "the decision, made again from the evidence in the file, comes out the same"
    else:
        yield (
            f"all {report.decisions} decisions of the lineage, made again from the evidence in the"
            " file, come out the same, each continuing the one before it from full evidence on"
        )
    yield (
        f"a TPM with the AK of node {claims.subject} signed the quotes; the boot was what reference"
        f" {claims.reference.name} describes, and policy {claims.policy.id} (epoch"
        f" {claims.policy.epoch}) grants scope, audience and key"
    )
    if report.endorsed:
        whose = "your own roots" if report.own_roots else "a root that the verifier trusted"
        yield f"certificates lead from the node's EK to {whose}"
    if report.enrolled:
        yield "the node's enrolment stood in the ledger before its first decision here"
    if report.token is not None:
        with_receipt = ", and its receipt is the ledger's" if report.receipt else ""
        yield f"a trusted key signed the {report.token.value.upper()} in the file{with_receipt}"
    if report.witnesses:
        yield f"cosigned by witnesses you trust: {', '.join(report.witnesses)}"


def unproven(report: ProofReport) -> Iterator[str]:
    """Yield what a proof does not prove."""
    if not report.witnesses:
        yield "that the ledger shows everybody this tree: no witness that you trust has cosigned it"
    if report.unchecked:
        yield (
            f"anything by the cosignatures of {', '.join(report.unchecked)}: their keys came with"
            " the file"
        )
    if not report.endorsed:
        yield "that a manufacturer vouches for the TPM: the operator listed its EK by hand"
    elif not report.own_roots:
        yield "that the EK's root is one that you would trust: give your own with --roots"
    if not report.enrolled:
        yield "when the node enrolled: the ledger has no record of it"
    if report.token is None:
        yield "that a token was signed: the file holds none"
    elif report.token is not TokenFormat.CWT and not report.receipt:
        yield "that the token came with a receipt"
    if report.token is not None:
        yield (
            "that the token is the very bytes given: with an ES256 signature (r, s), (r, n - s)"
            " verifies as well"
        )
    yield from _NEVER
