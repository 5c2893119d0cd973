"""What an agent says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bootlease.localapi import fields
from bootlease.token import strictjson


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An agent.

    Attributes:
        version: Of bootlease.
        issuer: Its verifier.
        node: The node's id as hex, once it is enrolled.
    """

    version: str
    issuer: str
    node: str | None = None

    def encode(self) -> bytes:
        """Return the wire form."""
        members: dict[str, Any] = {"version": self.version, "issuer": self.issuer}
        if self.node is not None:
            members["node"] = self.node
        return strictjson.serialise(members)


def parse_info(data: bytes) -> AgentInfo:
    """Read it.

    Raises:
        MalformedError: It is none.
    """
    members = strictjson.parse_object(data)
    return AgentInfo(
        version=fields.text(members, "version", at_most=64),
        issuer=fields.text(members, "issuer", at_most=512),
        node=fields.text(members, "node", at_most=64) if "node" in members else None,
    )
