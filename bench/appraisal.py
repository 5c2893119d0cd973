"""Appraisal, cold and warm, beside the bare signature operations of the same run.

Cold: an attestation key and a boot log nobody has seen: key, evidence, quote, parsing and replay
of a log of 99 events in 41 kB, what it means for Secure Boot, reference check. Machines of one
kind measure the same Secure Boot events, whose reading is kept as that of a certificate is; in the
second cold row these events are new too. Warm: a renewal by log digest in process, from evidence
bytes to a signed CWT, decision record included. The log and the node are synthetic.

Every call is timed alone, and the median counts: on a busy machine a long measurement is
interrupted more often than a short one, which would lengthen one side of the ratio only.

Run: ``python bench/appraisal.py [--json] [--profile]``.
"""

from __future__ import annotations

import cProfile
import gc
import hashlib
import json
import os
import pstats
import statistics
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import __version__
from bootlease.appraisal import (
    AppraisalCache,
    CodeIdentity,
    appraise,
    boot_log_of,
    build_claims,
    prior_after,
    record_decision,
)
from bootlease.eventlog import EventRecord, EventType
from bootlease.evidence import Challenge, parse_evidence, verify_evidence
from bootlease.lineage import HighWaterMark, head_after
from bootlease.model import HashAlg
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import Scene
from bootlease.token import PrivateKeySigner, VerifierID, sign_cwt
from bootlease.tpm import accept_attestation_key, parse_public

EVENTS: Final = 99
LOG_SIZE: Final = 41_000
COLD_TARGET: Final = 7.0
COLD_TARGET_US: Final = 450.0
WARM_TARGET: Final = 2.0
NODES: Final = 40
ROUNDS: Final = 60
CALLS: Final = 20
_BANK: Final = HashAlg.SHA256
DEMANDING: Final = make_policy(
    boot__secure_boot='"required"',
    boot__unsafe_setup_mode='"refuse"',
    boot__unsafe_test_keys='"refuse"',
    boot__unsafe_shim_validation='"refuse"',
)
"""A policy that reads what the log means."""

_CODE: Final = CodeIdentity(__version__, bytes(32))
_VERIFIER: Final = VerifierID("bootlease", f"bootlease {__version__}")


def long_boot(salt: int = 0, *, of_its_own_kind: bool = False) -> SimulatedBoot:
    """Return the simulated GRUB machine with boot variables added up to ``EVENTS``.

    Args:
        salt: Another number gives another log that leads to other PCR values.
        of_its_own_kind: It gives other Secure Boot events too.
    """
    events = list(simulate_boot(grub_description()).events)
    if of_its_own_kind:
        text = b"firmware of kind %d" % salt
        events.insert(1, EventRecord(7, EventType.EV_EFI_ACTION, {_BANK: _BANK.digest(text)}, text))
    missing = EVENTS - 1 - len(events)
    room = LOG_SIZE - len(boot_of_events(events, (_BANK,)).event_log)
    size = room // missing - 50
    for number in range(missing):
        data = (salt << 16 | number).to_bytes(4, "little") + bytes(size - 4)
        digests = {_BANK: _BANK.digest(data)}
        events.insert(1, EventRecord(1, EventType.EV_EFI_VARIABLE_BOOT, digests, data))
    return boot_of_events(events, (_BANK,))


def medians(*functions: Callable[[], object]) -> list[float]:
    """Return microseconds a call, interleaved so that a busy machine is busy for all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, kept in zip(functions, times, strict=True):
            function()  # brings back what the function before it pushed out of the cache
            for _ in range(CALLS):
                start = time.perf_counter()
                function()
                kept.append((time.perf_counter() - start) * 1e6)
    return [statistics.median(kept) for kept in times]


def cold(
    ca: LocalCA, count: int = ROUNDS * (CALLS + 1), *, of_its_own_kind: bool = False
) -> tuple[Callable[[], object], int]:
    """Return one cold appraisal of ``count``, and how large its evidence is.

    Every call has another boot, and the node of every call is another than those before, so that
    nothing which is kept by key, log or PCR values helps.
    """
    scenes = [Scene.create(ca, long_boot(), policy=DEMANDING) for _ in range(NODES)]
    for scene in scenes:
        scene.policy = scenes[0].policy  # a verifier has one in force
    ready = []
    for number in range(count):
        scene = scenes[number % NODES]
        boot = long_boot(number, of_its_own_kind=of_its_own_kind)
        scene.node.boot(boot)
        challenge = scene.challenge()
        ready.append((scene, golden_reference(boot), challenge, scene.document(challenge)))
    turn = cycle(ready)

    def run() -> None:
        scene, reference, challenge, document = next(turn)
        key = accept_attestation_key(parse_public(scene.enrolment.ak_public))
        evidence = verify_evidence(parse_evidence(document), challenge, key, now=scene.now)
        log = boot_log_of(evidence, scene.policy.policy.quote.banks)
        result = appraise(
            evidence,
            log,
            challenge=challenge,
            prior=None,
            high_water=HighWaterMark(),
            enrolment=scene.enrolment,
            roots=scene.roots,
            references=(reference,),
            policy=scene.policy,
            now=scene.now,
        )
        if not result.accepted:
            raise RuntimeError(str(result.findings))

    return run, len(ready[0][3])


def warm(scene: Scene, count: int = NODES) -> tuple[Callable[[], object], int]:
    """Return one renewal of a chain of ``count``, and how large its evidence is.

    They are few, because what a request brings and what the store returns for it is in the
    processor's cache when appraisal begins.
    """
    signer = PrivateKeySigner(ec.derive_private_key(4713, ec.SECP256R1()))
    cache = AppraisalCache(lock=threading.Lock())
    scene.cache = cache
    scene.begin()
    prior = scene.prior
    if prior is None:
        raise RuntimeError("the lineage did not begin")
    ready: list[tuple[Challenge, bytes]] = []
    for _ in range(count):
        challenge = scene.challenge()
        document = scene.attest(challenge, previous=prior.head, full=False).encode()
        ready.append((Challenge.parse(challenge.encode()), document))
    turn = cycle(ready)
    mark = HighWaterMark.of(prior.clock_info)
    lease_id = hashlib.sha256(b"lease").digest()[:16]
    previous = hashlib.sha256(b"decision").digest()

    def run() -> None:
        challenge, document = next(turn)
        evidence = verify_evidence(parse_evidence(document), challenge, scene.key, now=scene.now)
        result = appraise(
            evidence,
            None,
            challenge=challenge,
            prior=prior,
            high_water=mark,
            enrolment=scene.enrolment,
            roots=scene.roots,
            references=scene.references,
            policy=scene.policy,
            now=scene.now,
            cache=cache,
        )
        record = record_decision(
            result,
            challenge=challenge,
            prior=prior,
            high_water=mark,
            enrolment=scene.enrolment,
            roots=scene.roots,
            lease_ids=(lease_id,),
            issuer="https://verifier.example",
            code=_CODE,
            previous=previous,
            now=scene.now,
        )
        claims = build_claims(
            result,
            result.leases[0],
            lease_id=lease_id,
            decision=record.digest,
            issuer="https://verifier.example",
            verifier=_VERIFIER,
            now=scene.now,
        )
        sign_cwt(claims, signer)
        prior_after(result, head_after((claims.digest,)), evidence.log_digests)

    return run, len(ready[0][1])


def main() -> None:
    """Measure and print the table."""
    # One core for the whole run: moving between cores costs both sides of the ratio unequally.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ca = LocalCA.create()
    cold_call, cold_size = cold(ca)
    warm_call, warm_size = warm(Scene.create(ca, long_boot()))
    if "--profile" in sys.argv:
        profile(warm_call)
        profile(cold_call)
        return
    private = ec.derive_private_key(4712, ec.SECP256R1())
    public, scheme = private.public_key(), ec.ECDSA(hashes.SHA256())
    data = bytes(145)
    signature = private.sign(data, scheme)
    gc.collect()
    gc.freeze()
    verify, sign, pair, cold_us, warm_us = medians(
        lambda: public.verify(signature, data, scheme),
        lambda: private.sign(data, scheme),
        lambda: (public.verify(signature, data, scheme), private.sign(data, scheme)),
        cold_call,
        warm_call,
    )
    # By itself: what all of its calls keep ready would push the others' out of the cache.
    del cold_call
    gc.unfreeze()
    new_call, new_size = cold(ca, of_its_own_kind=True)
    gc.collect()
    gc.freeze()
    verify_again, new_us = medians(lambda: public.verify(signature, data, scheme), new_call)
    # A renewal cannot keep to one of the two either: it is measured against both in turn. That is
    # no easier, for the pair takes what its halves take alone.
    rows: list[tuple[str, float, float | None, float | None]] = [
        ("bare P-256 verify", verify, None, None),
        ("bare P-256 sign", sign, None, None),
        ("bare verify and sign in turn", pair, None, None),
        (f"cold appraisal, {cold_size} B", cold_us, cold_us / verify, COLD_TARGET),
        (f"cold, Secure Boot new, {new_size} B", new_us, new_us / verify_again, None),
        (f"warm renewal, {warm_size} B", warm_us, warm_us / pair, WARM_TARGET),
    ]
    if "--json" in sys.argv:
        print(json.dumps({name: round(us, 1) for name, us, _, _ in rows}))
        return
    for name, us, ratio, target in rows:
        ratio_text = "" if ratio is None else f"{ratio:5.2f}x"
        target_text = "" if target is None else f"(target {target:.0f}x)"
        print(f"{name:33} {us:8.1f} us  {ratio_text} {target_text}".rstrip())


def profile(function: Callable[[], object]) -> None:
    """Print where one function spends its time."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(ROUNDS * CALLS):
        function()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(28)


if __name__ == "__main__":
    main()
