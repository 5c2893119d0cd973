"""The HTTP headers that the agent makes to present a token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bootlease.errors import MalformedError
from bootlease.localapi import fields
from bootlease.token import strictjson

AUTHORIZATION: Final = "Authorization"
DPOP: Final = "DPoP"
_MAX_VALUE: Final = 160 * 1024
_SCHEME: Final = re.compile(r"(?:DPoP|Bearer) [A-Za-z0-9._-]+", re.ASCII)
_PROOF: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


def encode_proof(headers: Mapping[str, str]) -> bytes:
    """Return the wire form of the headers."""
    return strictjson.serialise({"headers": dict(headers)})


def parse_proof(data: bytes) -> dict[str, str]:
    """Read them; nothing in them could begin another header.

    Raises:
        MalformedError: They are none.
    """
    headers = strictjson.parse_object(data).get("headers")
    if type(headers) is not dict:
        raise MalformedError("the agent's answer has no headers")
    fields.only(headers, (AUTHORIZATION, DPOP), "the answer")
    found = {AUTHORIZATION: fields.text(headers, AUTHORIZATION, at_most=_MAX_VALUE)}
    if _SCHEME.fullmatch(found[AUTHORIZATION]) is None:
        raise MalformedError("Authorization is not DPoP or Bearer with a token")
    if DPOP in headers:
        found[DPOP] = fields.text(headers, DPOP, at_most=_MAX_VALUE)
        if _PROOF.fullmatch(found[DPOP]) is None:
            raise MalformedError("DPoP is not a proof")
    return found
