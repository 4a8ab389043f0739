"""How fast `gptft prepare` is, and in how much memory, beside what else prepares text.

    python benchmarks/prepare.py [--corpus FOLDER] [--peers SCRIPT] [--runs 3] [--large]
    python benchmarks/prepare.py --only small code [--runs 3]

All figures come from one run, in which everything takes turns, each time as a fresh process:
`gptft prepare` with an empty cache and again with the cache it left; fastokens alone, reading the
same files and writing nothing, in each of the ways that are fastest; and, once each, the pipelines
of transformers' run_clm.py and of TRL. All use one tokenizer, the bundled model's unless another is
named, and blocks of 1,024.
The same beside fastokens alone with the corpus cut into 20,000 files of 1 kB, and with code as JSON
Lines, the modules that come with Python.
MB are 10^6 bytes of UTF-8 text. Prints medians and ratios, and exits with 1 where a limit is
missed. `--large` adds ten copies of the corpus, for the memory. `--tokenizer` takes another
model's: pico's small vocabulary, made for these very texts, is quick for everyone.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
PICO = REPOSITORY / "gptft" / "models" / "pico"
BLOCK_SIZE = 1024
PACKAGES = ("gptft", "fastokens", "tokenizers", "transformers", "datasets", "trl", "numpy")
PEERS = ("run_clm", "trl")
BARE_WAYS = ("batches", "batches, reading ahead", "file by file")
SMALL_FILES = (20_000, 560)  # how many, and characters each: 1 kB of Russian
CORPORA = ("books", "small", "code")
BATCH_CHARACTERS = 2_000_000  # fastest of 0.1, 0.5, 1, 2, 4 and 100 million, by a tenth or more

MIN_SPEEDUP = 20.0  # whole command, against either peer
MIN_SHARE = {"books": 0.7, "small": 0.3, "code": 0.45}  # of bare fastokens' speed, by the stage
MAX_MB = 500.0
MAX_GROWTH = 1.1  # of the memory, from one copy to ten
MAX_CACHED_SECONDS = 1.0


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        seconds: wall time, start-up included.
        own_seconds: what it says that its work took.
        cpu_seconds: of all its threads; hardly changed by what else the machine is doing.
        peak_mb: the most memory it held.
        said: what it printed.
    """

    seconds: float
    own_seconds: float
    cpu_seconds: float
    peak_mb: float
    said: dict[str, Any]


def run(command: Sequence[str], *, cache: Path | None = None) -> Run:
    """Run a command that prints one JSON object; end with its errors where it fails.

    The kernel counts the memory of the process that starts another one, up to that moment, as the
    other's: this one must stay small, and so reads no more than a file at a time.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else gptft is compiled anew each time
    if cache is not None:
        environment["GPTFT_CACHE"] = str(cache)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, cwd=REPOSITORY, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            text = errors.read().decode(errors="replace")
            sys.exit(f"{text[-2000:]}\nfailed, exit code {process.returncode}: {command[:6]}")
        said = json.loads(output.read())
    unit = 1 if sys.platform == "darwin" else 1024
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Run(seconds, said["seconds"], cpu_seconds, usage.ru_maxrss * unit / 1e6, said)


def copy_as_utf8(corpus: Path, target: Path, *, first_line: str = "") -> int:
    """Copy all texts of a folder, Windows-1251 decoded, and give their bytes."""
    size = 0
    for path in sorted(corpus.rglob("*.txt")):
        raw = path.read_bytes()
        try:
            raw.decode()
        except UnicodeDecodeError:
            raw = raw.decode("windows-1251").encode()
        copy = target / path.relative_to(corpus)
        copy.parent.mkdir(parents=True, exist_ok=True)
        size += copy.write_bytes(first_line.encode() + raw)
    return size


def prepare(folder: Path, cache: Path, model: Path) -> Run:
    """The whole command."""
    command = [sys.executable, "-m", "gptft", "prepare", str(folder), "--json"]
    for setting in (f"data.block_size={BLOCK_SIZE}", f"model.name={model}"):
        command += ["--set", setting]
    return run(command, cache=cache)


def bare_fastokens(way: str, folder: Path, model: Path) -> None:
    """Read, decode and encode all texts with fastokens, and print the time and the tokens.

    Runs in a process of its own. The last argument of every call has the strings of special tokens
    encoded as the text they are, which is what `gptft prepare` does.
    """
    from fastokens import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    def encode(batch: list[str]) -> int:
        ids, _ = tokenizer.encode_batch_flat(batch, False, True)
        return len(ids) // 4  # bytes an id

    started = time.perf_counter()
    if way == "batches":
        tokens = sum(encode(batch) for batch in batches(files))
    elif way == "batches, reading ahead":
        with ThreadPoolExecutor(max_workers=1) as worker:
            tokens = sum(worker.map(encode, batches(files)))
    else:
        tokens = sum(len(tokenizer.encode_ordinary(text)) for text in map_texts(files))
    print(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}))


def batches(files: Sequence[Path]) -> Iterator[list[str]]:
    """The texts of files, some millions of characters at a time."""
    batch: list[str] = []
    length = 0
    for text in map_texts(files):
        batch.append(text)
        length += len(text)
        if length >= BATCH_CHARACTERS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def map_texts(files: Sequence[Path]) -> Iterator[str]:
    """The texts of files, one each, or one a line of JSON Lines."""
    for path in files:
        raw = path.read_bytes()
        if path.suffix == ".jsonl":
            yield from (json.loads(line)["text"] for line in raw.splitlines())
        else:
            yield raw.decode()


def cut_small(corpus: Path, target: Path) -> int:
    """Cut UTF-8 texts into small files, a hundred a folder, and give their bytes."""
    number, size = SMALL_FILES
    rest, written = "", 0
    paths = iter(sorted(corpus.rglob("*.txt")))
    for at in range(number):
        while len(rest) < size:
            if (path := next(paths, None)) is None:
                sys.exit(f"{corpus} has fewer than {number * size:,} characters.")
            rest += path.read_bytes().decode()
        file = target / f"{at // 100:03}" / f"{at:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        written += file.write_bytes(rest[:size].encode())
        rest = rest[size:]
    return written


def write_code(target: Path) -> int:
    """Write the modules of Python's library as JSON Lines, and give the bytes of their text."""
    import sysconfig

    target.mkdir()
    size = 0
    with (target / "code.jsonl").open("w", encoding="utf-8") as file:
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
            if "site-packages" in path.parts:
                continue
            try:
                text = path.read_bytes().decode()
            except (OSError, UnicodeDecodeError):
                continue
            if "\0" not in text:
                file.write(json.dumps({"path": path.name, "text": text}, ensure_ascii=False) + "\n")
                size += len(text.encode())
    return size


def measure(
    folder: Path,
    scratch: Path,
    *,
    model: Path,
    runs: int,
    peers: Sequence[str],
    script: Path,
    peer_runs: int,
) -> dict[str, list[Run]]:
    """Let everything take turns, after one round that only warms the disk's cache."""
    files = [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    taken: dict[str, list[Run]] = {}
    for number in range(max(runs, peer_runs) + 1):
        if number <= runs:
            cache = scratch / f"cache-{number}"
            turn = {"gptft prepare": prepare(folder, cache, model)}
            turn["gptft prepare, cached"] = again = prepare(folder, cache, model)
            if not again.said["cached"]:
                sys.exit("The second run didn't find the first one's blocks.")
            shutil.rmtree(cache)
            for way in BARE_WAYS:
                command = [sys.executable, __file__, "--bare", way, "--corpus", str(folder)]
                command += ["--tokenizer", str(model)]
                turn[f"fastokens, {way}"] = run(command)
            for name, one in turn.items():
                if number:
                    taken.setdefault(name, []).append(one)
        for peer in peers if 0 < number <= peer_runs else ():
            # One process for `map`: two are slower, and the tokenizer uses both cores as it is.
            command = [sys.executable, str(script), peer, str(model), str(BLOCK_SIZE), "1"]
            taken.setdefault(peer, []).append(run([*command, *files]))
    return taken


def measure_large(corpus: Path, scratch: Path, *, model: Path, runs: int) -> tuple[int, list[Run]]:
    """`gptft prepare` on ten copies, no two files alike: their bytes, and the runs."""
    folder = scratch / "large"
    size = sum(
        copy_as_utf8(corpus, folder / f"copy-{number:02}", first_line=f"{number}\n")
        for number in range(10)
    )
    taken = []
    for _ in range(runs):
        taken.append(prepare(folder, scratch / "cache-large", model))
        shutil.rmtree(scratch / "cache-large")
    return size, taken


def median(runs: Sequence[Run], name: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(one, name) for one in runs)


def print_row(name: str, runs: Sequence[Run], *, size: int) -> None:
    """One line of the table: medians, and between which times the whole process varied."""
    times = [one.seconds for one in runs]
    wall, own = median(runs, "seconds"), median(runs, "own_seconds")
    print(
        f"{name:<34} {wall:7.2f} s  {min(times):6.2f}-{max(times):<6.2f}"
        f"{median(runs, 'cpu_seconds'):6.2f} s {own:7.2f} s {size / own / 1e6:7.1f} MB/s"
        f"{median(runs, 'peak_mb'):6.0f} MB {len(runs):4}"
    )


def print_table(
    taken: dict[str, list[Run]], large: tuple[int, list[Run]] | None, size: int
) -> None:
    """All medians."""
    print(
        f"{'median of':<34} {'process':>9}  {'min-max':^13} {'CPU':>7} {'itself':>9} "
        f"{'of itself':>12} {'peak':>8} {'runs':>4}"
    )
    for name, runs in taken.items():
        print_row(name, runs, size=size)
    if large:
        print_row(f"gptft prepare, {large[0] / 1e6:.0f} MB", large[1], size=large[0])


def limits(
    taken: dict[str, list[Run]], large: tuple[int, list[Run]] | None, corpus: str
) -> Iterator[tuple[bool, str]]:
    """For each limit of a corpus, whether it is kept, and a line that says so."""
    ours = taken["gptft prepare"]
    tokens = {name: runs[0].said["tokens"] for name, runs in taken.items() if name not in PEERS}
    if len(set(tokens.values())) > 1:
        yield False, f"tokens of gptft and fastokens: {tokens}"
    wall, stage, peak = (median(ours, name) for name in ("seconds", "own_seconds", "peak_mb"))
    for peer in PEERS:
        if peer in taken:
            ratio = median(taken[peer], "seconds") / wall
            yield (
                ratio >= MIN_SPEEDUP,
                f"whole command against {peer}: {ratio:.1f}x as fast (at least {MIN_SPEEDUP:.0f}x)",
            )
    bare = {way: median(taken[f"fastokens, {way}"], "own_seconds") for way in BARE_WAYS}
    best = min(bare, key=lambda way: bare[way])
    share, least = bare[best] / stage, MIN_SHARE[corpus]
    yield (
        share >= least,
        f"stage against fastokens alone ({best}): {share:.2f} of its speed (at least {least})",
    )
    cached = median(taken["gptft prepare, cached"], "seconds")
    if corpus == "books":
        yield (
            cached < MAX_CACHED_SECONDS,
            f"cached run: {cached:.2f} s (below {MAX_CACHED_SECONDS:.0f} s)",
        )
    yield peak <= MAX_MB, f"peak memory: {peak:.0f} MB (at most {MAX_MB:.0f} MB)"
    if large:
        growth = median(large[1], "peak_mb") / peak
        yield (
            growth <= MAX_GROWTH,
            f"peak memory of ten copies: {growth:.2f} of one copy's (at most {MAX_GROWTH})",
        )


def machine() -> str:
    """The processors, what else they are doing, and the versions."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{cpus} CPUs, {load}, Python {sys.version.split()[0]}, {', '.join(versions)}"


def parse_arguments() -> argparse.Namespace:
    """The command line, with paths made absolute and checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpus" / "ru-classics")
    parser.add_argument("--peers", type=Path, default=SHARED / "bench" / "peer_prepare.py")
    parser.add_argument("--tokenizer", type=Path, default=PICO, help="a model folder")
    parser.add_argument("--runs", type=int, default=3, help="runs of gptft and of fastokens")
    parser.add_argument("--peer-runs", type=int, default=1, help="runs of each peer; 0 leaves out")
    parser.add_argument("--large", action="store_true", help="ten copies of the corpus, too")
    parser.add_argument("--only", nargs="+", choices=CORPORA, default=CORPORA, help="of which text")
    parser.add_argument("--bare", choices=BARE_WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in ("corpus", "peers", "tokenizer"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    if arguments.runs < 1 or arguments.peer_runs < 0:
        parser.error("--runs is at least 1, --peer-runs at least 0")
    if not arguments.corpus.is_dir():
        sys.exit(f"{arguments.corpus} isn't there: name a folder of .txt files with --corpus.")
    if not arguments.bare and arguments.peer_runs and not arguments.peers.is_file():
        sys.exit(f"{arguments.peers} isn't there: name it with --peers, or set --peer-runs 0.")
    return arguments


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    arguments = parse_arguments()
    if arguments.bare:
        bare_fastokens(arguments.bare, arguments.corpus, arguments.tokenizer)
        return 0
    print(machine())
    kept = [measure_corpus(corpus, arguments) for corpus in arguments.only]
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    return int(not all(kept))


def measure_corpus(corpus: str, arguments: argparse.Namespace) -> bool:
    """Measure one corpus and print what came of it; whether every limit is kept."""
    peers = [p for p in PEERS if arguments.peer_runs and (p != "trl" or find_spec("trl"))]
    peers = peers if corpus == "books" else []
    large = None
    with tempfile.TemporaryDirectory() as name:
        scratch, folder = Path(name), Path(name) / "corpus"
        if corpus == "code":
            size = write_code(folder)
        elif corpus == "small":
            copy_as_utf8(arguments.corpus, scratch / "whole")
            size = cut_small(scratch / "whole", folder)
        else:
            size = copy_as_utf8(arguments.corpus, folder)
        print(f"\n{corpus}: {size / 1e6:.1f} MB of text, block size {BLOCK_SIZE:,}\n")
        taken = measure(
            folder,
            scratch,
            model=arguments.tokenizer,
            runs=arguments.runs,
            peers=peers,
            script=arguments.peers,
            peer_runs=arguments.peer_runs if peers else 0,
        )
        if arguments.large and corpus == "books":
            large = measure_large(
                arguments.corpus, scratch, model=arguments.tokenizer, runs=arguments.runs
            )
    print_table(taken, large, size)
    print()
    verdicts = [*limits(taken, large, corpus)]
    for kept, line in verdicts:
        print(f"{'ok' if kept else 'MISSED':<7} {line}")
    for peer in PEERS if corpus == "books" else ():
        if peer not in peers:
            print(f"SKIPPED {peer}: {why_skipped(peer, arguments.peer_runs)}")
    return all(kept for kept, _ in verdicts)


def why_skipped(peer: str, peer_runs: int) -> str:
    """Why a peer wasn't measured, and the way out."""
    if not peer_runs:
        return "--peer-runs is 0"
    return (
        f"{peer} can't be imported. pip install --no-deps --target /tmp/peers trl==1.16.0, "
        "then PYTHONPATH=/tmp/peers"
    )


if __name__ == "__main__":
    sys.exit(main())
