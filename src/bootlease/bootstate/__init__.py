"""What a boot log means: facts from attested digests only.

:class:`AttestedLog` shows the events of a replayed log that a quote attested. Each aspect of a boot
is a function of it, so that an appraisal computes what its rules ask for and nothing else;
:func:`read_boot_state` composes all of them for people. A fact that the log does not prove is
unknown, never a default.
"""

from bootlease.bootstate.apps import boot_applications, option_roms
from bootlease.bootstate.consistency import altered_events
from bootlease.bootstate.firmware import firmware
from bootlease.bootstate.gpt import partitions
from bootlease.bootstate.grub import grub_commands
from bootlease.bootstate.initrd import initrds
from bootlease.bootstate.kernel import kernel_command_lines
from bootlease.bootstate.options import boot_options
from bootlease.bootstate.quirks import quirks
from bootlease.bootstate.read import BootState, opaque_events, read_boot_state
from bootlease.bootstate.secureboot import secure_boot
from bootlease.bootstate.separators import exit_boot_services, separators
from bootlease.bootstate.shim import parse_sbat_level, shim_state
from bootlease.bootstate.stub import unified_kernel
from bootlease.bootstate.view import AttestedLog
from bootlease.bootstate.windows import windows

__all__ = [
    "AttestedLog",
    "BootState",
    "altered_events",
    "boot_applications",
    "boot_options",
    "exit_boot_services",
    "firmware",
    "grub_commands",
    "initrds",
    "kernel_command_lines",
    "opaque_events",
    "option_roms",
    "parse_sbat_level",
    "partitions",
    "quirks",
    "read_boot_state",
    "secure_boot",
    "separators",
    "shim_state",
    "unified_kernel",
    "windows",
]
