"""What the hub's client raises -> why a repository can't be had, and the way out, in one line.

No message quotes a token, nor an address, which may hold a signature.
"""

import json
from contextlib import suppress
from difflib import get_close_matches

from gptft.files import is_disk_full
from gptft.models.hub_cache import cache_folder
from gptft.terminal.words import first_of

_LOG_IN = "log in (hf auth login), or set HF_TOKEN"
_REASON = 300  # characters
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_LISTED = 5
_OURS = {"LocalProtocolError", "UnsupportedProtocol"}  # what is asked is wrong, not the network
_PROXY = "Check HTTPS_PROXY: http://name:password@host:port."


def endpoint() -> str:
    """Where the hub is: $HF_ENDPOINT, else https://huggingface.co."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of the hub's client is about."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    status = status_of(error)
    if status is not None:
        return status in _BUSY
    return "TransportError" in _kinds(error) and not _kinds(error) & _OURS


def asked_to_wait(error: BaseException) -> float:
    """Seconds that the hub says to wait; 0 where it doesn't."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = str(headers.get("Retry-After") or "").strip()
    if said.isdecimal():
        return float(said[:6])
    with suppress(Exception):  # the header of a draft, in a form of its own
        from huggingface_hub.utils import parse_ratelimit_headers

        limit = parse_ratelimit_headers(headers)
        return float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0
    return 0.0


def why_unavailable(error: BaseException, *, repo: str, revision: str) -> tuple[str, str]:
    """Why a repository can't be had, without a full stop, and what to do, as sentences."""
    error = _cause(error)
    status, kinds = status_of(error), _kinds(error)
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE is set", _fetch_elsewhere(repo, revision)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        full = "Make room" if is_disk_full(error) else "See who may write there"
        return (
            f"the hub client's cache can't be written: {error.strerror}",
            f"{full} ({cache_folder()}), or set HF_HOME to another folder.",
        )
    if "HFValidationError" in kinds:
        return "it is no name that a hub id can have", "Check the name."
    if "RevisionNotFoundError" in kinds:
        return f"it has no revision {revision!r}", _revisions(repo, revision)
    if status is not None:
        return _of_status(status, error, repo=repo)
    if "TransportError" in kinds:
        return _of_network(error, repo=repo, revision=revision)
    if isinstance(error, json.JSONDecodeError):
        return (
            f"what answers at {endpoint()} isn't a model hub",
            "Log in to the network where it asks for that, or check HF_ENDPOINT.",
        )
    return reason_of(error), "Check the name, HF_ENDPOINT and HTTPS_PROXY, or give a local folder."


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without a token in it."""
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return without_token(said)[:_REASON].strip().rstrip(".")


def without_token(text: str) -> str:
    """A text in which no token of the hub stands."""
    from huggingface_hub import get_token

    with suppress(Exception):  # it may be asked from a server
        if token := get_token():
            return text.replace(token, "<token>")
    return text


def _cause(error: BaseException) -> BaseException:
    """What a client's error that speaks of the cache alone was raised for."""
    while "LocalEntryNotFoundError" in _kinds(error) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _kinds(error: BaseException) -> set[str]:
    """The names of an error's classes; those of httpx aren't ours to import."""
    return {kind.__name__ for kind in type(error).__mro__}


def _fetch_elsewhere(repo: str, revision: str) -> str:
    at = "" if revision == "main" else f" --revision {revision}"
    return (
        f"Unset it; or, where there is a network, fetch it into a cache that this machine sees: "
        f"hf download {repo}{at}"
    )


def _revisions(repo: str, revision: str) -> str:
    names: list[str] = []
    with suppress(Exception):  # it is asked only to say more
        from huggingface_hub import HfApi

        refs = HfApi().list_repo_refs(repo)
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
    if near := get_close_matches(revision, names, n=1):
        return f"Did you mean {near[0]}?"
    known = f"It has {first_of(names, _LISTED)}. " if names else ""
    return f"{known}Give a branch, a tag or the 40 digits of a commit."


def _of_status(status: int, error: BaseException, *, repo: str) -> tuple[str, str]:
    from huggingface_hub import get_token

    with_token = False
    with suppress(Exception):
        with_token = bool(get_token())
    page = f"{endpoint()}/{repo}"
    if "GatedRepoError" in _kinds(error):
        then = "wait until its owner lets you in" if with_token else _LOG_IN
        return (
            f"its owner asks who uses it ({status})",
            f"Accept the terms at {page}, then {then}.",
        )
    if status == 401 and with_token:
        return (
            "the hub doesn't accept your token, or has no such repository (401)",
            "Check the name; a token may be out of date: log in anew (hf auth login), or set "
            "HF_TOKEN to another.",
        )
    if status in (401, 404):
        rights = "your token must have the right to read it" if with_token else _LOG_IN
        return (
            f"there is no such repository at {endpoint()}, or it is private ({status})",
            f"Check the name; for a private one {rights}.",
        )
    if status == 403:
        rights = "Give your token the right to read it" if with_token else _LOG_IN.capitalize()
        return f"the hub refuses it (403: {reason_of(error)})", f"{rights}; see {page}."
    if status == 407:
        return "the proxy asks for a name and a password (407)", _PROXY
    if status in _BUSY:
        seconds = asked_to_wait(error)
        later = f"in {seconds:,.0f} s" if seconds else "later"
        why = "it was asked too often from here" if status == 429 else "it is out of order"
        also = " With a token more is allowed." if status == 429 and not with_token else ""
        return f"{why} ({status})", f"Run the same again {later}.{also}"
    return f"{endpoint()} answers {status}", "Check HF_ENDPOINT, or try again later."


def _of_network(error: BaseException, *, repo: str, revision: str) -> tuple[str, str]:
    said = f"{endpoint()} can't be reached: {reason_of(error)}"
    if "UnsupportedProtocol" in _kinds(error):
        return (
            f"HF_ENDPOINT or a proxy is no address ({endpoint()})",
            "Each begins with https:// or http://.",
        )
    if "LocalProtocolError" in _kinds(error):
        return "your token isn't one: it holds a character that none has", f"Anew, {_LOG_IN}."
    if "ProxyError" in _kinds(error):
        return f"the proxy refuses: {reason_of(error)}", _PROXY
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return said, "Where a proxy signs anew, set SSL_CERT_FILE to the file of its certificates."
    at = "" if revision == "main" else f" --revision {revision}"
    return said, (
        f"Check the network and HTTPS_PROXY; on a machine without one, fetch it elsewhere into a "
        f"cache that it sees: hf download {repo}{at}"
    )
