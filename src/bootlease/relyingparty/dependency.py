"""FastAPI: a handler says which scope it needs, where it is written.

    app.add_middleware(LeaseMiddleware, checker=checker, base_url=..., rules={"* /*": BY_HANDLER})

    @app.get("/search")
    def search(caller: Annotated[CheckedRequest, Depends(require("tool:search"))]) -> ...

The middleware checks token and proof before the handler's arguments are read, cuts the answer when
the lease ends, and withholds the answer of a handler that required nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from bootlease.errors import VerificationError
from bootlease.relyingparty.checker import CheckedRequest
from bootlease.relyingparty.guarded import GUARD, Guarded
from bootlease.relyingparty.refusals import refusal_for
from bootlease.token.scope import is_scope_name


def require(scope: str) -> Callable[[HTTPConnection], Awaitable[CheckedRequest]]:
    """Return a dependency that demands a scope and gives the checked request.

    Raises:
        ValueError: ``scope`` is no scope name.
    """
    if not is_scope_name(scope):
        raise ValueError(f"{scope!r:.80} is not a scope name")

    async def required(connection: HTTPConnection) -> CheckedRequest:
        guarded = connection.scope.get(GUARD)
        if not isinstance(guarded, Guarded):
            # An application without the middleware, or a rule that made the path public.
            raise RuntimeError("LeaseMiddleware guards no such request")  # noqa: TRY004 - misuse
        try:
            return guarded.demand(scope)
        except VerificationError as exc:
            # Stops the handler; the middleware answers in its place.
            raise HTTPException(refusal_for(exc).status) from exc

    return required
