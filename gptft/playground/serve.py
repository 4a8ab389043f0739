"""An application -> a server on 127.0.0.1 that runs until Ctrl-C."""

import socket
from collections.abc import Callable

import uvicorn

from gptft.errors import RunError
from gptft.playground.app import create_app
from gptft.playground.engine import Engine

_HOST = "127.0.0.1"


def listen(port: int | None) -> socket.socket:
    """A socket on this machine alone.

    Args:
        port: 0 for any that is free; None for 8000, or any where that is taken.

    Raises:
        RunError: the port is taken, or may not be used.
    """
    own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((_HOST, 8000 if port is None else port))
    except OSError as error:
        if port is None:
            own.bind((_HOST, 0))
            return own
        own.close()
        raise RunError(
            f"Port {port} can't be used: {error.strerror}. Give another with --port, or 0 for any."
        ) from None
    return own


def serve(engine: Engine, own: socket.socket, *, ready: Callable[[str], None]) -> None:
    """Serve the page until the process is told to end.

    Args:
        engine: what answers.
        own: see `listen`.
        ready: given the address.
    """
    port = int(own.getsockname()[1])
    config = uvicorn.Config(
        create_app(engine, port=port), log_level="warning", lifespan="off", ws="none",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    ready(f"http://{_HOST}:{port}/")
    uvicorn.Server(config).run(sockets=[own])
