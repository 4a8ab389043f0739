"""Pictures of the pages that commands write, by a headless Chromium."""

import subprocess
from pathlib import Path

from tests.tutorial.pages import FOLDER, Picture


def take(picture: Picture, *, folder: Path, program: str) -> None:
    """Write the picture of a page in `folder`."""
    subprocess.run(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--window-size={picture.width},{picture.height}",
            f"--user-data-dir={folder / '.browser'}",
            f"--screenshot={FOLDER / picture.name}", (folder / picture.page).resolve().as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
