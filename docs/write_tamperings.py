"""Write the second half of docs/explain.md: six tamperings, and a change that was meant.

Each is done to a simulated machine: a real TPM in software, a verifier and an agent as processes of
their own. What they print goes into the page as it is, but for what is different each time: names
of nodes and decisions, times, ports and folders. ``--check`` only says whether the page is current.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bootlease.cli.admin import CREDENTIAL_VARIABLE
from bootlease.eventlog import EventRecord, EventType
from bootlease.model import HashAlg
from bootlease.testing import efi
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import AUDIENCE, REFERENCE, SCOPE, grub_description, policy_text
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import NodeOnSwtpm, booted_node
from bootlease.testing.story import service
from bootlease.testing.tampering import Where, find_event, insert
from bootlease.testing.verifier_process import free_port

PAGE: Final = Path(__file__).with_name("explain.md")
MARK: Final = "<!-- What follows is written by docs/write_tamperings.py. -->\n"
BANKS: Final = (HashAlg.SHA256,)
FILES: Final = "files"
WIDTH: Final = 100
PATIENCE: Final = 30.0
SECONDS: Final = 60
LEARN: Final = ("reference", "learn")
SYSTEM: Final = {"/usr/bin/init": b"init 252", "/usr/bin/agentd": b"agentd 1.4"}
"""What the simulated kernel loads at every boot."""

POLICY: Final = (
    policy_text()
    .replace("9, 14]", "9, 10, 14]")
    .replace('secure_boot = "not-required"', 'secure_boot = "required"')
    .replace('option_roms = "note"', 'option_roms = "refuse"')
    .replace(
        'appraise = "off"',
        f"""appraise = "required"
accept = ["{FILES}"]
unlisted = "refuse"
violations = "refuse"
signatures = "ignored\"""",
    )
)

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d UTC|T\d\d:\d\d:\d\dZ)")
_LAST_GOOD: Final = re.compile(r"(last good .* decision )[0-9a-f]{64}")
_DECISION: Final = re.compile(r"((?:decision|explain) +)[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tampering:
    """One thing that is done to the machine.

    Attributes:
        title: Its heading.
        done: What is done, and who does such things.
        boot: What the machine then boots.
        loaded: What it loads besides.
        read: What to see in the output.
        act: What to do.
    """

    title: str
    done: str
    boot: SimulatedBoot
    read: str
    act: str
    loaded: tuple[tuple[str, bytes], ...] = ()


def tamperings(good: BootDescription) -> Iterator[Tampering]:
    """Yield the six."""
    assert good.grub is not None
    yield Tampering(
        "A kernel parameter was added",
        "Somebody with root edited `grub.cfg`, so that the kernel starts a shell in place of"
        " `init`. Secure Boot does not mind: it verifies programs, not their arguments.",
        simulate_boot(good.with_command_line(f"{good.command_line} init=/bin/sh")),
        "The first line of what changed says it all. The events below say where it was measured:"
        " GRUB's `linux` command, the line that it handed to the kernel, and the file that holds"
        " both.",
        "Put `grub.cfg` back and reboot. A shell on the console means that whoever did this had the"
        " disk: look at what else is on it before the node gets its next lease.",
    )
    yield Tampering(
        "The boot loader is another one",
        "`grubx64.efi` was replaced by another program that shim starts, because it carries a"
        " signature that shim accepts: an older GRUB with a known hole will do.",
        simulate_boot(replace(good, grub=replace(good.grub, content="grub 2.04-1"))),
        "One event, one digest. It is the digest of the program itself: the path beside it is what"
        " the log calls it, and is the same as before.",
        "Reinstall the boot loader from the distribution and reboot. If it was an update, every"
        " node of its kind will show this digest: approve it once, before the others reboot.",
    )
    yield Tampering(
        "Secure Boot was switched off",
        "Somebody with a keyboard went into the firmware's setup.",
        simulate_boot(good.with_secure_boot(enabled=False)),
        "State and authorities are told first: nothing vouched for shim and GRUB any more. That"
        " policy demands it too is said where approving is spoken of: another reference would"
        " not help.",
        "Switch it on again and reboot. The programs that were started are those of the last good"
        " boot, as PCR 4 shows; who was at the keyboard it cannot show.",
    )
    yield Tampering(
        "dbx is an old one",
        "The list of revoked programs was set back to one without the latest entry, so that a boot"
        " loader which that entry forbids starts again. A disk image from last year does it, too.",
        simulate_boot(
            replace(good, secure_boot=replace(good.secure_boot, dbx=good.secure_boot.dbx[:1]))
        ),
        "The entry that is gone is named by its digest. A *newer* dbx, with all that the reference"
        " requires and more, breaks no rule: only the value of PCR 7 keeps it out here. Learn PCR 7"
        " with `--match events:7`, and it is accepted.",
        "Install the latest dbx and reboot.",
    )
    yield Tampering(
        "The running system loaded a program that nobody listed",
        "The boot is the good one. Then somebody copied a program to the node and ran it; the"
        " kernel measured it into PCR 10 (IMA) before it ran.",
        simulate_boot(good),
        "Nothing of the boot is in question: PCR 10 alone is another, and the file is named, with"
        " the digest of what was loaded. Deleting it changes nothing: what ran has run.",
        "Take the node out of service, find out who copied it, and install the node anew. If it"
        " belongs there, list it: here by what the node loaded, better from the package that it"
        " comes from (`bootlease reference ima package`).",
        loaded=(("/tmp/.x/miner", b"a stranger"),),  # noqa: S108 - a path in a measurement
    )
    boot = simulate_boot(good)
    rom = b"option ROM of a network card"
    driver = EventRecord(
        2,
        EventType.EV_EFI_BOOT_SERVICES_DRIVER,
        {bank: bank.digest(rom) for bank in BANKS},
        efi.image_load_event(len(rom), b""),
    )
    yield Tampering(
        "A driver from add-in hardware ran",
        "A network card was plugged in. Its option ROM brings a driver, which the firmware started"
        " before everything else.",
        insert(boot, find_event(boot, pcr=2), Where.MACHINE, driver),
        "The driver is named by its digest, in PCR 2. Two things refuse it: the reference does not"
        " have it, and the policy refuses every such driver (`boot.option_roms`).",
        "Take the card out, or switch its option ROM off in the firmware. If the card is to stay,"
        ' `option_roms = "note"` leaves it to the reference, which then names this very driver.',
    )


class Machine:
    """A node, its verifier's URL, and the folder where all commands are typed.

    Args:
        folder: The folder.
        url: The verifier.
        node: The TPM, and what it was extended by.
    """

    def __init__(self, folder: Path, url: str, node: NodeOnSwtpm) -> None:
        self.folder = folder
        self.url = url
        self._node = node
        self._state = f"state-{node.tcti.rpartition('/')[0].rpartition('-')[2]}"
        self.boot(simulate_boot(grub_description()))

    def boot(self, boot: SimulatedBoot, loaded: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Boot, and load what the system loads."""
        self._node.boot(boot)
        ima = self._node.start_ima()
        for path, content in (*SYSTEM.items(), *loaded):
            ima.measure(path, content)
        (self.folder / "eventlog").write_bytes(self._node.event_log)
        (self.folder / "ima").write_bytes(ima.data)

    def attest(self, *, code: int = 0) -> str:
        """Let the agent ask for a lease once, and return what it said."""
        return typed(
            self.folder,
            *("node", "run", "--bundle", "join.json", "--tcti", self._node.tcti, "--once"),
            *("--state", self._state, "--log", "eventlog", "--ima-list", "ima"),
            *("--ek-algorithm", "ecc-p256", "--scope", SCOPE, "--audience", AUDIENCE),
            code=code,
            errors=True,
        )

    def explain(self, *options: str) -> str:
        """Explain the node's latest decision."""
        return typed(
            self.folder,
            *("explain", self.name, "--url", self.url, *options),
            code=1,
        )

    @property
    def name(self) -> str:
        """The node's id."""
        known: str = json.loads((self.folder / self._state / "status.json").read_text())["node"]
        return known

    def told(self, text: str) -> str:
        """Return text without what is different each time."""
        text = text.replace(self.name, "NODE").replace(self.url, "http://127.0.0.1:8400")
        text = _TIME.sub("…", text).replace(f"{self.folder}/", "")
        text = _LAST_GOOD.sub(r"\1…", text)
        return _DECISION.sub(r"\1DECISION", text).rstrip()


def typed(folder: Path, *arguments: str, code: int = 0, errors: bool = False) -> str:
    """Run ``bootlease`` in a folder, as its operator, and return what it printed."""
    credential = folder / "admin"
    known = {CREDENTIAL_VARIABLE: credential.read_text()} if credential.exists() else {}
    done = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "bootlease", *arguments],
        cwd=folder,
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode != code:
        raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr}")
    return done.stderr if errors else done.stdout


class Scene:
    """A verifier that runs, and machines that it knows nothing of yet.

    Args:
        folder: The folder where all commands are typed.
        ca: Certifies the machines' TPMs.
    """

    def __init__(self, folder: Path, ca: LocalCA) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._ca = ca

    @contextmanager
    def machine(self) -> Iterator[Machine]:
        """Lend a new machine that has booted well."""
        number = len(list(self.folder.glob("tpm-*")))
        state = manufacture(self.folder / f"tpm-{number}", ca=self._ca, banks=BANKS)
        with booted_node(state, grub_description(), BANKS) as node:
            yield Machine(self.folder, self.url, node)

    @contextmanager
    def verifier(self) -> Iterator[None]:
        """Set the verifier up, and run it."""
        folder = self.folder
        (folder / "ek-roots.pem").write_bytes(self._ca.roots_pem)
        (folder / "policy.toml").write_text(POLICY)
        with self.machine():
            typed(folder, *LEARN, "--log", "eventlog", "--name", REFERENCE, "-o", "golden.json")
            typed(folder, "reference", "ima", "node", "ima", "--name", FILES, "-o", "files.json")
        typed(
            folder,
            *("verifier", "init", "--data", "v", "--issuer", self.url, "--policy", "policy.toml"),
            *("--ek-root", "ek-roots.pem", "--reference", "golden.json"),
            *("--reference", "files.json", "--credential-file", "admin"),
        )
        typed(folder, "verifier", "bundle", "--data", "v", "-o", "join.json")
        listen = self.url.removeprefix("http://")
        serve = ("verifier", "serve", "--data", str(folder / "v"), "--listen", listen)
        with service("verifier", "bootlease", *serve) as process:
            process.wait_for("listening on", seconds=PATIENCE)
            yield


def block(*lines: str) -> str:
    """Return a block of what a console shows."""
    body = "\n".join(lines)
    return f"```console\n{body}\n```\n"


def wrapped(text: str) -> str:
    """Return a paragraph."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def tampered(node: Machine, tampering: Tampering) -> str:
    """Do it, and return its section."""
    node.attest()
    node.boot(tampering.boot, tampering.loaded)
    refusal = node.told(node.attest(code=1))
    explained = node.told(node.explain())
    return "\n".join(
        [
            f"### {tampering.title}\n",
            f"{wrapped(tampering.done)}\n",
            "The agent says:\n",
            block(refusal),
            "The operator asks why:\n",
            block("$ bootlease explain NODE --url http://127.0.0.1:8400", explained),
            f"{wrapped(tampering.read)}\n",
            f"{wrapped('**Do.** ' + tampering.act)}\n",
        ]
    )


def meant(node: Machine) -> str:
    """Update the firmware, approve it as the explanation says, and return the section."""
    description = grub_description()
    newer = replace(description, firmware=replace(description.firmware, version="2023.02-1"))
    node.attest()
    node.boot(simulate_boot(newer))
    node.attest(code=1)
    explained = node.explain("--save", "boot")
    commands = [line[4:] for line in explained.splitlines() if line.startswith("  $ ")]
    answers = []
    for command in commands:
        printed = typed(node.folder, *command.split()[1:])
        answers.append(node.told(f"$ {command}\n{printed}"))
    granted = node.told(node.attest())
    return "\n".join(
        [
            "## A change that was meant\n",
            (
                "The firmware was updated. With `--save`, the explanation leaves what is needed to"
                " approve it in a folder; its last commands, typed as they stand, do.\n"
            ),
            block(
                "$ bootlease explain NODE --url http://127.0.0.1:8400 --save boot",
                node.told(explained),
            ),
            "They were typed, and the agent asked again:\n",
            block(*answers, granted),
        ]
    )


def page(head: str) -> str:
    """Return the whole page."""
    folder = Path(tempfile.mkdtemp(prefix="bootlease-docs-"))
    try:
        scene = Scene(folder, LocalCA.create())
        sections = []
        with scene.verifier():
            for each in tamperings(grub_description()):
                with scene.machine() as node:
                    sections.append(tampered(node, each))
            with scene.machine() as node:
                sections.append(meant(node))
        return head + MARK + "\n## Six tamperings\n\n" + "\n".join(sections)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Write the page, or compare it."""
    current = PAGE.read_text()
    text = page(current.partition(MARK)[0])
    if sys.argv[1:] == ["--check"]:
        if text != current:
            raise SystemExit("docs/explain.md is not what is printed: run `make docs`")
        return
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
