"""A headless Chromium that a test drives: clicks, what the page says, every request it makes."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


class Browser:
    """One tab, over DevTools' protocol on two pipes.

    Attributes:
        requests: the address of every request.
        complaints: errors of the console, of scripts and of the policy.
    """

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        assert CHROMIUM is not None
        read_theirs, self._out = os.pipe()
        self._in, write_theirs = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        script = f'exec "$@" 3<&{read_theirs} 4>&{write_theirs}'
        words = ["bash", "-c", script, "bash", CHROMIUM, "--headless=new", "--no-sandbox",
                 "--disable-gpu", "--remote-debugging-pipe", f"--window-size={width},{height}",
                 "--hide-scrollbars", "--no-first-run", "about:blank"]  # fmt: skip
        if dark:
            words.insert(-1, "--blink-settings=preferredColorScheme=0")
        self._process = subprocess.Popen(
            words, pass_fds=(read_theirs, write_theirs), stderr=subprocess.DEVNULL
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._rest, self._number = b"", 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self._ask("Target.attachToTarget", targetId=page, flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")
        # A window is at least 500 pixels wide, whatever was asked for.
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    _session = None

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                found: dict[str, Any] = said["result"]
                return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 2**20)
            assert part, "the browser ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        params = said.get("params", {})
        match said.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.complaints.append(str(params["args"])[:500])
        return said

    def open(self, address: str) -> None:
        """Go to a page."""
        self._ask("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, *, seconds: float = 20.0) -> None:
        """Wait until an expression is true."""
        ended = time.monotonic() + seconds
        asked = f"(() => {{ try {{ return !!({script}); }} catch {{ return false; }} }})()"
        while not self.run(asked):
            assert time.monotonic() < ended, f"never: {script}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click an element where it is, as a mouse does."""
        self.run(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})"
        )
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def press(self, key: str) -> None:
        """Press a key that has a name."""
        for kind in ("rawKeyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def shot(self, path: Path, selectors: Sequence[str] = ("body",)) -> None:
        """A picture of the page from the first of some elements to the last."""
        first, last = (
            self.run(
                f"(() => {{ const b = document.querySelector({json.dumps(one)})"
                ".getBoundingClientRect(); return [b.top + scrollY, b.bottom + scrollY]; })()"
            )
            for one in (selectors[0], selectors[-1])
        )
        width = self.run("document.documentElement.clientWidth")
        clip = {"x": 0, "y": first[0], "width": width, "height": last[1] - first[0], "scale": 1}
        taken = self._ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))
