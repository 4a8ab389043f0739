"""One run with a broken file changes nothing of what is said of the others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app

FILES = (
    "run.json",
    "metrics.jsonl",
    "checkpoints/checkpoint-5/MANIFEST.json",
    "checkpoints/checkpoint-5/trainer_state.json",
)
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "no text": b"\xff\xfe\x00\x80",
    "nested arrays": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "a long number": b'{"step": 1' + b"0" * 5_000 + b"}",
    "no number": b'{"step": 1e400, "state": "done", "result": {"steps": 1e400}, "loss": NaN}',
    "NUL in a name": b'{"format": 1, "step": 5, "notes": {}, "files": {"a\\u0000b": {"size": 1}}}',
    "a name too long": b'{"step": 5, "files": {"' + b"x" * 5_000 + b'": {"size": 1}}}',
    "no entry": b'{"files": {"x": null, "y": [1]}, "step": [5]}',
    "lists for words": b'{"state": ["a"], "step": [1], "loss": [2]}',
    "other shapes": b'{"state": {"a": 1}, "config": [], "error": {"a": 1}, "result": [1]}',
    "text for numbers": b'{"state": "done", "result": {"steps": "x", "train": [1]}, "step": "5"}',
    "half a surrogate pair": b'{"state": "failed", "error": "\\ud800", "config": {"\\udfff": 1}}',
    "escapes": b'{"state": "failed", "error": "\\u001b[31m\\u202ered\\nline"}',
}


def stopped(run: Path) -> None:
    """A run as a signal leaves it."""
    checkpoint = run / "checkpoints" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    facts = {"state": "stopped", "step": 5, "config": {"training": {"max_steps": 8}}}
    state = '{"max_steps": 8}\n'
    files = {"trainer_state.json": {"size": len(state), "xxh3_128": "0" * 32}}
    manifest = {"format": 1, "step": 5, "notes": {}, "files": files}
    (run / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    (run / "metrics.jsonl").write_text('{"step": 5, "loss": 2.5}\n', encoding="utf-8")
    (checkpoint / "trainer_state.json").write_text(state, encoding="utf-8")
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("broken", [*BROKEN, "a folder", "nothing to read"])
def test_each_run_stands_alone(tmp_path: Path, name: str, broken: str):
    stopped(tmp_path / "intact")
    stopped(tmp_path / "other")
    file = tmp_path / "other" / name
    if broken in BROKEN:
        file.write_bytes(BROKEN[broken])
    else:
        file.unlink()
        file.mkdir() if broken == "a folder" else file.symlink_to(file)
    table = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert table.exit_code == 0, table.output
    rows = [line.split("\t") for line in table.stdout.splitlines()]
    (row,) = [row for row in rows if row[0] == str(tmp_path / "intact")]
    assert [row[1], row[4], row[5], row[9]] == ["stopped", "step 5/8", "loss 2.500", "saved at 5"]
    assert not {"\x1b", "\u202e"} & {*table.output}
    listed = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"])
    assert listed.exit_code == 0, listed.output
    runs = {Path(run["path"]).name: run for run in json.loads(listed.stdout)["runs"]}
    assert runs["intact"]["checkpoint"] == 5
    verified = CliRunner().invoke(app, ["runs", "verify", str(tmp_path / "other")])
    assert verified.exit_code in (0, 1, 2)
    assert verified.exception is None or isinstance(verified.exception, SystemExit)
    assert len(verified.output) < 2_000
