"""`python -m tests.pictures`: the pictures of README.md, taken from real runs, into docs/pictures.

Needs a headless Chromium. A terminal's session is drawn by rich as an SVG without foreign fonts.
"""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.browser import Browser
from tests.conftest import ROOT

OUT = ROOT / "docs" / "pictures"
GPTFT = (sys.executable, "-m", "gptft")
PROMPT = "Я вас любил: любовь еще, быть"
_COLUMNS = 92
_SVG = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>{lines}</defs>
<rect fill="#15161a" width="100%" height="100%" rx="8"/>
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Take all pictures."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "data" / "pushkin" / "ya-vas-lyubil.txt", folder / "poem.txt")
        session(folder)
        reported(folder)
        for lang, ending in (("en", "png"), ("ru", "ru.png")):
            explained(folder, lang, OUT / f"explain.{ending}")
            played(folder, lang, OUT / f"play.{ending}")


def session(folder: Path) -> None:
    """A poem learned, and what the model thinks comes next, in a terminal."""
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True)
    trained = in_terminal(["train", "poem.txt"], folder)
    shown = trained[trained.index("Stopped at step") :]
    shown = shown[: shown.index("The model of step")].rstrip()
    for words, output in (
        ("gptft train poem.txt", shown),
        (
            'gptft predict runs/poem -p "Я не хочу печалить вас" --with pico --top 3',
            in_terminal(
                [
                    "predict",
                    "runs/poem",
                    "-p",
                    "Я не хочу печалить вас",
                    "--with",
                    "pico",
                    "--top",
                    "3",
                ],
                folder,
            ),
        ),
    ):
        console.print(Text.assemble(("$ ", "bold green"), (words, "bold")))
        console.print(Text.from_ansi(output.strip("\n")))
        console.print()
    svg = console.export_svg(title="", code_format=_SVG)
    (OUT / "terminal.svg").write_text(svg, encoding="utf-8")


def in_terminal(words: list[str], folder: Path) -> str:
    """What a command prints on a terminal, the lines that it wrote over left out."""
    here, there = pty.openpty()
    environment = {
        **os.environ, "COLUMNS": str(_COLUMNS), "LINES": "50", "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [*GPTFT, *words], cwd=folder, stdin=there, stdout=there, stderr=there, env=environment
    )
    os.close(there)
    parts = []
    while process.poll() is None or select.select([here], [], [], 0)[0]:
        if select.select([here], [], [], 0.1)[0]:
            try:
                parts.append(os.read(here, 65536))
            except OSError:
                break
    process.wait()
    os.close(here)
    text = b"".join(parts).decode().replace("\r\n", "\n")
    text = re.sub(r"\x1b\[[0-9;?]*[A-HJKSTfhlsu]", "", text)
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(line for line in lines if not line.endswith(" …"))  # what was going on


def reported(folder: Path) -> None:
    """The report of the run, from its figures to what it recites."""
    with Browser(width=1100, height=900) as browser:
        page = folder / "report.html"
        in_terminal(["runs", "show", "runs/poem", "--html", str(page), "--lang", "en"], folder)
        browser.open(page.as_uri())
        browser.wait("document.querySelector('.samples')")
        browser.shot(OUT / "report.png", ("body", ".samples"))


def explained(folder: Path, lang: str, picture: Path) -> None:
    """Two steps of the page of `gptft explain`, in a language."""
    page = folder / "page.html"
    words = ["explain", "runs/poem", "-p", PROMPT, "--html", str(page), "--lang", lang]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run([*GPTFT, *words], cwd=folder, env=environment, check=True, capture_output=True)
    with Browser(width=900, height=900) as browser:
        browser.open(page.as_uri())
        browser.wait("document.querySelectorAll('#bars tr').length > 3")
        browser.shot(picture, ("#lens p + p", "#parts .diverging"))  # from what was decided where


def played(folder: Path, lang: str, picture: Path) -> None:
    """The page of `gptft play` in a language, a text written and a token chosen."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    served = subprocess.Popen(
        [*GPTFT, "play", "runs/poem", "--port", "0", "--lang", lang], cwd=folder, env=environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert served.stderr is not None
    address = next(line.split()[1] for line in served.stderr if "Open http://" in line)
    with Browser(width=1000, height=760) as browser:
        browser.open(address)
        browser.wait("document.body.dataset.ready")
        browser.run(f"document.getElementById('prompt').value = {PROMPT + ' может'!r}")
        browser.run("document.getElementById('strategy').value = 'greedy'")
        browser.run("document.getElementById('strategy').dispatchEvent(new Event('input'))")
        browser.click("#beside")
        browser.click("#write")
        browser.wait(
            "document.getElementById('stop').disabled"
            " && document.querySelectorAll('#text-base .token').length > 3"
        )
        browser.click("#text-base .token:nth-of-type(6)")
        browser.shot(picture)
    served.terminate()
    served.wait()
    served.stderr.close()
    served.wait()


if __name__ == "__main__":
    main()
