"""A model hub on 127.0.0.1: the endpoints that huggingface_hub asks, and the faults of real ones.

Small files are answered for themselves. Weights are answered by a redirect to a store of another
host, with a signature in its address, as the hub's are.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack", ".onnx")
SIGNATURE = "X-Amz-Signature=secret-of-the-store"


@dataclass
class Repository:
    """Files by commit, commits by branch or tag, and who may have them."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    token: str | None = None  # who reads it must show this one
    gated: bool = False  # nobody's terms are accepted yet

    def commit_of(self, revision: str) -> str | None:
        named = {**self.branches, **self.tags}
        return named.get(revision) or (revision if revision in self.commits else None)


@dataclass(frozen=True)
class Asked:
    """A request as it came; names of headers in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    sent: list[int]  # bytes of the answer


@dataclass
class Fault:
    """What happens, once for each, to requests whose path holds some words."""

    where: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None  # bytes of the answer's body, then the connection breaks
    stall: float = 0.0  # seconds before it does
    times: int = 1


class Hub:
    """The hub itself; `url` is for HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.ignores_ranges = False
        self.seconds_a_part = 0.0
        self.lock = threading.Lock()
        handler = type("_OfHub", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = f"http://localhost:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, repo: str, files: Mapping[str, bytes], **more: Any) -> Repository:
        """A repository with one commit, on main."""
        commit = hashlib.sha1(repo.encode()).hexdigest()
        made = Repository({commit: dict(files)}, {"main": commit}, **more)
        self.repositories[repo] = made
        return made

    def fetched(self, method: str = "GET") -> list[str]:
        """The names of the files that were asked for, sorted, each once."""
        paths = [urlsplit(one.path).path for one in self.asked if one.method == method]
        return sorted(
            {p.split("/resolve/")[1].partition("/")[2] for p in paths if "/resolve/" in p}
        )

    def ranges(self) -> list[str]:
        """The ranges of bytes that were asked for of the store, in order."""
        return [one.headers.get("range", "all") for one in self.asked if "/store/" in one.path]

    def next_fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.where in path:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that listens as long as it is needed."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        sent: list[int] = []
        self._asked = Asked(
            self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, sent
        )
        with self.hub.lock:
            self.hub.asked.append(self._asked)
        self._fault = self.hub.next_fault(self.path)
        if self._fault is not None and self._fault.status:
            self._send(self._fault.status, self._fault.body, dict(self._fault.headers))
            return
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/store/"):
            self._of_store(path.removeprefix("/store/"))
        elif path.startswith("/api/models/"):
            self._of_api(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            repo, _, rest = path.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._of_file(repo, revision, name)
        else:
            self._send(404, b"Not Found", {})

    def _refused(self, repo: str, *, listing: bool) -> Repository | None:
        """The repository; None where it was refused, and that was answered."""
        found = self.hub.repositories.get(repo)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if found is None:
            # The hub tells nobody without a token which private ones there are.
            self._error(404 if given else 401, "RepoNotFound", "Repository not found")
        elif found.token is not None and given and given != found.token:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif found.token is not None and not given:
            self._error(401, "RepoNotFound", "Invalid username or password.")
        elif found.gated and not listing:
            said = f"Access to model {repo} is restricted."
            self._error(403 if given else 401, "GatedRepo", said)
        else:
            return found
        return None

    def _of_api(self, path: str) -> None:
        for middle in ("/revision/", "/tree/"):
            repo, found, revision = path.partition(middle)
            if found:
                break
        else:
            repo, revision = path, "main"
        wants_refs = path.endswith("/refs")
        repo = repo.removesuffix("/refs")
        repository = self._refused(repo, listing=True)
        if repository is None:
            return
        if wants_refs:
            self._json({"branches": _refs(repository.branches), "converts": [],
                        "tags": _refs(repository.tags)})  # fmt: skip
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif "/tree/" in path:
            self._json([_entry(n, c) for n, c in repository.commits[commit].items()])
        else:
            names = [{"rfilename": name} for name in repository.commits[commit]]
            self._json({"id": repo, "modelId": repo, "sha": commit, "siblings": names})

    def _of_file(self, repo: str, revision: str, name: str) -> None:
        repository = self._refused(repo, listing=False)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        content = repository.commits[commit].get(name)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name.endswith(LARGE):
            checksum = hashlib.sha256(content).hexdigest()
            headers |= {
                "X-Linked-Etag": f'"{checksum}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"{self.hub.store}/store/{checksum}?{SIGNATURE}",
            }
            self._send(302, b"", headers)
        else:
            self._send(200, content, {**headers, "ETag": f'"{_git_id(content)}"'})

    def _of_store(self, checksum: str) -> None:
        contents = (
            content
            for repository in self.hub.repositories.values()
            for files in repository.commits.values()
            for content in files.values()
        )
        content = next(c for c in contents if hashlib.sha256(c).hexdigest() == checksum)
        wanted = self.headers.get("Range")
        if wanted is None or self.hub.ignores_ranges:
            self._send(200, content, {})
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        end = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], {"Content-Range": end})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = self._fault
        cut = fault.cut_after if fault is not None else None
        part = 4096 if self.hub.seconds_a_part else max(len(body), 1)
        whole = body if cut is None else body[:cut]
        for start in range(0, len(whole), part):
            try:
                self.wfile.write(whole[start : start + part])
                self.wfile.flush()
            except OSError:
                break
            self._asked.sent.append(len(whole[start : start + part]))
            time.sleep(self.hub.seconds_a_part)
        if cut is not None:
            time.sleep(fault.stall if fault is not None else 0)
            self.close_connection = True
            self.connection.close()


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file", "path": name, "size": len(content), "oid": _git_id(content),
    }  # fmt: skip
    if name.endswith(LARGE):
        checksum = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": checksum, "size": len(content), "pointerSize": 134}
    return entry


def _refs(names: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
        for name, commit in names.items()
    ]


def cut(where: str, *, after: int, times: int = 1) -> Fault:
    """The connection breaks in the middle of an answer."""
    return Fault(where, cut_after=after, times=times)
