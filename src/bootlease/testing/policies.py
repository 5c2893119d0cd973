"""Policies for tests and demonstrations, all made from one sound one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PCRS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)
"""What the policy demands: firmware, boot loader, kernel, command line, shim's keys."""

REFERENCE: Final = "golden"
AUDIENCE: Final = "https://tools.example"
SCOPES: Final = ("tool:search", "repo:acme/*")

DEFAULTS: Final = {
    "schema": "1",
    "id": '"default"',
    "mode": '"enforce"',
    "quote.banks": '["sha256"]',
    "quote.pcrs": str(list(PCRS)),
    "quote.unsafe_clock": '"refuse"',
    "references.accept": f'["{REFERENCE}"]',
    "boot.secure_boot": '"not-required"',
    "boot.deployed_mode": '"not-required"',
    "boot.exit_boot_services": '"not-required"',
    "boot.option_roms": '"note"',
    "boot.unsafe_setup_mode": '"note"',
    "boot.unsafe_test_keys": '"note"',
    "boot.unsafe_debug_mode": '"note"',
    "boot.unsafe_dma": '"note"',
    "boot.unsafe_shim_validation": '"note"',
    "boot.phases": "[]",
    "ima.appraise": '"off"',
    "lease.life": "120",
    "lease.continuity": "10",
    "lease.audiences": f'["{AUDIENCE}"]',
    "lease.unsafe_bearer_audiences": "[]",
    "lease.delegation_depth": "0",
    "lease.max_leases": "16",
    "enrolment.admit": '"any-endorsed"',
    "enrolment.ek_algorithm": '"ecc-p256"',
    "enrolment.allow_ek": "[]",
    "enrolment.vendors": '["any"]',
    "enrolment.refuse_firmware": "[]",
    "enrolment.crl": '"when-given"',
    "enrolment.unsafe_unendorsed_ek": "[]",
    "enrolment.unsafe_software_tpm": '["id:00001014/swtpm/*"]',
    "enrolment.unsafe_sha1_signatures": "false",
}
"""Each key but the Cedar text, and its value in TOML. Refuses as little as a policy can."""


def permit(scopes: Iterable[str] = SCOPES) -> str:
    """Return Cedar policies that permit these scopes, whatever the facts."""
    return "".join(
        f'permit (principal, action == Action::"lease", resource in Scope::"{scope}");\n'
        for scope in scopes
    )


def make_policy(cedar: str | None = None, **changes: str | None) -> str:
    """Return a policy as TOML, laid out in tables.

    Args:
        cedar: The Cedar policies; those that permit ``SCOPES`` if none is given.
        changes: Values as TOML writes them, by ``table__key``; ``None`` leaves a key out.
    """
    lines: dict[str, str | None] = {**DEFAULTS}
    lines["authorization.cedar"] = f"'''\n{permit() if cedar is None else cedar}'''"
    lines |= {key.replace("__", "."): value for key, value in changes.items()}
    tables: dict[str, list[str]] = {}
    for path, value in lines.items():
        table, _, key = path.rpartition(".")
        if value is not None:
            tables.setdefault(table, []).append(f"{key} = {value}\n")
    return "".join(
        (f"[{table}]\n" if table else "") + "".join(pairs) for table, pairs in tables.items()
    )
