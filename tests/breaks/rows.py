"""Every way in which authorization can break on the verifier's side, made to happen.

Each function brings one about and returns how long it was, from then, until the last call that a
relying party answered. What it costs to find out, where it is refused and by what, is in the rows.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cbor2
import httpx2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.relyingparty import FetchedKeys
from bootlease.relyingparty.exchange import TokenExchange, grant_child
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.node_on_swtpm import NodeOnSwtpm
from bootlease.testing.swtpm import swtpm_process
from bootlease.token import PrivateKeySigner, parse_token
from bootlease.token.base64url import decode
from tests.breaks.caller import PERIOD, Caller, Held
from tests.breaks.stage import (
    BANKS,
    CONTINUITY,
    LEEWAY,
    LIFE,
    PATIENCE,
    REVOCABLE,
    SHORT,
    Machine,
    Stage,
    copy_state,
    reference_of,
)

LAPSE: Final = LIFE + LEEWAY + 2 * PERIOD
"""Longest that a lease is honoured once nobody renews it, and how exactly that is measured."""

PUSHED: Final = 2.0
"""Longest that a revocation may take to the relying party."""

STALE: Final = CONTINUITY + LEEWAY + 2 * PERIOD
"""Longest that a relying party goes on without word from the verifier."""

AT_ONCE: Final = 0.0

_RUN_TIME_PCR: Final = 14


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a break.

    Attributes:
        seconds: From the break to the last call that was answered; 0 where none was.
        said: What the relying party said then.
        agent: What the agent or the verifier said, where that tells more.
    """

    seconds: float
    said: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A way in which authorization breaks.

    Attributes:
        name: A short name; what happens is said by ``run``.
        by: What refuses, and where.
        within: Seconds from the break to the last success, at most.
        run: Brings it about.
        findings: Ids of which the relying party must name one.
    """

    name: str
    by: str
    within: float
    run: Callable[[Stage], Outcome]
    findings: tuple[str, ...]

    def held(self, outcome: Outcome) -> bool:
        """Tell whether the break was noticed in time, and named."""
        named = any(f'"{finding}"' in outcome.said for finding in self.findings)
        return outcome.seconds <= self.within and named


def _outcome(machine: Machine, began: float, within: float) -> Outcome:
    machine.caller.wait_for_silence(within + 10, quiet=1.2)
    last = machine.caller.last_success()
    return Outcome(max(0.0, last - began), machine.caller.refused(), machine.said())


def _revoke(stage: Stage, kind: str, subject: str) -> None:
    wish = {"kind": kind, "subject": subject, "reason": "a test"}
    stage.ask("revocations", json.dumps(wish).encode())


def _claims(held: Held) -> Any:
    return parse_token(held.token)[1]


# -- what a node proves


def changed_pcr(stage: Stage) -> Outcome:
    """Something extends a PCR at run time."""
    with stage.machine("changed-pcr") as machine:
        began = time.monotonic()
        measured = {HashAlg.SHA256: HashAlg.SHA256.digest(b"something else")}
        machine.node.device.pcr_extend(_RUN_TIME_PCR, measured)
        return _outcome(machine, began, LAPSE)


def unknown_boot(stage: Stage) -> Outcome:
    """The machine boots a kernel command line that no reference set knows."""
    with stage.machine("unknown-boot") as machine:
        began = time.monotonic()
        machine.reboot(simulate_boot(grub_description().with_command_line("init=/bin/sh"), BANKS))
        return _outcome(machine, began, LAPSE)


def bad_quote(stage: Stage) -> Outcome:
    """The quote's signature is damaged on its way."""

    def damaged(body: bytes) -> bytes:
        evidence = cbor2.loads(body)
        signature = bytearray(evidence["signature"])
        signature[-1] ^= 1
        return cbor2.dumps({**evidence, "signature": bytes(signature)})

    with stage.machine("bad-quote") as machine:
        began = time.monotonic()
        stage.network.changes[machine.id] = damaged
        return _outcome(machine, began, LAPSE)


def ima_violation(stage: Stage) -> Outcome:
    """The kernel measures a file that was changed while it was read."""
    with (
        stage.beside("ima", ima=True) as looking,
        looking.machine("ima-violation") as machine,
    ):
        began = time.monotonic()
        machine.violate()
        return _outcome(machine, began, LAPSE)


def unlisted_file(stage: Stage) -> Outcome:
    """The kernel measures a program that no IMA set lists."""
    with (
        stage.beside("ima-listed", ima=True) as looking,
        looking.machine("unlisted-file") as machine,
    ):
        began = time.monotonic()
        machine.load("/opt/miner")
        return _outcome(machine, began, LAPSE)


def rebooted(stage: Stage) -> Outcome:
    """The machine reboots into what it ran before; what it held before is over."""
    with stage.machine("rebooted") as machine:
        machine.caller.keep()
        began = time.monotonic()
        machine.reboot(simulate_boot(grub_description(), BANKS))
        return _outcome(machine, began, LAPSE)


def tpm_reset(stage: Stage) -> Outcome:
    """The TPM alone is reset, and shows the log of the boot before."""
    with stage.machine("tpm-reset") as machine:
        machine.signal(signal.SIGKILL)
        began = time.monotonic()
        machine.node.tpm.reboot()
        machine.start()
        return _outcome(machine, began, LAPSE)


def tpm_clear(stage: Stage) -> Outcome:
    """TPM2_Clear sets the TPM's counters to zero."""
    with stage.machine("tpm-clear") as machine:
        machine.signal(signal.SIGKILL)
        began = time.monotonic()
        machine.clear()
        machine.start()
        return _outcome(machine, began, LAPSE)


def fork(stage: Stage) -> Outcome:
    """A copy of the running machine, its virtual TPM included, renews the same lease."""
    with stage.machine("original") as machine:
        folder = stage.folder / "copy"
        copy_state(machine, folder)
        state = machine.node.tpm.snapshot(folder / "tpm", live=True)
        with swtpm_process(state) as tpm, ESAPIDevice(tpm.tcti) as device:
            copy = Machine(folder, NodeOnSwtpm(tpm, device, machine.node.last_boot))
            machine.caller.keep()
            began = time.monotonic()
            try:
                copy.start()
                made = _outcome(machine, began, LAPSE)
            finally:
                copy.close()
        return dataclasses.replace(made, agent=made.agent + copy.said())


# -- what the operator ends


def revoked_node(stage: Stage) -> Outcome:
    """The operator revokes the node."""
    with stage.machine("revoked-node") as machine:
        began = time.monotonic()
        _revoke(stage, "node", machine.id)
        return _outcome(machine, began, PUSHED)


def revoked_lease(stage: Stage) -> Outcome:
    """The operator revokes one lease."""
    with stage.machine("revoked-lease") as machine:
        held = machine.caller.keep()
        began = time.monotonic()
        _revoke(stage, "lease", _claims(held).lease_id.hex())
        return _outcome(machine, began, PUSHED)


def revoked_lineage(stage: Stage) -> Outcome:
    """The operator revokes the lineage."""
    with stage.machine("revoked-lineage") as machine:
        held = machine.caller.keep()
        began = time.monotonic()
        _revoke(stage, "lineage", _claims(held).lineage.root.hex())
        return _outcome(machine, began, PUSHED)


def revoked_family(stage: Stage) -> Outcome:
    """The operator revokes all TPMs that one root vouches for."""
    root = load_pem_x509_certificate(stage.other_ca.roots_pem).fingerprint(SHA256()).hex()
    with stage.machine("revoked-family", ca=stage.other_ca) as machine:
        began = time.monotonic()
        _revoke(stage, "family", f"root:{root}")
        return _outcome(machine, began, PUSHED)


def revoked_reference(stage: Stage) -> Outcome:
    """The operator revokes the reference set that the machine booted after."""
    description = grub_description().with_command_line("quiet revocable")
    stage.register(reference_of(simulate_boot(description, BANKS), name=REVOCABLE))
    with stage.machine("revoked-reference", description=description) as machine:
        began = time.monotonic()
        _revoke(stage, "reference", REVOCABLE)
        return _outcome(machine, began, PUSHED)


def expired_reference(stage: Stage) -> Outcome:
    """The reference set that the machine booted after reaches its last second."""
    description = grub_description().with_command_line("quiet short")
    # It runs first: the machine is up long before.
    end = int(time.time()) + 25
    boot = simulate_boot(description, BANKS)
    stage.register(reference_of(boot, name=SHORT, not_after=end))
    with stage.machine("expired-reference", description=description) as machine:
        began = time.monotonic() + (end + 1 - time.time())
        time.sleep(max(0.0, began - time.monotonic()))
        return _outcome(machine, began, LAPSE)


def revoked_parent(stage: Stage) -> Outcome:
    """The lease that another was delegated from is revoked."""
    with stage.relying_party("--max-depth", "1") as tool, stage.machine("parent") as machine:
        parent = machine.caller.keep()
        child = delegate(stage, parent)
        caller = Caller.holding(tool, child)
        try:
            caller.wait_for_success(PATIENCE)
            began = time.monotonic()
            _revoke(stage, "lease", _claims(parent).lease_id.hex())
            caller.wait_for_silence(PUSHED + 4, quiet=1.2)
            return Outcome(max(0.0, caller.last_success() - began), caller.refused())
        finally:
            caller.close()


# -- what stands between


def verifier_errors(stage: Stage) -> Outcome:
    """The verifier answers the node with errors."""
    with stage.machine("errors") as machine:
        began = time.monotonic()
        stage.network.failing.add(machine.id)
        return _outcome(machine, began, LAPSE)


def network_cut(stage: Stage) -> Outcome:
    """The node does not reach its verifier any more."""
    with stage.machine("cut") as machine:
        began = time.monotonic()
        stage.network.cut.add(machine.id)
        return _outcome(machine, began, LAPSE)


def agent_killed(stage: Stage) -> Outcome:
    """The agent is killed; a thief has its files."""
    with stage.machine("killed") as machine:
        began = time.monotonic()
        machine.signal(signal.SIGKILL)
        return _outcome(machine, began, LAPSE)


def _skewed(stage: Stage, seconds: int) -> Outcome:
    with (
        stage.relying_party("--clock-offset", str(seconds)) as tool,
        stage.machine(f"clock-{seconds}") as machine,
    ):
        held = machine.caller.keep()
        answer = httpx2.get(tool, headers=held.headers(tool), trust_env=False, timeout=10)
        return Outcome(0.0 if answer.status_code != 200 else PATIENCE, answer.text)


def clock_fast(stage: Stage) -> Outcome:
    """The relying party's clock is a minute fast."""
    return _skewed(stage, 60)


def clock_slow(stage: Stage) -> Outcome:
    """The relying party's clock is a minute slow."""
    return _skewed(stage, -60)


def clock_rollback(stage: Stage) -> Outcome:
    """Nobody renews the lease, and when it is over the relying party's clock goes back a minute."""
    with (
        stage.tool_server("--clock-step", "-60") as (tool, process),
        stage.machine("clock-rollback", tool=tool) as machine,
    ):
        began = time.monotonic()
        machine.signal(signal.SIGKILL)
        machine.caller.wait_for_silence(LAPSE + 10, quiet=1.2)
        process.send_signal(signal.SIGUSR1)
        time.sleep(2 * CONTINUITY)
        return _outcome(machine, began, LAPSE)


# -- what a thief, or a holder who wants more, presents


def _presented(stage: Stage, name: str, change: Callable[[Stage, Held], Outcome]) -> Outcome:
    with stage.machine(name) as machine:
        return change(stage, machine.caller.keep())


def _ask(url: str, headers: dict[str, str]) -> Outcome:
    answer = httpx2.get(url, headers=headers, trust_env=False, timeout=10)
    return Outcome(0.0 if answer.status_code != 200 else PATIENCE, answer.text)


def stolen_token(stage: Stage) -> Outcome:
    """A thief has the token and not its key."""

    def steal(stage: Stage, held: Held) -> Outcome:
        thief = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
        return _ask(stage.tool, Held(held.token, thief).headers(stage.tool))

    return _presented(stage, "stolen", steal)


def replayed_proof(stage: Stage) -> Outcome:
    """A thief has seen a request, and sends it again."""

    def replay(stage: Stage, held: Held) -> Outcome:
        headers = held.headers(stage.tool)
        assert _ask(stage.tool, headers).seconds
        return _ask(stage.tool, headers)

    return _presented(stage, "replayed", replay)


def wrong_audience(stage: Stage) -> Outcome:
    """A token for one relying party is presented to another."""
    with stage.relying_party("--audience", "https://other.example") as tool:
        return _presented(stage, "audience", lambda _, held: _ask(tool, held.headers(tool)))


def wider_scope(stage: Stage) -> Outcome:
    """A token is presented where another scope is asked for."""
    with stage.relying_party("--scope", "tool:write") as tool:
        return _presented(stage, "scope", lambda _, held: _ask(tool, held.headers(tool)))


def deeper_chain(stage: Stage) -> Outcome:
    """A delegated token is presented where only the node's own count."""

    def pass_on(stage: Stage, held: Held) -> Outcome:
        return _ask(stage.tool, delegate(stage, held).headers(stage.tool))

    return _presented(stage, "depth", pass_on)


def delegate(stage: Stage, parent: Held) -> Held:
    """Return a child lease of one's lease."""
    child = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
    grant = grant_child(decode(parent.token), parent.signer, child.public)
    with httpx2.Client(trust_env=False, timeout=PATIENCE) as client:
        keys = FetchedKeys(f"{stage.direct}/.well-known/jwks.json", client=client)
        exchange = TokenExchange(stage.verifier.url, keys, client=client)
        return Held(exchange.exchange(decode(parent.token), grant, child).text, child)


# -- what concerns everybody: one after the other, and last


def relying_party_cut_off(stage: Stage) -> Outcome:
    """The verifier stops answering anybody, relying parties included (SIGSTOP)."""
    with stage.machine("cut-off") as machine:
        began = time.monotonic()
        os.kill(stage.verifier.pid, signal.SIGSTOP)
        try:
            return _outcome(machine, began, LAPSE)
        finally:
            os.kill(stage.verifier.pid, signal.SIGCONT)


def store_down(stage: Stage) -> Outcome:
    """The verifier's database cannot be written."""
    with stage.machine("store-down") as machine, stage.locked_store():
        began = time.monotonic()
        return _outcome(machine, began, LAPSE)


def epoch_revoked(stage: Stage) -> Outcome:
    """Another policy is activated with --revoke-now."""
    with stage.machine("epoch") as machine:
        machine.caller.keep()
        began = time.monotonic()
        stage.activate(revoke_now=True)
        return _outcome(machine, began, PUSHED)


def epoch_passed(stage: Stage) -> Outcome:
    """Another policy is activated; a lease of the one before is kept and not renewed."""
    with stage.machine("epoch-passed") as machine:
        machine.caller.keep()
        began = time.monotonic()
        stage.activate(revoke_now=False)
        return _outcome(machine, began, LAPSE)


def scope_withdrawn(stage: Stage) -> Outcome:
    """Another policy does not grant the scope any more."""
    with stage.machine("withdrawn") as machine:
        began = time.monotonic()
        stage.activate(revoke_now=False, scope="tool:other")
        try:
            return _outcome(machine, began, LAPSE)
        finally:
            stage.activate(revoke_now=False)


def verifier_killed(stage: Stage) -> Outcome:
    """The verifier is gone (SIGKILL)."""
    with stage.machine("verifier-killed") as machine:
        began = time.monotonic()
        stage.verifier.kill()
        return _outcome(machine, began, LAPSE)


_ENDED: Final = ("token.revoked",)
_OVER: Final = ("token.expired",)
_EITHER: Final = ("token.revoked", "token.expired")
_EARLY: Final = ("token.issued.future",)
_KEY: Final = ("pop.key.mismatch",)
_AUDIENCE: Final = ("token.audience.mismatch",)
_EPOCH: Final = ("token.epoch.too-old",)
_BACK: Final = ("token.expired",)
_STALE: Final = ("continuity.stale",)

APART: Final = (
    Row("expired reference", "the verifier, at the next renewal", LAPSE, expired_reference, _ENDED),
    Row("changed PCR", "the verifier, at the next renewal", LAPSE, changed_pcr, _ENDED),
    Row("unknown boot component", "the verifier, after the reboot", LAPSE, unknown_boot, _EITHER),
    Row("IMA violation", "the verifier, at the next renewal", LAPSE, ima_violation, _ENDED),
    Row("unlisted file", "the verifier, at the next renewal", LAPSE, unlisted_file, _ENDED),
    Row("bad quote", "the verifier; nothing is recorded", LAPSE, bad_quote, _OVER),
    Row("reboot", "the verifier: another lineage begins", LAPSE, rebooted, _EITHER),
    Row("TPM reset", "the verifier: the log does not replay", LAPSE, tpm_reset, _EITHER),
    Row("TPM clear", "the verifier: counters went back", LAPSE, tpm_clear, _EITHER),
    Row("fork", "the verifier: both lineages end", LAPSE, fork, _ENDED),
    Row("revoked node", "the relying party", PUSHED, revoked_node, _ENDED),
    Row("revoked lease", "the relying party", PUSHED, revoked_lease, _ENDED),
    Row("revoked lineage", "the relying party", PUSHED, revoked_lineage, _ENDED),
    Row("revoked TPM family", "the relying party", PUSHED, revoked_family, _ENDED),
    Row("revoked reference", "the relying party", PUSHED, revoked_reference, _ENDED),
    Row("revoked parent", "the relying party", PUSHED, revoked_parent, ("token.parent.revoked",)),
    Row("verifier answers errors", "time", LAPSE, verifier_errors, _OVER),
    Row("network cut", "time", LAPSE, network_cut, _OVER),
    Row("agent killed", "time", LAPSE, agent_killed, _OVER),
    Row("relying party's clock +60 s", "the relying party", AT_ONCE, clock_fast, _OVER),
    Row("relying party's clock -60 s", "the relying party", AT_ONCE, clock_slow, _EARLY),
    Row("clock rollback", "time, by a clock that nobody sets", LAPSE, clock_rollback, _BACK),
    Row("stolen token without key", "the relying party", AT_ONCE, stolen_token, _KEY),
    Row("replayed proof", "the relying party", AT_ONCE, replayed_proof, ("pop.replayed",)),
    Row("wrong audience", "the relying party", AT_ONCE, wrong_audience, _AUDIENCE),
    Row("wider scope", "the relying party", AT_ONCE, wider_scope, ("token.scope.insufficient",)),
    Row("deeper chain", "the relying party", AT_ONCE, deeper_chain, ("token.depth.exceeded",)),
)
"""What one node suffers, beside others."""

TOGETHER: Final = (
    Row("verifier hangs", "the relying party: no word", STALE, relying_party_cut_off, _STALE),
    Row("store down", "time", LAPSE, store_down, _OVER),
    Row("policy epoch, at once", "the relying party", PUSHED, epoch_revoked, _EPOCH),
    Row("policy epoch, one life later", "time", LAPSE, epoch_passed, (*_OVER, *_EPOCH)),
    Row("scope withdrawn", "the verifier, at the next renewal", LAPSE, scope_withdrawn, _ENDED),
    Row("verifier killed", "the relying party: no word", STALE, verifier_killed, _STALE),
)
"""What everybody suffers: one after the other, and last."""
