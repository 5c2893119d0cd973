"""An MCP server whose tools are there for whoever proves a lease that covers them.

    python examples/mcp_server.py --issuer https://verifier.example --url https://tools.example

Leases for it have the audience URL/mcp and the scope mcp:documents, and one for each tool. Needs
the extra bootlease[mcp].
"""

from __future__ import annotations

import argparse

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token
from fastmcp.server.middleware import AuthMiddleware

from bootlease.relyingparty import FetchedKeys, StreamedContinuity, TokenChecker
from bootlease.relyingparty.mcp import LeaseVerifier, ToolScopes

SCOPE = "mcp:documents"
TOOLS = {"search": "tool:search", "remove": "tool:remove", "whoami": SCOPE}


def checker_for(issuer: str, url: str) -> TokenChecker:
    """Return what checks the tokens of one verifier's nodes for the server at ``url``."""
    keys = FetchedKeys(f"{issuer}/.well-known/jwks.json")
    continuity = StreamedContinuity(f"{issuer}/v1/continuity", keys, issuer=issuer)
    return TokenChecker(keys, issuer=issuer, audience=f"{url}/mcp", continuity=continuity)


def server(checker: TokenChecker, url: str) -> FastMCP[None]:
    """Return the server; ``url`` is how clients reach it."""
    mcp: FastMCP[None] = FastMCP(
        "documents",
        auth=LeaseVerifier(
            checker, base_url=url, scope=SCOPE, scopes_supported=sorted(TOOLS.values())
        ),
        middleware=[AuthMiddleware(auth=ToolScopes(TOOLS))],
    )

    @mcp.tool
    def search(query: str) -> str:
        """Search the documents."""
        return f"42 documents about {query}"

    @mcp.tool
    def remove(name: str) -> str:
        """Remove a document."""
        return f"{name} is gone"

    @mcp.tool
    def whoami() -> str:
        """Tell which node the caller runs on."""
        token = get_access_token()
        return token.subject or "" if token else ""

    return mcp


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--issuer", required=True, help="URL of the verifier")
    parser.add_argument("--url", required=True, help="how clients reach this server")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    mcp = server(checker_for(options.issuer, options.url), options.url)
    mcp.run("http", host="127.0.0.1", port=options.port, show_banner=False)


if __name__ == "__main__":
    main()
