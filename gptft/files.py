"""Files and folders that several rooms need."""

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Where block stores live: $GPTFT_CACHE, else gptft in $XDG_CACHE_HOME, else ~/.cache/gptft."""
    if named := os.environ.get("GPTFT_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "gptft"
