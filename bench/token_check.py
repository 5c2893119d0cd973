"""Token check beside the bare signature verification of the same key, in the same run.

Run: ``python bench/token_check.py [--json]``. The targets are printed beside the rows.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer, execution_claims
from bootlease.token import (
    ExecutionClaims,
    PrivateKeySigner,
    VerifiedToken,
    sign_cwt,
    sign_jwt,
    verify_token,
)

ROUNDS, CALLS = 40, 100


def median_us(*functions: Callable[[], object]) -> list[float]:
    """Return microseconds a call, interleaved so that a busy machine is busy for all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, kept in zip(functions, times, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                function()
            kept.append((time.perf_counter() - start) / CALLS * 1e6)
    return [statistics.median(kept) for kept in times]


def main() -> None:
    """Measure and print the table."""
    private = ec.derive_private_key(4712, ec.SECP256R1())
    public, scheme = private.public_key(), ec.ECDSA(hashes.SHA256())
    issuer = FakeIssuer()
    signer, keys = issuer.signer, issuer.keys
    cwt, jwt = sign_cwt(execution_claims(), signer), sign_jwt(execution_claims(), signer)
    data = bytes(1024)
    signature = private.sign(data, scheme)
    checker = TokenChecker(
        StaticKeys(keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=StaticContinuity(issuer.continuity(revoked=range(1 << 16, 1 << 17))),
        clock=lambda: float(NOW),
    )
    checker.check(jwt)
    distinct = iter([execution_claims(number) for number in range(2 * ROUNDS * CALLS)])

    def check(token: Callable[[], bytes | str]) -> Callable[[], VerifiedToken]:
        return lambda: verify_token(token(), keys, now=NOW, issuer=ISSUER, audience=AUDIENCE)

    def fresh(
        sign: Callable[[ExecutionClaims, PrivateKeySigner], bytes | str],
    ) -> Callable[[], Any]:
        return iter(
            [sign(execution_claims(number), signer) for number in range(ROUNDS * CALLS)]
        ).__next__

    gc.freeze()
    new_cwt, new_jwt = fresh(sign_cwt), fresh(sign_jwt)
    bare, signing, cwt_us, jwt_us, cwt_new, jwt_new, seen, sign_c, sign_j = median_us(
        lambda: public.verify(signature, data, scheme),
        lambda: private.sign(data, scheme),
        check(fresh(sign_cwt)),
        check(fresh(sign_jwt)),
        lambda: checker.check(new_cwt()),
        lambda: checker.check(new_jwt()),
        lambda: checker.check(jwt, scope="tools:read"),
        lambda: sign_cwt(next(distinct), signer),
        lambda: sign_jwt(next(distinct), signer),
    )
    rows = [
        ("bare P-256 verify", bare, None, None),
        ("bare P-256 sign", signing, None, None),
        (f"token check, CWT of {len(cwt)} B", cwt_us, cwt_us / bare, 1.4),
        (f"token check, JWT of {len(jwt)} B", jwt_us, jwt_us / bare, 1.7),
        ("CWT new to a checker, all it checks", cwt_new, cwt_new / bare, 1.4),
        ("JWT new to a checker, all it checks", jwt_new, jwt_new / bare, 1.7),
        ("token seen before, all of it", seen, None, None),
        ("sign CWT", sign_c, sign_c / signing, None),
        ("sign JWT", sign_j, sign_j / signing, None),
    ]
    if "--json" in sys.argv:
        print(json.dumps({name: round(us, 2) for name, us, _, _ in rows}))
        return
    for name, us, ratio, target in rows:
        ratio_text = "" if ratio is None else f"{ratio:5.2f}x"
        target_text = "" if target is None else f"(target {target}x)"
        print(f"{name:36} {us:8.2f} us  {ratio_text} {target_text}".rstrip())
    print(f"{'token seen before, a second':36} {1e6 / seen:8.0f}     (target 100000)")


if __name__ == "__main__":
    main()
