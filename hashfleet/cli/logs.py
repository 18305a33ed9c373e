"""How every long-running subcommand logs: one line per event on stderr, quiet libraries."""

from __future__ import annotations

import logging


def configure_logging(verbose: bool) -> None:
    """Log to stderr; `verbose` adds every lease and every question to the chain."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    for library in ("asyncio", "grpc", "alembic", "httpx2", "httpcore2", "websockets", "uvicorn", "mcp"):
        logging.getLogger(library).setLevel(logging.WARNING)
