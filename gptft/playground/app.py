"""An engine -> a web application for one person on this machine.

Other pages that the person has open must not reach it: it answers only to its own address, which a
foreign name that points here (DNS rebinding) isn't, takes only JSON that its own page sent, and
hands out no permission to others.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from threading import Event
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gptft.errors import GptftError
from gptft.playground.engine import Engine, Stopped
from gptft.playground.page import page_html

_MOST_BYTES = 1_000_000  # of a request
_POLICY = "default-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
_TYPES = {"css": "text/css", "js": "text/javascript"}
# Where each file is: a package, and a path in it.
_FILES = {
    "/play.css": ("gptft.playground", "static/play.css"),
    "/play.js": ("gptft.playground", "static/play.js"),
    "/style.css": ("gptft.report", "templates/style.css"),
}


def create_app(engine: Engine, *, port: int) -> ASGIApp:
    """The application.

    Args:
        engine: what answers.
        port: that it is served on, on 127.0.0.1.
    """
    routes = [Route(path, _static(*place)) for path, place in _FILES.items()]
    routes += [
        Route("/", _Page(engine)),
        Route("/favicon.ico", _nothing),
        Route("/about", _About(engine)),
        Route("/write", _Write(engine), methods=["POST"]),
        Route("/next", _Next(engine), methods=["POST"]),
        Route("/explain", _Explain(engine)),
    ]
    return _Guard(Starlette(routes=routes), port=port)


class _Guard:
    """Refuses what doesn't come from the page itself, and sends the headers that shut it off."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self._app = app
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await JSONResponse({"error": problem}, status_code=403)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] += [
                    (name, value) for name, value in _headers() if name not in own
                ]
            await send(message)

        await self._app(scope, receive, with_headers)

    def _problem(self, scope: Scope) -> str | None:
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if headers.get("host", "").lower() not in self._hosts:
            return "This address isn't the page's own."
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://").lower() not in self._hosts:
            return "Another page has asked."
        if scope["method"] == "POST":
            if not headers.get("content-type", "").startswith("application/json"):
                return "Only JSON is taken."
            if not headers.get("content-length", "x").isdigit():
                return "A request says how long it is."
            if int(headers["content-length"]) > _MOST_BYTES:
                return f"A request has at most {_MOST_BYTES:,} bytes."
        return None


def _headers() -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", _POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


def _static(package: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(package).joinpath(name).read_bytes()

    async def serve(request: Request) -> Response:
        return Response(content, media_type=_TYPES[name.rpartition(".")[2]])

    return serve


async def _nothing(request: Request) -> Response:
    return Response(status_code=204)


class _Answer(ABC):
    """What answers one kind of request; a mistake in it is one line."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self.answer(Request(scope, receive))
        except GptftError as error:
            response = self.refusal(str(error))
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, request: Request) -> Response:
        """What is sent back."""

    def refusal(self, message: str) -> Response:
        """What is sent back for a mistake."""
        return JSONResponse({"error": message}, status_code=400)


class _Page(_Answer):
    """The page, its words in the engine's language."""

    async def answer(self, request: Request) -> Response:
        return HTMLResponse(page_html(self._engine.words, prompt=self._engine.prompt))


class _About(_Answer):
    """Names, strategies and settings."""

    async def answer(self, request: Request) -> Response:
        return JSONResponse(self._engine.about())


class _Next(_Answer):
    """The next token's distribution."""

    async def answer(self, request: Request) -> Response:
        asked = await _asked(request)
        return JSONResponse(
            await run_in_threadpool(self._engine.next_tokens, asked["prompt"], asked["settings"])
        )


class _Explain(_Answer):
    """The page of `gptft explain`, which has a policy of its own in it."""

    async def answer(self, request: Request) -> Response:
        query = request.query_params
        lang: Literal["en", "ru"] = "ru" if query.get("lang") == "ru" else "en"
        page = await run_in_threadpool(self._engine.explanation, query.get("prompt", ""), lang)
        return HTMLResponse(page, headers={"content-security-policy": "frame-ancestors 'self'"})

    def refusal(self, message: str) -> Response:
        return Response(message, status_code=400, media_type="text/plain")


class _Write(_Answer):
    """A text as it is written, a line of JSON for each stretch, and then all of it."""

    async def answer(self, request: Request) -> Response:
        lines = self._lines(await _asked(request))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def _lines(self, asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
        loop, gone = asyncio.get_running_loop(), Event()
        lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def put(line: dict[str, Any] | None) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        def work() -> None:
            try:
                done = self._engine.write(
                    asked["prompt"], asked["settings"], which=asked.get("which", "model"),
                    tell=lambda text: put({"text": text}), gone=gone,
                )  # fmt: skip
                put({"done": done})
            except Stopped:
                pass
            except GptftError as error:
                put({"error": str(error)})
            except Exception as error:  # said in the page; the server goes on
                put({"error": f"{type(error).__name__}: {error}"})
            finally:
                put(None)

        working = loop.run_in_executor(None, work)
        try:
            while (line := await lines.get()) is not None:
                yield json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        finally:
            gone.set()
        await working


async def _asked(request: Request) -> dict[str, Any]:
    """What a page asks: a prompt and settings.

    Raises:
        GptftError: it is no such object.
    """
    try:
        asked = json.loads(await request.body())
    except (ValueError, RecursionError):
        asked = None
    if (
        not isinstance(asked, dict)
        or not isinstance(asked.get("prompt"), str)
        or not isinstance(asked.get("settings"), dict)
        or asked.get("which", "model") not in ("model", "base")
    ):
        raise GptftError("A request is an object with prompt and settings.")
    return asked
