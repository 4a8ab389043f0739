"""`python -m tests.architectures`: every causal architecture of transformers, tiny, through gptft.

Each is trained to the end, and killed and resumed, and its best weights are compared with the best
checkpoint's; its losses, logits, greedy texts and numbers of parameters with those of stock
transformers. Exit code 1 where anything is wrong; `--write` writes the table of docs/models.md.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.faults.__main__ import QUIET

if TYPE_CHECKING:
    from tests.faults.harness import Trial

PAGE = ROOT / "docs" / "models.md"
_FOLDER = "GPTFT_ARCHITECTURES_FOLDER"
BEGIN, END = (
    "<!-- begin architectures: make architectures writes this -->\n",
    "<!-- end architectures -->",
)
CELLS = ("loss", "resumed", "reopened", "greedy", "parameters")
_HEAD = """
Tried with transformers {version}, torch {torch}; {right} of {all} architectures are trained.

| architecture | converted | {cells} | remark |
| --- | --- | {lines} | --- |
"""


def main() -> int:
    """Start again without threads, and try all there."""
    args = _arguments()
    if _FOLDER in os.environ:
        return try_all(args)
    with tempfile.TemporaryDirectory(prefix="gptft-architectures-") as name:
        environment = {**os.environ, **QUIET, _FOLDER: name, "GPTFT_CACHE": f"{name}/cache"}
        words = [sys.executable, "-m", "tests.architectures", *sys.argv[1:]]
        return subprocess.run(words, env=environment).returncode


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.architectures", description=__doc__)
    parser.add_argument("names", nargs="*", help="these alone")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


def try_all(args: argparse.Namespace) -> int:
    """Try the architectures, print a line for each, write the table; the exit code."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from tests.architectures.models import NOT_TRIED
    from tests.architectures.trials import try_architecture
    from tests.faults import harness

    harness.import_all()
    folder, started = Path(os.environ[_FOLDER]).resolve(), time.perf_counter()
    names = args.names or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    names = [name for name in names if name not in NOT_TRIED]

    def work(job: int) -> list["Trial"]:
        done = []
        for name in names[job :: args.jobs]:
            done.append(trial := try_architecture(name, folder / name))
            print(
                f"{name}: {trial.note}", *(f"\n  WRONG {what}" for what in trial.broken), flush=True
            )
        return done

    trials = harness.spread(work, jobs=args.jobs, folder=folder)
    wrong = [trial.name for trial in trials if trial.broken]
    print(
        f"{len(trials) - len(wrong)} of {len(trials)} architectures are right, "
        f"{len(NOT_TRIED)} were not tried. {time.perf_counter() - started:.0f} s in all.",
        *(f"Wrong: {', '.join(wrong)}" for _ in wrong[:1]),
        flush=True,
    )
    if args.write and not wrong:
        write_table(trials, kept=read_table() if args.names else {})
    return int(bool(wrong))


def read_table() -> dict[str, list[str]]:
    """Of each architecture on the page whether it is converted, each cell, and the remark."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| ([\w-]+) \| (.*) \|$", table, re.MULTILINE)
    found = {name: [cell.strip() for cell in row.split(" | ")] for name, row in rows}
    return {name: row for name, row in found.items() if name not in ("architecture", "---")}


def write_table(trials: list["Trial"], *, kept: dict[str, list[str]]) -> None:
    """Write what came of each architecture, and why some weren't tried, into the page.

    Args:
        trials: of all architectures, or of some.
        kept: rows of the others.
    """
    from tests.architectures.models import NOT_TRIED, conversions
    from tests.faults.harness import Trial

    converted = conversions()
    rows = dict(kept)
    untried = [Trial(name, note=f"not tried: {why}") for name, why in NOT_TRIED.items()]
    for trial in [*trials, *untried]:
        remark = "" if trial.note == "trained" else trial.note.replace("|", "/")
        cells = [trial.cells.get(column, "") for column in CELLS]
        rows[trial.name] = ["yes" if trial.name in converted else "", *cells, remark]
    head = _HEAD.format(
        version=version("transformers"),
        torch=version("torch").partition("+")[0],
        right=sum(any(row[1:-1]) for row in rows.values()),
        all=len(rows),
        cells=" | ".join(CELLS),
        lines=" | ".join("---" for _ in CELLS),
    )
    lines = (f"| {' | '.join([name, *row])} |\n" for name, row in sorted(rows.items()))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table = head + "".join(lines) + "\n" + END
    PAGE.write_text(before + BEGIN + table + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
