"""The operator's routes to whom is trusted to vouch for TPMs, and to what they revoked."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bootlease.endorsement import Certificate, RevocationList
from bootlease.ports import Act
from bootlease.verifier.routes.acts import act
from bootlease.verifier.routes.authentication import GATE, authenticate, json_answer
from bootlease.verifier.routes.contract import BODY, JSON, PEM, described, problems, success
from bootlease.verifier.routes.gate import with_upload
from bootlease.verifier.service import Service

router: Final = APIRouter(prefix="/v1/admin", dependencies=[Depends(authenticate)])


@router.post(
    "/roots",
    status_code=201,
    responses={
        201: success("The roots are trusted.", JSON),
        202: success("They wait for a second person.", JSON),
        **problems(*GATE, *BODY),
    },
    openapi_extra=described(body=PEM, admin=True),
    response_class=Response,
)
async def add_roots(request: Request) -> Response:
    """Trust CA certificates to vouch for TPMs, and take their revocation lists; PEM or DER."""
    service: Service = request.app.state.service
    done = await with_upload(
        request, PEM, service.limits.admin, lambda body: act(request, Act.ROOT, body)
    )
    return json_answer(done.members, done.status)


@router.get(
    "/roots",
    responses={
        200: success("The trusted CA certificates and revocation lists.", JSON),
        **problems(*GATE),
    },
    openapi_extra=described(admin=True),
    response_class=Response,
)
async def list_roots(request: Request) -> Response:
    """List the CAs that vouch for TPMs, and their revocation lists."""
    service: Service = request.app.state.service
    roots = service.registry.now.roots
    lists = {each.fingerprint: each for filed in roots.lists.values() for each in filed}
    return json_answer(
        {
            "roots": sorted(fingerprint.hex() for fingerprint in roots.anchors),
            "certificates": [_certificate(each) for each in roots.anchors.values()],
            "revocation_lists": [_revocation_list(each) for each in lists.values()],
        }
    )


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "fingerprint": certificate.fingerprint.hex(),
        "subject": certificate.subject_text,
        "not_after": certificate.not_after,
        "tolerated": sorted(each.value for each in certificate.tolerated),
    }


def _revocation_list(crl: RevocationList) -> dict[str, Any]:
    return {
        "fingerprint": crl.fingerprint.hex(),
        "issuer": crl.issuer_text,
        "number": crl.number,
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "revoked": len(crl.revoked),
    }
