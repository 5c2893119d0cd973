"""The whole story on simulated TPMs: enrol, prove, renew, use, take back, change, and be audited.

What works under a lease runs on a leash, and ends with it.

Everything is real but the silicon: two swtpm processes with EK certificates of a local CA, a
verifier process with its database, an agent that serves workloads, a workload that calls a tool
server, HTTP and the Workload API between them.
Each command that is shown is the command that runs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from bootlease.errors import TransportError
from bootlease.model import HashAlg
from bootlease.testing.audited import audit
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import (
    AUDIENCE,
    PCRS,
    REFERENCE,
    SCOPE,
    grub_description,
    policy_text,
)
from bootlease.testing.holder import Holder
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import NodeOnSwtpm, booted_node
from bootlease.testing.onleash import OnLeash, on_leash
from bootlease.testing.story import Service, Story, run_command, service, wait_until
from bootlease.testing.takenback import revoke, steal
from bootlease.testing.treewatch import TreeWatch, boottime

_BANKS: Final = (HashAlg.SHA256,)
_LIFE: Final = 6
_RUN_TIME_PCR: Final = 14
_CALLS: Final = 10
_PATIENCE: Final = 30.0
_COPY: Final = "token-copy"
"""What somebody keeps who was shown the token."""
_CONFIG: Final = """\
schema = 1
[verifier]
bundle = "{folder}/join.json"
[node]
tcti = "{tcti}"
state = "{folder}/agent"
log = "{log}"
ek_algorithm = "ecc-p256"
[api]
socket = "{socket}"
mode = "0600"
[[workload]]
name = "caller"
uid = [{uid}]
scope = ["{scope}"]
audience = ["{audience}"]
level = 2
[[keep]]
scope = ["{scope}"]
audience = "{audience}"
token_file = "{token}"
key_file = "{key}"
"""
"""One agent for all: a workload on a leash, and a token in a file, as older software wants it."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What every act of the demonstration needs.

    Attributes:
        story: Where it is told.
        folder: A private folder for all files.
        verifier: URL of the verifier.
        tool: URL of the tool.
        node: The node that works; the golden one is only learned from.
    """

    story: Story
    folder: Path
    verifier: str
    tool: str
    node: NodeOnSwtpm

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def key_file(self) -> Path:
        return self.folder / "key.pem"

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    def agent_arguments(self) -> tuple[str, ...]:
        log, config = self.folder / "node.eventlog", self.folder / "agent.toml"
        log.write_bytes(self.node.event_log)
        config.write_text(
            _CONFIG.format(
                folder=self.folder,
                tcti=self.node.tcti,
                log=log,
                socket=self.socket,
                uid=os.getuid(),
                scope=SCOPE,
                audience=AUDIENCE,
                token=self.token_file,
                key=self.key_file,
            )
        )
        return ("node", "run", "--config", str(config))


def run_demo() -> None:
    """Play the demonstration and leave nothing running and no file behind.

    Raises:
        TransportError: A part did not do what it must.
    """
    folder = Path(tempfile.mkdtemp(prefix="bootlease-demo-"))
    story = Story(folder)
    try:
        _play(story, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play(story: Story, folder: Path) -> None:
    story.step("Two TPMs are manufactured, with EK certificates of a local CA")
    ca = LocalCA.create("Demo TPM maker")
    golden_state = manufacture(folder / "tpm-golden", ca=ca, banks=_BANKS)
    node_state = manufacture(folder / "tpm-node", ca=ca, banks=_BANKS)
    (folder / "ek-roots.pem").write_bytes(ca.roots_pem)
    (folder / "policy.toml").write_text(policy_text(life=_LIFE, delegation_depth=1))
    description = grub_description()
    with booted_node(golden_state, description, _BANKS) as golden:
        _learn(story, folder, golden)
    verifier = f"http://127.0.0.1:{_free_port()}"
    _init_verifier(story, folder, verifier)
    with (
        service("verifier", "bootlease", *_serve_arguments(folder, verifier)) as process,
        booted_node(node_state, description, _BANKS) as node,
    ):
        process.wait_for("listening on", seconds=_PATIENCE)
        tool_arguments = (
            *("--issuer", verifier, "--audience", AUDIENCE, "--scope", SCOPE),
            *("--max-depth", "1"),
        )
        with service("tool server", "bootlease.testing.tool_server", *tool_arguments) as tool:
            url, _ = tool.wait_for("http://", seconds=_PATIENCE)
            scene = _Scene(story, folder, verifier, url.strip(), node)
            _work_and_change(scene)
            _boot_another_command_line(scene)
    audit(story, folder, folder / "verifier", folder / _COPY, folder / "join.json")
    story.step("Everything is stopped; nothing is left behind")


def _learn(story: Story, folder: Path, golden: NodeOnSwtpm) -> None:
    story.step("The golden machine boots; its measurements become the reference set 'golden'")
    (folder / "golden.eventlog").write_bytes(golden.event_log)
    run_command(
        story,
        *("reference", "learn", "--log", f"{folder}/golden.eventlog", "--name", REFERENCE),
        *("--pcrs", ",".join(map(str, PCRS)), "-o", f"{folder}/golden.json"),
    )


def _init_verifier(story: Story, folder: Path, url: str) -> None:
    story.step("The verifier is set up: policy, trusted TPM maker, reference set")
    run_command(
        story,
        *("verifier", "init", "--data", f"{folder}/verifier", "--issuer", url),
        *("--policy", f"{folder}/policy.toml", "--ek-root", f"{folder}/ek-roots.pem"),
        *("--reference", f"{folder}/golden.json", "--credential-file", f"{folder}/admin"),
    )
    run_command(
        story, "verifier", "bundle", "--data", f"{folder}/verifier", "-o", f"{folder}/join.json"
    )
    story.command(_serve_arguments(folder, url))


def _serve_arguments(folder: Path, url: str) -> tuple[str, ...]:
    listen = url.removeprefix("http://")
    return ("verifier", "serve", "--data", f"{folder}/verifier", "--listen", listen)


def _work_and_change(scene: _Scene) -> None:
    story = scene.story
    story.step("Another machine boots the same way, enrols, proves its boot and renews three times")
    arguments = scene.agent_arguments()
    story.command(arguments)
    with service("agent", "bootlease", *arguments) as agent:
        seen = 0
        for number in range(4):
            line, seen = agent.wait_for(f"lease {number} granted", seconds=_PATIENCE, after=seen)
            story.tell(line)
        story.step("The token is read, and used at a tool server with proof of possession")
        for line in run_command(story, "token", "show", str(scene.token_file)).splitlines():
            if line.strip():
                story.tell(line)
        _expect_served(scene)
        _take_back(scene, agent)
        with TreeWatch(f"demo-{secrets.token_hex(4)}-") as watch:
            _lose_guard(scene, watch)
            story.step("Another workload starts on a leash, and works")
            with on_leash(story, watch, scene.socket, scene.tool) as workload:
                workload.tell_calls(_CALLS)
                _change(scene, agent, workload)


def _lose_guard(scene: _Scene, watch: TreeWatch) -> None:
    story = scene.story
    story.step("A workload starts on a leash: it has a lease, and neither token nor key in files")
    with on_leash(story, watch, scene.socket, scene.tool) as workload:
        workload.tell_calls(_CALLS)
        story.step("Its guard is killed (SIGKILL)")
        workload.kill_guard()


def _change(scene: _Scene, agent: Service, workload: OnLeash) -> None:
    story = scene.story
    _wait_for_renewal(agent)
    last = Holder.read(scene.token_file, scene.key_file)
    shutil.copyfile(scene.token_file, scene.folder / _COPY)
    seen = len(agent.lines(""))
    story.step(f"At run time, something extends PCR {_RUN_TIME_PCR}; the log does not say what")
    scene.node.device.pcr_extend(
        _RUN_TIME_PCR, {HashAlg.SHA256: HashAlg.SHA256.digest(b"something else")}
    )
    changed, on_boot_clock = time.monotonic(), boottime()
    _tell_refusal(story, agent, seen)
    story.step("The workload and all that it started end with the lease")
    workload.tell_end(on_boot_clock)
    _end(scene, last, changed)


def _take_back(scene: _Scene, agent: Service) -> None:
    story = scene.story
    story.step("A thief copies token and key, and passes the lease on to a key of his own")
    _wait_for_renewal(agent)
    thief = steal(story, scene.folder, scene.tool, scene.token_file, scene.key_file)
    story.step("The operator revokes that lease; the tool server hears of it at once")
    revoke(story, thief, scene.verifier)
    story.step("The node still boots what it should: it renews, and works on")
    story.tell(_wait_for_renewal(agent))
    _expect_served(scene)


def _wait_for_renewal(agent: Service) -> str:
    """Return what an agent says of a lease that it gets from now on."""
    line, _ = agent.wait_for(" granted: ", seconds=_PATIENCE, after=len(agent.lines("")))
    return line


def _boot_another_command_line(scene: _Scene) -> None:
    story = scene.story
    story.step("The machine reboots with init=/bin/sh on its kernel command line")
    description = grub_description()
    tampered = description.with_command_line(f"{description.command_line} init=/bin/sh")
    scene.node.boot(simulate_boot(tampered, _BANKS))
    with service("agent", "bootlease", *scene.agent_arguments()) as agent:
        _tell_refusal(story, agent, 0)
    if scene.token_file.exists():
        raise TransportError("a refused agent left a token behind")
    story.tell("no token was issued")


def _tell_refusal(story: Story, agent: Service, after: int) -> None:
    _, end = agent.wait_for("next attempt in", seconds=_PATIENCE, after=after)
    refusals = agent.lines("refused:", after=after)
    if not refusals or agent.lines("granted", after=end):
        raise TransportError("a changed machine was not refused")
    for line in refusals:
        story.tell(line)


def _expect_served(scene: _Scene) -> None:
    answer = Holder.read(scene.token_file, scene.key_file).call(scene.tool)
    if answer.status_code != httpx2.codes.OK:
        raise TransportError(f"the tool answered {answer.status_code}: {answer.text}")
    scene.story.tell(f"GET /search -> {answer.status_code} {answer.json()['result']}")


def _end(scene: _Scene, holder: Holder, changed: float) -> None:
    scene.story.step("The agent drops the token; the refusal ended every copy of it, too")
    wait_until(lambda: not scene.token_file.exists(), seconds=_PATIENCE, what="dropping the token")
    scene.story.tell("the agent's token file is gone")
    answer, at = holder.call_until_refused(scene.tool, seconds=_PATIENCE)
    scene.story.tell(
        f"GET /search, with a copy -> {answer.status_code} {answer.headers['www-authenticate']},"
        f" {at - changed:.1f} s after the change: at the node's next renewal"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
