"""The PCRs of a boot, by what is measured into them.

Specifications: TCG PFP 1.06 §3.3.4 (PCR 0 to 7), UAPI group "Linux TPM PCR Registry" (PCR 8 to
14).
"""

from __future__ import annotations

from typing import Final

FIRMWARE_PCR: Final = 0
CONFIGURATION_PCR: Final = 1
OPTION_ROM_PCR: Final = 2
BOOT_MANAGER_PCR: Final = 4
BOOT_CONFIGURATION_PCR: Final = 5
SECURE_BOOT_PCR: Final = 7
GRUB_STRING_PCR: Final = 8
GRUB_FILE_PCR: Final = 9
KERNEL_INITRD_PCR: Final = 9
KERNEL_BOOT_PCR: Final = 11
KERNEL_CONFIG_PCR: Final = 12
SYSEXT_PCR: Final = 13
SHIM_PCR: Final = 14
