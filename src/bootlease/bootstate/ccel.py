"""Measurement registers of confidential virtual machines, and the PCRs they stand for.

Specifications: UEFI 2.11 §38.4.1 (Intel TDX: MR index to PCR index); Intel TDX Virtual Firmware
Design Guide, table "TD measurement-related registers".

    MR index 0   MRTD       PCR 0        measured by the TDX module when the guest is built
    MR index 1   RTMR[0]    PCR 1, 7
    MR index 2   RTMR[1]    PCR 2 to 6
    MR index 3   RTMR[2]    PCR 8 to 15
    MR index 4   RTMR[3]    none

A log's index is a register, never a PCR (attack D26): index 1 holds Secure Boot. Nothing extends
MRTD at run time, so a log's events for index 0 are attested by nothing here.
"""

from __future__ import annotations

from typing import Final

PCRS_OF_REGISTER: Final = {
    0: (0,),
    1: (1, 7),
    2: (2, 3, 4, 5, 6),
    3: tuple(range(8, 16)),
    4: (),
}
"""The TCG PCRs whose events a register takes, by the index that a log uses."""

_NO_REGISTER: Final = -1
_REGISTER_OF: Final = {pcr: register for register, pcrs in PCRS_OF_REGISTER.items() for pcr in pcrs}


def register_of(pcr: int) -> int:
    """Return the register that stands for a TCG PCR; -1, which no log has, where none does."""
    return _REGISTER_OF.get(pcr, _NO_REGISTER)
