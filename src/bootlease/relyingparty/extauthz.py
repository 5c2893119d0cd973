"""Envoy asks, this answers: an execution token is checked before a request passes the proxy.

Specification: Envoy's external authorization filter (``envoy.filters.http.ext_authz``, v3 API) with
``http_service``: the filter sends the request's method, path, ``Host`` and ``Authorization``, and
of the other headers those that ``allowed_headers`` names, which must have ``dpop``. 200 lets the
request pass; any other status below 500 is the client's answer; 5xx or silence is an error, which
``failure_mode_allow: false`` turns into a refusal. ``examples/envoy.yaml`` is a configuration.

Whoever reaches this service says what was asked for: only Envoy may reach it. Names that the
upstream shall believe are set here and must be taken out of what clients send, by Envoy, before it
asks: it asks with a few headers only.

Not handled: the filter's gRPC form; cutting an answer that outlives the lease, for the filter asks
once, when a request begins (bound it with ``max_stream_duration``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from bootlease.errors import BootleaseError, MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty.checker import CheckedRequest, TokenChecker
from bootlease.relyingparty.guarded import Receive, Scope, Send, refuse
from bootlease.relyingparty.headers import presented
from bootlease.relyingparty.refusals import refusal_for
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC, Need, Rules

NODE: Final = b"x-bootlease-node"
SCOPE: Final = b"x-bootlease-scope"
LEASE: Final = b"x-bootlease-lease"
EXPIRES: Final = b"x-bootlease-expires"
"""What the upstream is told: the node, all the scope of its lease, the lease's id and its end."""

_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


class Site:
    """One origin behind Envoy, and what its requests must be allowed to do."""

    def __init__(self, origin: str, checker: TokenChecker, rules: Mapping[str, Need]) -> None:
        """Prepare to judge.

        Args:
            origin: Scheme, host and port as clients see them, such as ``https://tools.example``;
                the URL that their proofs name begins with it.
            checker: Checks tokens for this site's audience.
            rules: Which scope each request needs, as ``Rules`` reads them.

        Raises:
            ValueError: ``origin`` is more than an origin, or a rule is none that a proxy can keep.
        """
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or not parts.hostname or origin != _origin(origin):
            raise ValueError(f"{origin!r:.80} is not an origin, such as https://tools.example")
        if BY_HANDLER in rules.values():
            raise ValueError("an upstream that demands scopes itself cannot withhold its answer")
        self.origin: Final = origin
        self.checker: Final = checker
        self.rules: Final = Rules(rules)

    @property
    def hosts(self) -> frozenset[str]:
        """What ``Host`` may say for it, in lower case: a default port may be spelled out."""
        scheme, _, name = self.origin.partition("://")
        spelled = {name} if urlsplit(self.origin).port else {name, f"{name}:{_PORTS[scheme]}"}
        return frozenset(spelled)


class ExtAuthz:
    """The ASGI application that Envoy asks; serve it where Envoy alone reaches it."""

    def __init__(self, sites: Sequence[Site]) -> None:
        """Answer for ``sites``.

        Raises:
            ValueError: There is none, or two have one host.
        """
        self._sites: Final = {host: site for site in sites for host in site.hosts}
        if not sites or len(self._sites) != sum(len(site.hosts) for site in sites):
            raise ValueError("each site has a host of its own, and there is one at least")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question of Envoy's."""
        del receive
        if scope["type"] != "http":
            raise ValueError(f"Envoy does not speak {scope['type']} to this service")
        try:
            told = await self._told(scope)
        except BootleaseError as exc:
            await refuse(scope, send, refusal_for(exc))
            return
        headers = [(name, value.encode("ascii")) for name, value in told.items()]
        headers.append((b"content-length", b"0"))
        await send({"type": "http.response.start", "status": _OK, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _told(self, scope: Scope) -> dict[bytes, str]:
        """Return what the upstream is told of a request that passes."""
        site, method, raw_path = self._site(scope), scope["method"], _raw_path(scope)
        need = site.rules.need(method, scope["path"], raw_path)
        if need is PUBLIC:
            return {}
        authorization, dpop = presented(scope["headers"])

        def check() -> CheckedRequest:
            return site.checker.check_request(
                authorization=authorization,
                dpop=dpop,
                method=method,
                url=site.origin + raw_path.decode("ascii"),
                scope=str(need),
            )

        # Keys and continuity may have to be fetched; meanwhile others are answered.
        claims = (await asyncio.to_thread(check)).token.claims
        return {
            NODE: claims.subject,
            SCOPE: " ".join(claims.scope),
            LEASE: claims.lease_id.hex(),
            EXPIRES: str(claims.expires_at),
        }

    def _site(self, scope: Scope) -> Site:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        site = self._sites.get(hosts[0].lower()) if len(hosts) == 1 else None
        if site is None:
            # Another host's requests would be judged by rules that were not written for it.
            raise VerificationError(
                Finding(
                    "request.scope.unknown-host",
                    "No rules are about this host.",
                    seen=" ".join(hosts)[:128],
                )
            )
        return site


def _raw_path(scope: Scope) -> bytes:
    raw_path = scope.get("raw_path")
    if not isinstance(raw_path, bytes) or not raw_path.startswith(b"/") or not raw_path.isascii():
        raise MalformedError("the request's target is no path")
    return raw_path.partition(b"?")[0]


def _origin(url: str) -> str:
    """Return the origin of a URL as ``Host`` and proofs spell it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    port = parts.port
    where = name if port in {None, _PORTS.get(parts.scheme)} else f"{name}:{port}"
    return f"{parts.scheme}://{where}"
