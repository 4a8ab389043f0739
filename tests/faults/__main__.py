"""`python -m tests.faults`: hinder runs in every way, and report what held.

Exit code 1 where a promise was broken. `--short` is what the tests run: a sample of everything.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.harness import Trial

QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "GPTFT_BF16": "false",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",
}


def main() -> int:
    """Start again without threads and with the interposer, and do the trials there."""
    args = _arguments()
    if "GPTFT_FAULTS_FOLDER" in os.environ:
        return Report(args).all()
    with tempfile.TemporaryDirectory(prefix="gptft-faults-") as name:
        from tests.faults.harness import INTERPOSER, build_interposer

        folder = Path(name).resolve()
        places = {"GPTFT_FAULTS_FOLDER": name, "GPTFT_CACHE": f"{name}/cache"}
        environment = {**os.environ, **QUIET, **places}
        library = build_interposer(folder)
        if library is not None:
            environment |= {"LD_PRELOAD": str(library), INTERPOSER: str(library)}
        words = [sys.executable, "-m", "tests.faults", *sys.argv[1:]]
        code = subprocess.run(words, env=environment).returncode
        if code and args.keep:
            shutil.copytree(folder, args.keep, dirs_exist_ok=True)
        return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a sample of everything")
    parser.add_argument("--only", action="append", help="one part: kills, stock, calls, files...")
    parser.add_argument("--kills", type=int, help="200, or 6 in the short form")
    parser.add_argument("--stock", type=int, help="kills of the stock Trainer: 40, or none")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--keep", type=Path, help="copy everything there if a promise was broken")
    return parser.parse_args()


class Report:
    """Runs the parts, prints a line for each, and keeps what broke."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Import all, so that forks have it from here."""
        from tests.faults import harness, stock, trials

        harness.import_all()
        self.args, self.harness, self.trials, self.stock = args, harness, trials, stock
        self.folder = Path(os.environ["GPTFT_FAULTS_FOLDER"]).resolve()
        self.figures: dict[str, dict[str, object]] = {}
        self.failed = False

    def all(self) -> int:
        """Every part that was asked for; the exit code."""
        started = time.perf_counter()
        self.lab = self.harness.open_lab(self.folder / "lab")
        print(
            f"A run of {self.harness.STEPS} steps, a checkpoint each, takes "
            f"{self.lab.seconds:.1f} s; {self.args.jobs} at a time.",
            flush=True,
        )
        parts = {
            "kills": self._kills,
            "stock": self._stock,
            "calls": self._calls,
            "files": self._files,
            "disk": self._disk,
            "conversions": self._conversions,
        }
        for name, part in parts.items():
            if not self.args.only or name in self.args.only:
                part()
        print(f"{time.perf_counter() - started:.0f} s in all.", flush=True)
        if self.args.json:
            text = json.dumps(self.figures, ensure_ascii=False, indent=2)
            self.args.json.write_text(text + "\n", encoding="utf-8")
        return int(self.failed)

    def _spread(self, work: Callable[[int], list["Trial"]]) -> list["Trial"]:
        return self.harness.spread(work, jobs=self.args.jobs, folder=self.lab.folder)

    def _share(self, number: int, of: int) -> int:
        """What the `number`-th job does of a number of things."""
        return len(range(number, of, self.args.jobs))

    def _told(
        self, name: str, sentence: str, trials: Sequence["Trial"], seconds: float, **more: object
    ) -> None:
        """Print a part's line, and every broken promise of it."""
        counts: Counter[str] = Counter()
        for trial in trials:
            counts.update(trial.counts)
        broken = [f"{trial.name}: {what}" for trial in trials for what in trial.broken]
        self.figures[name] = {**counts, **more, "trials": len(trials), "broken": broken}
        print(f"{name}: {sentence.format_map(counts)} {seconds:.0f} s.", flush=True)
        if name == "stock":
            reasons = Counter(what for trial in trials for what in trial.broken)
            for what, times in reasons.most_common():
                print(f"  {times} times: {what}", flush=True)
        else:
            for line in broken:
                print(f"  BROKEN {line}", flush=True)
            self.failed |= bool(broken)

    def _kills(self) -> None:
        wanted = self.args.kills if self.args.kills is not None else 6 if self.args.short else 200
        started = time.perf_counter()
        done = self._spread(
            lambda job: self.trials.random_kills(
                self.lab, kills=self._share(job, wanted), seed=self.args.seed * 100 + job
            )
        )
        good = sum(trial.counts["kills"] for trial in done if not trial.broken)
        self._told(
            "kills",
            f"{good} of {{kills}} kill -9 resumed, bit-identical ({{in a save}} in a save, "
            f"{{while going on}} of runs that went on after one; {len(done)} runs).",
            done,
            time.perf_counter() - started,
        )

    def _conversions(self) -> None:
        """One architecture of each way in which stored tensors differ from those in memory."""
        from tests.architectures.models import one_of_each_conversion
        from tests.architectures.trials import try_architecture

        names = one_of_each_conversion()[: 1 if self.args.short else None]
        started = time.perf_counter()
        done = self._spread(
            lambda job: [
                try_architecture(name, self.folder / name) for name in names[job :: self.args.jobs]
            ]
        )
        good = sum(not trial.broken for trial in done)
        self._told(
            "conversions",
            f"{good} of {len(done)} architectures, one of each conversion of names, killed and "
            "resumed, and their best weights kept, bit-identical.",
            done,
            time.perf_counter() - started,
        )

    def _stock(self) -> None:
        wanted = self.args.stock if self.args.stock is not None else 0 if self.args.short else 40
        if not wanted:
            return
        started = time.perf_counter()
        done = self._spread(
            lambda job: self.stock.stock_kills(
                self.lab, kills=self._share(job, wanted), seed=self.args.seed * 100 + job
            )
        )
        self._told(
            "stock",
            "of {kills} kill -9 of the stock Trainer, {failed} could not be resumed and "
            "{different} ended with other weights.",
            done,
            time.perf_counter() - started,
        )

    def _calls(self) -> None:
        if not self.harness.has_interposer():
            print("calls: left out: there is no C compiler, or this isn't Linux.", flush=True)
            self.figures["calls"] = {"skipped": "no C compiler, or no Linux"}
            return
        trials, lab = self.trials, self.lab
        save = trials.calls_of_a_save(lab)
        whole = [c for c in trials.calls_of_a_run(lab) if not c.path.startswith("checkpoints")]
        unseen = trials.unseen_bytes(
            save, lab.snapshot / "checkpoints" / f"checkpoint-{self.harness.SNAPSHOT}"
        )
        kinds = Counter(call.name for call in save)
        print(
            f"A save makes {len(save)} calls that can fail "
            f"({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}); a run makes "
            f"{len(whole)} outside of its checkpoints. "
            f"Bytes written unseen: {unseen or 'none'}.",
            flush=True,
        )
        cases = [("save", call.number, how) for call in save for how in trials.MODES]
        cases += [("save", len(save) + 1, how) for how in trials.MODES]
        cases += [("run", call.number, how) for call in whole for how in trials.MODES]
        if self.args.short:
            cases = random.Random(self.args.seed).sample(cases, 18)
        started = time.perf_counter()

        def work(job: int) -> list["Trial"]:
            done = []
            for number, (scope, at, how) in enumerate(cases):
                if number % self.args.jobs == job:
                    fault = trials.faulted_save if scope == "save" else trials.faulted_run
                    resume = not self.args.short or number % 3 == 0
                    done.append(fault(lab, at=at, how=how, resume=resume))
            return done

        done = self._spread(work)
        self._told(
            "calls",
            f"{sum(not t.broken for t in done)} of {len(done)} faults at the n-th call held "
            "({disk full} disk full, {input/output error} input/output errors of which "
            "{input/output error, borne} were borne, {kill -9} kills, {not reached} past the last "
            "call; {resumed} resumed, bit-identical where nothing is said below).",
            done,
            time.perf_counter() - started,
            unseen=unseen,
        )

    def _files(self) -> None:
        started = time.perf_counter()
        done = self.trials.damaged_files(
            self.lab, resumes=3 if self.args.short else 40, seed=self.args.seed
        )
        silent = sum("SILENT" in what for trial in done for what in trial.broken)
        if not self.args.short:
            done += self.trials.damaged_checkpoints(self.lab)
        self._told(
            "files",
            f"{{spoiled}} damages, {silent} silent; {{resumed}} resumed from an older checkpoint.",
            done,
            time.perf_counter() - started,
        )

    def _disk(self) -> None:
        started = time.perf_counter()
        levels = (0.4,) if self.args.short else [number / 20 for number in range(20)]
        done = self.trials.full_disks(self.lab, levels=levels)
        if done is None:
            print("disk: no small disk: this machine doesn't let us mount one.", flush=True)
            done = []
        limits = (200_000,) if self.args.short else (2_000, 100_000, 155_000, 200_000, 300_000)
        done += self.trials.limited_files(self.lab, limits=limits)
        self._told(
            "disk",
            "{filled} full disks and {limited} limits on a file's size, each said and survived.",
            done,
            time.perf_counter() - started,
        )


if __name__ == "__main__":
    sys.exit(main())
