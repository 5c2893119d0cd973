"""MCP servers: FastMCP's authentication, by execution tokens with proof of possession.

Specifications: Model Context Protocol 2026-07-28, Authorization (the server as an OAuth resource
server); RFC 9728 (protected resource metadata, and ``resource_metadata`` in a challenge, §5.1);
RFC 9449 §7 (DPoP). Needs the extra ``bootlease[mcp]``; no other module imports FastMCP.

FastMCP hands a token verifier the token's text alone, from which possession cannot be proven. So
``LeaseVerifier`` brings its own middleware: every request is checked whole (``asgi``), one whose
lease ends is cut, and what FastMCP then sees is a caller who has been authenticated.

    FastMCP(
        "tools",
        auth=LeaseVerifier(checker, base_url="https://tools.example", scope="mcp:tools"),
        middleware=[AuthMiddleware(auth=ToolScopes({"search": "tool:search"}))],
    )

Not handled: FastMCP's stdio transport, which skips all authorization, ours with it; DPoP in
FastMCP's ``MultiAuth``, whose middleware takes bearer tokens only and finds none here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastmcp.server.auth import AccessToken, AuthContext, TokenVerifier
from mcp.server.auth.handlers.metadata import ProtectedResourceMetadataHandler
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.routes import build_resource_metadata_url, cors_middleware
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials
from starlette.middleware import Middleware
from starlette.routing import Route

from bootlease.relyingparty.asgi import STATE, LeaseMiddleware
from bootlease.relyingparty.checker import CheckedRequest, TokenChecker
from bootlease.relyingparty.guarded import App, Message, Receive, Scope, Send
from bootlease.relyingparty.rules import PUBLIC, Need
from bootlease.token import Algorithm, base64url
from bootlease.token.scope import any_covers, is_scope_name

METADATA: Final = "/.well-known/oauth-protected-resource"
_CHALLENGE: Final = b"www-authenticate"
_AUTHORIZATION: Final = b"authorization"


class LeaseVerifier(TokenVerifier):
    """Lets a request reach the MCP server whose sender proves a lease that counts."""

    def __init__(
        self,
        checker: TokenChecker,
        *,
        base_url: str,
        scope: str,
        scopes_supported: Sequence[str] = (),
        rules: Mapping[str, Need] | None = None,
        resource_base_url: str | None = None,
        resource_name: str | None = None,
    ) -> None:
        """Guard a server.

        Args:
            checker: Checks tokens and proofs. Its audience is the server's URL (RFC 8707), such as
                ``https://tools.example/mcp``: that is what the metadata tells clients to ask for.
            base_url: What precedes paths, as the server gets them, in the URLs that clients see.
            scope: Scope name that every request needs, whatever it asks for.
            scopes_supported: Other scope names that the server's tools ask for, for its metadata.
            rules: Rules beside the one for everything, such as ``{"GET /healthz": PUBLIC}``.
            resource_base_url: What precedes the MCP path in the server's URL, where it is another.
            resource_name: What to call the server, for its metadata.

        Raises:
            ValueError: ``scope`` or a rule is none.
        """
        if not is_scope_name(scope):
            raise ValueError(f"{scope!r:.80} is not a scope name")
        super().__init__(base_url=base_url, resource_base_url=resource_base_url)
        self._checker = checker
        self._clients_see = base_url
        self._scopes = tuple(dict.fromkeys((scope, *scopes_supported)))
        self._resource_name = resource_name
        self._metadata_url: str | None = None
        self._rules: Final[dict[str, Need]] = {
            "* /*": scope,
            **{
                f"{method} {METADATA}{rest}": PUBLIC
                for method in ("GET", "HEAD", "OPTIONS")
                for rest in ("", "/*")
            },
            **(rules or {}),
        }

    @property
    def scopes_supported(self) -> list[str]:
        """Scope names that clients may have to ask for."""
        return list(self._scopes)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Accept no token: who shows nothing but its text may have stolen it."""
        del token
        return None

    def get_middleware(self) -> list[Middleware]:
        """Return what checks each request before the server sees it."""
        return [
            Middleware(_Challenge, verifier=self),
            Middleware(
                LeaseMiddleware,
                checker=self._checker,
                base_url=self._clients_see,
                rules=self._rules,
            ),
            Middleware(_Authenticated),
            Middleware(AuthContextMiddleware),
        ]

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """Return the route of the server's metadata (RFC 9728 §3).

        Raises:
            ValueError: The checker wants tokens for another audience than the server's URL.
        """
        self.set_mcp_path(mcp_path)
        resource = self._resource_url
        if resource is None or self._checker.audience != str(resource):
            # A client would ask for a lease that this server then refuses.
            raise ValueError(f"the checker's audience is not the server's URL, {resource}")
        metadata = ProtectedResourceMetadata(
            resource=resource,
            authorization_servers=[AnyHttpUrl(self._checker.issuer)],
            scopes_supported=self.scopes_supported,
            bearer_methods_supported=None,
            resource_name=self._resource_name,
            dpop_signing_alg_values_supported=[algorithm.value for algorithm in Algorithm],
            dpop_bound_access_tokens_required=True,
        )
        url = build_resource_metadata_url(resource)
        self._metadata_url = str(url)
        handler = ProtectedResourceMetadataHandler(metadata)
        methods = ["GET", "OPTIONS"]
        return [
            Route(url.path or METADATA, cors_middleware(handler.handle, methods), methods=methods)
        ]

    def challenge(self) -> bytes:
        """Return what a challenge says besides: where to find out what is asked for."""
        scope = f', scope="{self._scopes[0]}"'
        where = f', resource_metadata="{self._metadata_url}"' if self._metadata_url else ""
        return f"{scope}{where}".encode("ascii")


class ToolScopes:
    """Demands a scope name for each tool, resource or prompt, by its name.

    An authorization check of FastMCP's: give it to ``AuthMiddleware``, which then also lists to a
    caller only what the caller may use. What is not in the table nobody may use.
    """

    def __init__(self, scopes: Mapping[str, str]) -> None:
        """Read the table.

        Raises:
            ValueError: It is empty, or has something that is no scope name.
        """
        wrong = [name for name in scopes.values() if not is_scope_name(name)]
        if wrong or not scopes:
            raise ValueError(f"{wrong[0]!r:.80} is not a scope name" if wrong else "an empty table")
        self._scopes: Final = dict(scopes)

    def __call__(self, context: AuthContext) -> bool:
        """Tell FastMCP whether the caller may use a component."""
        needed = self._scopes.get(context.component.name)
        token = context.token
        return needed is not None and token is not None and any_covers(token.scopes, needed)


class _Challenge:
    """Completes the challenges of whatever refuses with where the metadata is."""

    def __init__(self, app: App, verifier: LeaseVerifier) -> None:
        self._app = app
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def completing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._completed(message.get("headers", ()))]
            await send(message)

        await self._app(scope, receive, completing)

    def _completed(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
        for name, value in headers:
            more = self._verifier.challenge() if name.lower() == _CHALLENGE else b""
            yield name, value + more


class _Authenticated:
    """Tells FastMCP who was authenticated, in the form in which it asks."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        checked = scope.get("state", {}).get(STATE)
        if isinstance(checked, CheckedRequest):
            scope = _as_fastmcp_expects(scope, checked)
        await self._app(scope, receive, send)


def _as_fastmcp_expects(scope: Scope, checked: CheckedRequest) -> Scope:
    claims = checked.token.claims
    headers, text = [], ""
    for name, value in scope["headers"]:
        if name.lower() == _AUTHORIZATION:
            # FastMCP lets only this scheme pass. Behind us it says nothing that was not proven.
            text = value.decode("ascii").partition(" ")[2].strip(" ")
            headers.append((name, f"Bearer {text}".encode("ascii")))
        else:
            headers.append((name, value))
    token = AccessToken(
        token=text,
        # A session belongs to the key that opened it: another workload of the node has another.
        client_id=base64url.encode(checked.proof.thumbprint),
        scopes=list(claims.scope),
        expires_at=claims.expires_at,
        resource=claims.audience,
        subject=claims.subject,
        claims=claims.to_jwt(),
    )
    return {
        **scope,
        "headers": headers,
        "user": AuthenticatedUser(token),
        "auth": AuthCredentials(token.scopes),
    }
