"""Texts and settings that `gptft prepare` refuses: one clear line each, nothing half-written."""

import builtins
import errno
import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.errors import GptftError
from gptft.files import default_cache_dir

RUSSIAN = "Буря мглою небо кроет, вихри снежные крутя;\n"
Make = Callable[[Path], None]


def write(name: str, content: bytes | str) -> Make:
    """What writes one file into a folder."""

    def make(folder: Path) -> None:
        raw = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(raw)

    return make


def images(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "pictures" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def half_a_gz(folder: Path) -> None:
    whole = gzip.compress(RUSSIAN.encode() * 1000)
    (folder / "poem.txt.gz").write_bytes(whole[: len(whole) // 2])


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")


def loop(folder: Path) -> None:
    (folder / "loop.txt").symlink_to(folder / "loop.txt")


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


# what stands in the folder, the data section, and what the message must say
TABLE: dict[str, tuple[Make, dict[str, object], tuple[str, ...]]] = {
    "missing path": (nothing, {"train": "none.txt"}, ("none.txt: no such file or folder",)),
    "glob without a match": (nothing, {"train": "*.md"}, ("*.md matches no file",)),
    "empty file": (write("a.txt", ""), {"train": "a.txt"}, ("a.txt", "no text in it")),
    "folder of images": (
        images,
        {"train": "pictures"},
        ("pictures holds no text", "2 files (2 .png)"),
    ),
    "invalid UTF-8": (
        write("a.txt", RUSSIAN.encode() * 20 + b"\xff" + RUSSIAN.encode() * 20),
        {"train": "a.txt"},
        ("a.txt", "0xff", f"{len(RUSSIAN.encode()) * 20:,}"),
    ),
    "another encoding where utf-8 is asked for": (
        write("a.txt", (RUSSIAN * 4).encode("cp1251")),
        {"train": "a.txt", "encoding": "utf-8"},
        ("a.txt", "0xc1", "offset 0", "1251"),
    ),
    "UTF-16 without a byte order mark": (
        write("a.txt", (RUSSIAN * 4).encode("utf-16-le")),
        {"train": "a.txt"},
        ("a.txt", "UTF-16"),
    ),
    "NUL bytes": (write("a.txt", b"abc\0def"), {"train": "a.txt"}, ("a.txt", "NUL", "offset 3")),
    "half a gz": (half_a_gz, {"train": "poem.txt.gz"}, ("poem.txt.gz", "not an intact .gz file")),
    "no gz at all": (write("a.gz", "text"), {"train": "a.gz"}, ("a.gz", "not an intact .gz file")),
    "a bad line of JSONL": (
        write("a.jsonl", '{"text": "a"}\n\n{"text": "b"\n'),
        {"train": "a.jsonl"},
        ("a.jsonl:3", "not JSON"),
    ),
    "a missing field": (
        write("a.jsonl", '{"text": "a"}\n{"body": "b"}\n'),
        {"train": "a.jsonl"},
        ("a.jsonl:2", "text", "body", "data.text_field"),
    ),
    "a missing field of a template": (
        write("a.jsonl", '{"title": "a"}\n'),
        {"train": "a.jsonl", "template": "{title}\n{body}"},
        ("a.jsonl:1", "body"),
    ),
    "null": (write("a.jsonl", '{"text": null}\n'), {"train": "a.jsonl"}, ("a.jsonl:1", "null")),
    "a number instead of a string": (
        write("a.jsonl", '{"text": 7}\n'),
        {"train": "a.jsonl"},
        ("a.jsonl:1", "number", "7"),
    ),
    "a ragged CSV": (
        write("a.csv", "title,text\nx,y\nonly one\n"),
        {"train": "a.csv"},
        ("a.csv:3", "1", "2"),
    ),
    "an unclosed quote": (
        write("a.csv", 'title,text\nx,"y\nz,w\n'),
        {"train": "a.csv"},
        ("a.csv:2", "quote"),
    ),
    "no Parquet file": (write("a.parquet", "text"), {"train": "a.parquet"}, ("a.parquet",)),
    "a FIFO": (fifo, {"train": "pipe.txt"}, ("pipe.txt is a FIFO",)),
    "a symlink loop": (loop, {"train": "loop.txt"}, ("loop.txt", "symbolic links")),
    "a block beyond the context": (
        write("a.txt", RUSSIAN),
        {"train": "a.txt", "block_size": 65},
        ("block_size is 65", "context of 64 tokens"),
    ),
    "a text shorter than a block that isn't kept": (
        write("a.txt", "а"),
        {"train": "a.txt", "tail": "drop"},
        ("a.txt", "fewer than one block of 64", "data.tail"),
    ),
    "an exclude that excludes nothing": (
        write("a.txt", RUSSIAN),
        {"train": "a.txt", "exclude": "*.bak"},
        ("data.exclude", "'*.bak'", "matches none"),
    ),
    "a name too long": (nothing, {"train": "a" * 300}, ("can't be read", "name too long")),
    "nobody's home": (nothing, {"train": "~nosuchuser/a.txt"}, ("no such user",)),
    "a block of 10**20": (
        write("a.txt", RUSSIAN),
        {"train": "a.txt", "block_size": 10**20},
        ("block_size", "at most 100,000,000"),
    ),
    "a block of 10**6": (
        write("a.txt", RUSSIAN),
        {"train": "a.txt", "block_size": 10**6},
        ("block_size", "context of 64"),
    ),
}


def prepare(folder: Path, model_dir: Path, data: dict[str, object]) -> BaseException | None:
    """Run `gptft prepare` on a config with this data section; what it raised."""
    config = {"model": {"name": str(model_dir)}, "data": data}
    (folder / "my.yaml").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    return CliRunner().invoke(app, ["prepare", str(folder / "my.yaml")]).exception


@pytest.mark.parametrize("case", TABLE)
def test_it_is_refused_in_one_line_and_nothing_is_left(
    case: str, in_tmp: Path, tiny_model_dir: Path
):
    make, data, said = TABLE[case]
    make(in_tmp)
    error = prepare(in_tmp, tiny_model_dir, data)
    assert isinstance(error, GptftError), error
    assert error.exit_code in (1, 2)
    assert "\n" not in str(error)
    assert all(words in str(error) for words in said), str(error)
    blocks = default_cache_dir() / "blocks"
    assert not blocks.exists() or not list(blocks.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(in_tmp: Path, tiny_model_dir: Path):
    write("a.txt", RUSSIAN)(in_tmp)
    (in_tmp / "a.txt").chmod(0)
    error = prepare(in_tmp, tiny_model_dir, {"train": "a.txt"})
    assert "a.txt can't be read: Permission denied" in str(error)


def test_a_file_that_may_not_be_opened_is_named(
    in_tmp: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the test above, for machines where the tests run as root."""
    write("a.txt", RUSSIAN)(in_tmp)
    opened = builtins.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(path, str | Path) and Path(path).name == "a.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    error = prepare(in_tmp, tiny_model_dir, {"train": "a.txt"})
    assert isinstance(error, GptftError)
    assert "a.txt can't be read: Permission denied." in str(error)


def test_a_vocabulary_larger_than_the_models_is_refused(
    in_tmp: Path, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
):
    model = tmp_path_factory.mktemp("model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes((tiny_model_dir / name).read_bytes())
    config = json.loads((tiny_model_dir / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 100}), encoding="utf-8")
    write("a.txt", RUSSIAN)(in_tmp)
    error = prepare(in_tmp, model, {"train": "a.txt"})
    assert isinstance(error, GptftError)
    assert "vocab_size 100" in str(error)
    assert "belongs to another model" in str(error)


def limited(
    script: str, folder: Path, *, limit: int, what: int
) -> subprocess.CompletedProcess[str]:
    """Run `gptft prepare` in a process of its own under a resource limit."""
    return subprocess.run(
        [sys.executable, "-m", "gptft", "prepare", script],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(what, (limit, limit)),
    )


def test_a_disk_that_is_full_in_the_middle(in_tmp: Path, tiny_model_dir: Path):
    """No file may grow beyond 100 kB: the encoded ids run into it, as into a full disk."""
    write("a.txt", RUSSIAN * 10_000)(in_tmp)
    config = {"model": {"name": str(tiny_model_dir)}, "data": {"train": "a.txt"}}
    write("my.yaml", json.dumps(config))(in_tmp)
    done = limited("my.yaml", in_tmp, limit=100_000, what=resource.RLIMIT_FSIZE)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: The disk is full:")
    assert len(done.stderr.splitlines()) == 1
    assert not list((default_cache_dir() / "blocks").iterdir())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_a_line_of_200_mb_is_prepared_in_flat_memory_and_one_without_a_space_refused(
    in_tmp: Path, tiny_model_dir: Path
):
    with (in_tmp / "line.txt").open("wb") as file:
        for _ in range(200):
            file.write(("буря мглою небо кроет " * 26_000).encode())
    assert (in_tmp / "line.txt").stat().st_size > 200_000_000
    config = {"model": {"name": str(tiny_model_dir)}, "data": {"train": "line.txt"}}
    write("my.yaml", json.dumps(config))(in_tmp)
    script = (
        "import sys; from gptft.cli import main\n"
        "sys.argv = ['gptft', 'prepare', 'my.yaml', '--json']\n"
        "try: main()\n"
        "finally: print(open('/proc/self/status').read(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=in_tmp, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["documents"], answer["num_eos"]) == (1, 1)
    assert answer["bytes"] == (in_tmp / "line.txt").stat().st_size
    peak = next(line for line in done.stderr.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 500_000  # kB
    with (in_tmp / "line.txt").open("wb") as file:
        for _ in range(200):
            file.write(b"a" * 1_000_000)
    error = prepare(in_tmp, tiny_model_dir, {"train": "line.txt"})
    assert isinstance(error, GptftError)
    assert "line.txt: " in str(error)
    assert "without a place to cut" in str(error)
