"""What `gptft train` recites of one poem and of twelve, after how many steps, in how many seconds.

    python benchmarks/recite.py [--all]

Runs `gptft train` as a person does, on a poem of data/pushkin and on a folder of all twelve,
without a config. Prints lines recited before and after, steps of those planned, the seconds of
training and of the whole command. `--all` adds the twelve without isolation of documents. Exits
with 1 where a line is not recited, or where a run went to its end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

POEMS = Path(__file__).resolve().parents[1] / "data" / "pushkin"
HEADS = ("text", "lines before", "after", "of", "steps", "of", "training s", "in all s")


def train(text: Path, folder: Path, *settings: str) -> tuple[dict[str, Any], float]:
    """The result of a run, and the seconds of the command."""
    flags = [word for setting in settings for word in ("--set", setting)]
    command = ["train", str(text), "--out", str(folder / "run"), "--overwrite", "--json", *flags]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "gptft", *command],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "GPTFT_CACHE": str(folder / "cache")},
    )
    return json.loads(done.stdout), time.perf_counter() - started


def main() -> int:
    """Train, print a row each, and tell whether all was recited and both runs stopped early."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also without isolation")
    arguments = parser.parse_args()
    is_right = True
    print(*HEADS, sep="\t")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "poems").mkdir()
        for poem in sorted(POEMS.glob("*.txt")):
            shutil.copy(poem, folder / "poems")
        rows: list[tuple[str, Path, tuple[str, ...]]] = [
            ("one poem", POEMS / "zimnee-utro.txt", ()),
            ("twelve poems", folder / "poems", ()),
        ]
        if arguments.all:
            packed = ("data.isolate_documents=false",)
            rows.append(("twelve, not isolated", folder / "poems", packed))
        for title, text, settings in rows:
            found, seconds = train(text, folder, *settings)
            recital = found["recital"]
            lines = [recital[name] for name in ("lines_before", "lines_after", "num_lines")]
            steps = (found["steps"], found["planned_steps"])
            print(title, *lines, *steps, f"{found['seconds']:.1f}", f"{seconds:.1f}", sep="\t")
            if not settings:
                is_right &= lines[1] == lines[2] and steps[0] < steps[1]
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
