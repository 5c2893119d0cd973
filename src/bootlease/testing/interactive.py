"""A running, booted software TPM to play with: ``python -m bootlease.testing.interactive``.

Shell assignments go to standard output, ready for ``eval`` or to copy; the TPM runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from bootlease.errors import BootleaseError
from bootlease.model import HashAlg
from bootlease.testing.boot_description import BootDescription, load_boot_description
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import booted_node

_EXAMPLES: Final = {"grub": grub_description, "uki": uki_description}
_CANNOT_REACH: Final = 3


def main() -> None:
    """Manufacture a TPM, boot a machine, say where both are found, and wait."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        banks = tuple(HashAlg.from_label(label) for label in options.banks.split(","))
        description = _description(options.boot)
        with tempfile.TemporaryDirectory(prefix="bl-node-") as folder:
            _run(Path(folder), description, banks)
    except (BootleaseError, ValueError, OSError) as exc:
        sys.stderr.write(f"run-interactive: error: {exc}\n")
        sys.exit(_CANNOT_REACH)


def _run(folder: Path, description: BootDescription, banks: tuple[HashAlg, ...]) -> None:
    ca = LocalCA.create()
    state = manufacture(folder / "state", ca=ca, banks=banks)
    roots, log = folder / "tpm-roots.pem", folder / "binary_bios_measurements"
    roots.write_bytes(ca.roots_pem)
    with booted_node(state, description, banks) as node, contextlib.suppress(KeyboardInterrupt):
        log.write_bytes(node.event_log)
        sys.stdout.write(
            f"export TPM2TOOLS_TCTI={node.tcti}\n"
            f"export BOOTLEASE_EVENT_LOG={log}\n"
            f"export BOOTLEASE_TPM_ROOTS={roots}\n"
        )
        sys.stdout.flush()
        sys.stderr.write(f"booted {description.name}; Ctrl-C ends it and removes everything\n")
        signal.pause()


def _description(name: str) -> BootDescription:
    if name in _EXAMPLES:
        return _EXAMPLES[name]()
    return load_boot_description(Path(name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run-interactive",
        description="Run a manufactured software TPM that has completed a measured boot.",
    )
    parser.add_argument(
        "--boot", default="grub", metavar="grub|uki|FILE", help="what it boots (default: grub)"
    )
    parser.add_argument(
        "--banks", default="sha1,sha256,sha384", help="PCR banks (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    main()
