"""How long the commands that need no torch take, as whole processes.

    python benchmarks/startup.py [--runs 10]

Prints the median of each command and its ratio to importing typer, rich, tokenizers and pydantic
alone; the commands take turns, so that a drift of the machine hits all alike. Exits with 1 where a
median is above its limit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = "imports alone"
IMPORTS = "import typer, rich.console, tokenizers; from pydantic import TypeAdapter"


def commands(folder: Path) -> dict[str, tuple[list[str], float]]:
    """Name -> command and the most seconds it may take."""
    config = folder / "my.yaml"
    (folder / "poem.txt").write_text("Мороз и солнце; день чудесный!\n", encoding="utf-8")
    config.write_text(
        f"data: {{train: '{folder / 'poem.txt'}'}}\ntraining: {{learning_rate: 5e-5}}\n",
        encoding="utf-8",
    )
    gptft = [sys.executable, "-m", "gptft"]
    return {
        BASE: ([sys.executable, "-c", IMPORTS], float("inf")),
        "gptft --help": ([*gptft, "--help"], 0.5),
        "gptft tokenize": ([*gptft, "tokenize", "Токенизируй меня"], 0.35),
        "gptft config check": ([*gptft, "config", "check", str(config)], 1.0),
    }


def seconds(command: list[str]) -> float:
    """Wall time of one run; raises where it fails."""
    # An installed package is compiled; where Python may not write bytecode, a clone never is.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def main() -> int:
    """Measure, print, and tell whether every median is within its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="runs of each command")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        table = commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in table}
        for number in range(runs + 1):
            for name, (command, _) in table.items():
                taken = seconds(command)
                if number:  # the first round only warms the disk's cache
                    times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<20} {median:.3f} s  {median / medians[BASE]:.2f}x")
    return int(any(medians[name] > limit for name, (_, limit) in table.items()))


if __name__ == "__main__":
    sys.exit(main())
