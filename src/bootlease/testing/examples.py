"""Two machines to boot and a policy for them, when a test or a demonstration does not care which.

The same as ``fixtures/boots/*.toml`` of the source repository; a test compares them.
"""

from __future__ import annotations

from typing import Final

from bootlease.testing import policies
from bootlease.testing.boot_description import (
    GRUB,
    UKI,
    BootApplication,
    BootDescription,
    BootEntry,
    Firmware,
    FirmwareBlob,
    SecureBoot,
    Shim,
)

_FIRMWARE: Final = Firmware(
    version="2022.11-6",
    blobs=(
        FirmwareBlob(base=0x820000, content="simulated PEI volume 2022.11-6"),
        FirmwareBlob(base=0x900000, content="simulated DXE volume 2022.11-6"),
    ),
)
_VENDOR_CA: Final = "Simulated Third Party UEFI CA"
_OPERATOR_KEY: Final = "Simulated Operator Signing"


def grub_description() -> BootDescription:
    """Return a server with shim, GRUB and Linux under Secure Boot."""
    return BootDescription(
        name="grub-server",
        command_line="root=/dev/vda1 ro quiet lockdown=integrity",
        firmware=_FIRMWARE,
        secure_boot=SecureBoot(
            enabled=True,
            pk="Simulated Platform Key",
            kek=("Simulated Key Exchange Key",),
            db=("Simulated Windows Production CA", _VENDOR_CA),
            dbx=("a revoked boot loader", "another revoked boot loader"),
        ),
        boot_entries=(BootEntry(1, "debian", "\\EFI\\debian\\shimx64.efi"),),
        applications=(BootApplication("\\EFI\\debian\\shimx64.efi", "shim 15.8", _VENDOR_CA),),
        shim=Shim(
            sbat_level="sbat,1,2025021800\nshim,4\ngrub,5\n",
            vendor_certificate="Simulated Distribution CA",
        ),
        grub=GRUB(
            path="\\EFI\\debian\\grubx64.efi",
            content="grub 2.06-13",
            commands=("set timeout=0", "search --no-floppy --set=root --file /vmlinuz"),
            kernel_path="/vmlinuz",
            kernel="linux 6.1.0-41",
            initrd_path="/initrd.img",
            initrd="initrd 6.1.0-41",
        ),
    )


def uki_description() -> BootDescription:
    """Return a machine that boots a unified kernel image under keys of its operator."""
    return BootDescription(
        name="uki-machine",
        command_line="root=/dev/mapper/root ro quiet lockdown=confidentiality",
        firmware=_FIRMWARE,
        secure_boot=SecureBoot(
            enabled=True,
            pk="Simulated Operator Platform Key",
            kek=("Simulated Operator Key Exchange Key",),
            db=(_OPERATOR_KEY,),
            dbx=("a revoked boot loader",),
        ),
        boot_entries=(BootEntry(0, "Linux", "\\EFI\\BOOT\\BOOTX64.EFI"),),
        uki=UKI(
            path="\\EFI\\BOOT\\BOOTX64.EFI",
            signed_by=_OPERATOR_KEY,
            stub="systemd-stub 252",
            kernel="linux 6.1.0-41",
            os_release="ID=debian\nVERSION_ID=12\n",
            initrd="initrd 6.1.0-41",
        ),
    )


PCRS: Final = policies.PCRS
REFERENCE: Final = policies.REFERENCE
AUDIENCE: Final = policies.AUDIENCE
SCOPE: Final = "tool:search"


def policy_text(*, life: int = 120, delegation_depth: int = 0) -> str:
    """Return a policy, as TOML, for any endorsed node that booted what ``REFERENCE`` holds.

    Args:
        life: Seconds that a lease lives.
        delegation_depth: How often it may be passed on.
    """
    strict = dict.fromkeys(
        [
            *("boot__unsafe_setup_mode", "boot__unsafe_test_keys", "boot__unsafe_debug_mode"),
            *("boot__unsafe_dma", "boot__unsafe_shim_validation"),
        ],
        '"refuse"',
    )
    return policies.make_policy(
        policies.permit([SCOPE]),
        **strict,
        id='"example"',
        quote__unsafe_clock='"note"',
        boot__secure_boot='"required"',
        boot__exit_boot_services='"required"',
        lease__life=str(life),
        lease__delegation_depth=str(delegation_depth),
    )
