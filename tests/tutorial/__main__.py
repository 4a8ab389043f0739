"""`python -m tests.tutorial`: run the tutorial, and write what it prints into its pages.

Each command of docs/tutorial/ is run in a new folder, once for both languages. The pictures are
taken anew where there is a Chromium, and docs/gptft.ipynb is made of the Russian page.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.browser import CHROMIUM
from tests.tutorial import notebook
from tests.tutorial.pages import PAGES, Command, File, pictures, read, rewrite
from tests.tutorial.pictures import take
from tests.tutorial.session import Session


def main() -> int:
    """Write the pages, the pictures and the notebook; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.tutorial", description=__doc__)
    parser.add_argument("--notebook", action="store_true", help="make the notebook alone")
    if not parser.parse_args().notebook:
        with tempfile.TemporaryDirectory(prefix="gptft-tutorial-") as name:
            render(Path(name).resolve())
    notebook.NOTEBOOK.write_text(notebook.make(), encoding="utf-8")
    return 0


def render(folder: Path) -> None:
    """Run the pages in `folder` and write them anew."""
    session = Session(folder)
    if CHROMIUM is None:
        print("No pictures: there is no Chromium here.", file=sys.stderr)

    def run(block: Command | File) -> str:
        started = time.perf_counter()
        printed = session.do(block)
        if isinstance(block, Command):
            print(f"{time.perf_counter() - started:6.1f} s  {block.line}", flush=True)
        return printed

    for page in PAGES:
        text = rewrite(read(page), run)
        page.write_text(text, encoding="utf-8")
        if CHROMIUM is not None:
            for picture in pictures(text):
                take(picture, folder=folder, program=CHROMIUM)


if __name__ == "__main__":
    sys.exit(main())
