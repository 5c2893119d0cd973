"""The integer keys of a CWT's claims: ours, and those of specifications that are not RFCs of old.

Specifications: RFC 9711 (EAT: 265, 266), draft-ietf-rats-ear-04 (1000 to 1004),
draft-ietf-oauth-status-list-20 §6 (65535). Keys below -65536 are for private use (RFC 8392 §9.1).
``claims`` has the table of what each holds, and its name in a JWT; 1 to 10 are written as numbers.
"""

from __future__ import annotations

from typing import Final

EAT_PROFILE: Final = 265
SUBMODULES: Final = 266
EAR_STATUS: Final = 1000
EAR_VECTOR: Final = 1001
EAR_POLICY_IDS: Final = 1003
EAR_VERIFIER: Final = 1004
STATUS_LIST: Final = 65535
LINEAGE: Final = -66001
BOOT: Final = -66002
POLICY: Final = -66003
REFERENCE: Final = -66004
EVIDENCE: Final = -66005
DECISION: Final = -66006
KEY_PROTECTION: Final = -66007
DELEGATION: Final = -66008
LEVEL: Final = -66009
"""In the submodule ``node``."""
