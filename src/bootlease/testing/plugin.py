"""pytest fixtures: simulated TPMs and nodes for any project that has bootlease installed.

``local_ca``, ``software_tpm_state`` (manufactured once a session), ``swtpm`` (running),
``simulated_node`` and ``tampered_node`` (running, booted, with a log), ``verifier`` (a process that
accepts what ``simulated_node`` booted). Nothing heavy is imported
before a fixture is used; a missing swtpm fails the test and never skips it.

The description that the nodes boot is :func:`bootlease.testing.examples.grub_description`; a
project overrides the fixture ``boot_description`` to boot another.
"""

# ruff: noqa: PLC0415  every pytest run loads this file; a fixture imports what it uses

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bootlease.testing.boot_description import BootDescription
    from bootlease.testing.local_ca import LocalCA
    from bootlease.testing.node_on_swtpm import NodeOnSwtpm
    from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState
    from bootlease.testing.verifier_process import VerifierProcess


@pytest.fixture(scope="session")
def local_ca() -> LocalCA:
    """The CA that certifies the EKs of this session's simulated TPMs."""
    from bootlease.testing.local_ca import LocalCA

    return LocalCA.create()


@pytest.fixture(scope="session")
def software_tpm_state(
    local_ca: LocalCA, tmp_path_factory: pytest.TempPathFactory
) -> SoftwareTPMState:
    """A TPM manufactured once; clone it, never run it.

    Every clone is the same TPM: for two different ones, manufacture another.
    """
    from bootlease.model import HashAlg
    from bootlease.testing.manufacture import manufacture

    banks = (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)
    return manufacture(tmp_path_factory.mktemp("tpm"), ca=local_ca, banks=banks)


@pytest.fixture
def swtpm(software_tpm_state: SoftwareTPMState, tmp_path: Path) -> Iterator[SoftwareTPM]:
    """A running swtpm with EK certificates, in nobody else's way."""
    from bootlease.testing.swtpm import swtpm_process

    with swtpm_process(software_tpm_state.clone(tmp_path / "swtpm-state")) as tpm:
        yield tpm


@pytest.fixture
def boot_description() -> BootDescription:
    """What ``simulated_node`` boots: shim, GRUB and Linux under Secure Boot."""
    from bootlease.testing.examples import grub_description

    return grub_description()


@pytest.fixture
def simulated_node(
    software_tpm_state: SoftwareTPMState, boot_description: BootDescription, tmp_path: Path
) -> Iterator[NodeOnSwtpm]:
    """A node on swtpm that has completed a good measured boot."""
    from bootlease.testing.node_on_swtpm import booted_node

    with booted_node(software_tpm_state.clone(tmp_path / "node"), boot_description) as node:
        yield node


@pytest.fixture
def tampered_node(
    software_tpm_state: SoftwareTPMState, boot_description: BootDescription, tmp_path: Path
) -> Iterator[NodeOnSwtpm]:
    """The same TPM as ``simulated_node``, really booted with a changed kernel command line."""
    from bootlease.testing.node_on_swtpm import booted_node

    tampered = boot_description.with_command_line(f"{boot_description.command_line} init=/bin/sh")
    with booted_node(software_tpm_state.clone(tmp_path / "tampered"), tampered) as node:
        yield node


@pytest.fixture
def verifier(
    local_ca: LocalCA, boot_description: BootDescription, tmp_path: Path
) -> Iterator[VerifierProcess]:
    """A verifier process whose policy accepts what ``simulated_node`` booted, and nothing else."""
    from bootlease.model import HashAlg
    from bootlease.reference import serialise_reference
    from bootlease.testing import examples
    from bootlease.testing.boot import simulate_boot
    from bootlease.testing.golden import golden_reference
    from bootlease.testing.verifier_process import verifier_process

    boot = simulate_boot(boot_description, (HashAlg.SHA256,))
    golden = golden_reference(boot, pcrs=examples.PCRS)
    folder = tmp_path / "verifier-home"
    folder.mkdir(mode=0o700)
    with verifier_process(
        folder,
        policy=examples.policy_text(),
        roots=local_ca.roots_pem,
        references=[serialise_reference(golden)],
    ) as process:
        yield process
