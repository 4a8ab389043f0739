"""Pictures of the pages that commands write, by a headless Chromium."""

import shutil
import subprocess
from pathlib import Path

from tests.tutorial.pages import FOLDER, Picture

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str | None:
    """A Chromium of this machine."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


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
