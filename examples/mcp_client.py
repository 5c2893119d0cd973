"""Calls a tool of examples/mcp_server.py with the lease that the node's agent holds.

    bootlease node run --token-file token --key-file key.pem ... &
    python examples/mcp_client.py --url https://tools.example --token token --key key.pem kernels

Every request carries the token that counts then, and a proof of possession of its own.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from bootlease.relyingparty.auth import LeaseAuth
from bootlease.relyingparty.tokensource import FileTokenSource, TokenSource


def client(url: str, source: TokenSource) -> Client[StreamableHttpTransport]:
    """Return a client of the server at ``url``."""
    auth = LeaseAuth(source, origin=url)
    return Client(StreamableHttpTransport(f"{url}/mcp", auth=auth))


async def search(url: str, source: TokenSource, query: str) -> str:
    """Call the tool and return what it says."""
    async with client(url, source) as session:
        return str((await session.call_tool("search", {"query": query})).data)


def main() -> None:
    """Search once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="how the server is reached")
    parser.add_argument("--token", type=Path, required=True, help="kept by the node's agent")
    parser.add_argument("--key", type=Path, required=True, help="the same")
    parser.add_argument("query")
    options = parser.parse_args()
    source = FileTokenSource(options.token, options.key)
    print(asyncio.run(search(options.url, source, options.query)))


if __name__ == "__main__":
    main()
