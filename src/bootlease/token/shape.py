"""Does a claims set have exactly the members this version writes, each of its type?

A relying party checks many tokens and reads few of their claims. Comparing whole tuples of keys
and of types refuses what is missing or of another type at the speed of C (2 us), and leaves
building the claims to whoever reads them (22 us beside a signature check, whose code and tables
push everything else out of the cache). A claims set of another shape is not refused for that:
it is built at once, and the claims model has the last word.
"""

from __future__ import annotations

from typing import Any, Final

from bootlease.token.claimkeys import (
    BOOT,
    DECISION,
    EAR_POLICY_IDS,
    EAR_STATUS,
    EAR_VECTOR,
    EAR_VERIFIER,
    EAT_PROFILE,
    EVIDENCE,
    KEY_PROTECTION,
    LINEAGE,
    POLICY,
    REFERENCE,
    STATUS_LIST,
    SUBMODULES,
)

_Keys = tuple[object, ...]
_Types = tuple[type, ...]

_TEXTS: Final = (str, str, str)
_TIMES: Final = (int, int, int)

_CWT_KEYS: Final[_Keys] = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, EAT_PROFILE, SUBMODULES, EAR_STATUS, EAR_VERIFIER, STATUS_LIST),
    *(LINEAGE, BOOT, POLICY, REFERENCE, EVIDENCE, DECISION, KEY_PROTECTION),
)
_CWT_TYPES: Final[_Types] = (
    *(*_TEXTS, *_TIMES, bytes, dict, str, str, dict, int, dict, dict),
    *(list, list, list, list, bytes, bytes, int),
)
_CWT_NODE_KEYS: Final[_Keys] = (10, EAT_PROFILE, EAR_STATUS, EAR_VECTOR, EAR_POLICY_IDS)
_CWT_NODE_TYPES: Final[_Types] = (bytes, str, int, dict, list)

_JWT_KEYS: Final[_Keys] = (
    *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope"),
    *("eat_profile", "submods", "ear_status", "ear_verifier_id", "status"),
    *("bootlease_lineage", "bootlease_boot", "bootlease_policy", "bootlease_reference"),
    *("bootlease_evidence", "bootlease_decision", "bootlease_key_protection"),
)
_JWT_TYPES: Final[_Types] = (
    *(*_TEXTS, *_TIMES, str, dict, str, str, dict, str, dict, dict),
    *(dict, dict, dict, dict, str, str, str),
)
_JWT_NODE_KEYS: Final[_Keys] = (
    *("eat_nonce", "eat_profile", "ear_status"),
    *("ear_trustworthiness_vector", "ear_appraisal_policy_ids"),
)
_JWT_NODE_TYPES: Final[_Types] = (str, str, str, dict, list)


def has_cwt_shape(members: dict[Any, Any]) -> bool:
    """Tell whether a decoded CWT claims set has exactly our members in our order."""
    if tuple(members) != _CWT_KEYS or tuple(map(type, members.values())) != _CWT_TYPES:
        return False
    return _is_node(members[SUBMODULES], _CWT_NODE_KEYS, _CWT_NODE_TYPES)


def has_jwt_shape(members: dict[Any, Any]) -> bool:
    """Tell whether a decoded JWT claims set has exactly our members in our order."""
    if tuple(members) != _JWT_KEYS or tuple(map(type, members.values())) != _JWT_TYPES:
        return False
    return _is_node(members["submods"], _JWT_NODE_KEYS, _JWT_NODE_TYPES)


def _is_node(submodules: dict[Any, Any], keys: _Keys, types: _Types) -> bool:
    node = submodules.get("node")
    return type(node) is dict and tuple(node) == keys and tuple(map(type, node.values())) == types
