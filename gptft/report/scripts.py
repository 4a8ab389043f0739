"""The name of a script -> its code, and the hash by which a page allows it and no other."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup


@dataclass(frozen=True)
class Script:
    """What a page runs.

    Attributes:
        code: stands in the page as it is.
        digest: its SHA-256, as a Content-Security-Policy has it.
    """

    code: Markup
    digest: str


def page_script(name: str) -> Script:
    """A script of `gptft/report/templates/`, for the value `script` of a page's template."""
    code = files("gptft.report").joinpath(f"templates/{name}.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return Script(Markup(code), digest)
