"""The facts that authorization asks for, and their Cedar form (``cedarschema``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from bootlease.bootstate.tri import Tri
from bootlease.token import KeyProtection, Tier, TrustVector
from bootlease.token.ear import LABELS

NODE: Final = "node"
"""The fact that is the principal's name and no attribute of it."""


class Facts(NamedTuple):
    """What was proven of a node, and what an operator or a manufacturer says of it.

    Attributes:
        node: Node id, hex.
        tier: The vector's worst tier.
        vector: AR4SI claims.
        references: Names of the reference sets that the boot matched.
        reference_digests: Their digests, hex.
        secure_boot: Secure Boot, as attested events of every quoted bank prove it.
        ima_appraised: The files that the running system loaded were appraised, and none refused.
        endorsed: A manufacturer's certificate vouches for the TPM.
        vendor: The TPM's vendor as it certified it, by its registered name where it has one.
        model: The TPM's model.
        firmware: Its firmware version, as the certificate has it.
        labels: What an operator says of the node.
        reset_count: The TPM's resetCount at the quote.
        restart_count: The TPM's restartCount at the quote.
        lineage_age: Seconds since the lineage's first decision.
    """

    node: str = ""
    tier: Tier = Tier.NONE
    vector: TrustVector = TrustVector()
    references: tuple[str, ...] = ()
    reference_digests: tuple[str, ...] = ()
    secure_boot: Tri = Tri.UNKNOWN
    ima_appraised: bool = False
    endorsed: bool = False
    vendor: str | None = None
    model: str | None = None
    firmware: str | None = None
    labels: tuple[str, ...] = ()
    reset_count: int = 0
    restart_count: int = 0
    lineage_age: int = 0


NO_FACTS: Final = Facts()


def entity(kind: str, name: str, parents: Collection[str] = ()) -> dict[str, Any]:
    """Return an entity without attributes, in Cedar's JSON."""
    return {
        "uid": {"type": kind, "id": name},
        "attrs": {},
        "parents": [{"type": kind, "id": each} for each in parents],
    }


def node_entity(facts: Facts) -> dict[str, Any]:
    """Return the principal, in Cedar's JSON."""
    attributes: dict[str, Any] = {
        "tier": _named("Tier", facts.tier.label),
        "vector": {_CLAIMS[name]: value for name, value in facts.vector.to_jwt().items()},
        "references": list(facts.references),
        "reference_digests": list(facts.reference_digests),
        "secure_boot": _named("SecureBoot", facts.secure_boot.value),
        "ima_appraised": facts.ima_appraised,
        "endorsed": facts.endorsed,
        "labels": list(facts.labels),
        "reset_count": facts.reset_count,
        "restart_count": facts.restart_count,
        "lineage_age": facts.lineage_age,
    }
    make = {"vendor": facts.vendor, "model": facts.model, "firmware": facts.firmware}
    attributes |= {name: value for name, value in make.items() if value is not None}
    return {"uid": {"type": "Node", "id": facts.node}, "attrs": attributes, "parents": []}


_CLAIMS: Final = {label: label.replace("-", "_") for label in LABELS}


def request(
    node: str, scopes: Sequence[str], audience: str, protection: KeyProtection
) -> list[dict[str, Any]]:
    """Return a request for each scope name, in Cedar's JSON."""
    context = {"audience": audience, "key_protection": _named("KeyProtection", protection.label)}
    return [
        {
            "principal": {"type": "Node", "id": node},
            "action": {"type": "Action", "id": "lease"},
            "resource": {"type": "Scope", "id": scope},
            "context": context,
        }
        for scope in scopes
    ]


def _named(kind: str, name: str) -> dict[str, dict[str, str]]:
    return {"__entity": {"type": kind, "id": name}}
