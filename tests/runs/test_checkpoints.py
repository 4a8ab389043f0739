"""Checkpoint folders: what is kept, what goes, and what is in them."""

import json
import zipfile
from pathlib import Path

import pytest

from gptft.runs.checkpoints import (
    MANIFEST,
    STAGING,
    Checkpoint,
    all_damage,
    clear_leftovers,
    commit_checkpoint,
    find_damage,
    find_size_damage,
    list_checkpoints,
    newest_valid,
    rotate_checkpoints,
)
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, contents, facts, rows

SECRET = "hf_NobodyMustEverReadThisToken42"


def commit(folder: Path, step: int) -> Checkpoint:
    """A checkpoint of three small files, one of them empty, one in a folder."""
    staging = folder / STAGING / f"checkpoint-{step}"
    (staging / "inner").mkdir(parents=True)
    (staging / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (staging / "inner" / "state.json").write_text(f'{{"step": {step}}}', encoding="utf-8")
    (staging / "empty").touch()
    return commit_checkpoint(staging, folder, step=step, notes={"num_tokens_seen": step * 10})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def strangers(folder: Path) -> dict[str, bytes]:
    """Folders that look like checkpoints, and that somebody else made."""
    for name in ("checkpoint-7", "checkpoint-x", "checkpoint-2-copy", "checkpoint"):
        (folder / name).mkdir(parents=True)
        (folder / name / "diary.txt").write_text("дорогое", encoding="utf-8")
    (folder / "checkpoint-9").write_text("a file", encoding="utf-8")
    return contents(folder)


def test_a_committed_checkpoint_is_whole_and_tells_its_notes(tmp_path: Path):
    checkpoint = commit(tmp_path, 3)
    assert checkpoint == Checkpoint(tmp_path / "checkpoint-3", 3)
    assert find_damage(checkpoint.path) is None
    assert checkpoint.notes == {"num_tokens_seen": 30}
    manifest = json.loads((checkpoint.path / MANIFEST).read_text(encoding="utf-8"))
    assert {name: entry["size"] for name, entry in manifest["files"].items()} == {
        "empty": 0,
        "inner/state.json": 11,
        "model.safetensors": 768,
    }
    # SHA-256 of nothing, as `sha256sum /dev/null` prints it.
    assert manifest["files"]["empty"]["sha256"] == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_every_damage_is_named(tmp_path: Path):
    path = commit(tmp_path, 3).path
    assert [*all_damage(path)] == []
    (path / "inner" / "state.json").write_text('{"step": 4}', encoding="utf-8")
    (path / "model.safetensors").write_bytes(b"cut")
    (path / "empty").unlink()
    (path / "mine.txt").touch()
    assert [*all_damage(path)] == [
        "empty is missing",
        "inner/state.json isn't what was written",
        "model.safetensors has 3 bytes, not 768",
        "mine.txt was put there by something else",
    ]
    assert find_size_damage(path) == "empty is missing"
    moved = path.rename(tmp_path / "checkpoint-4")
    assert find_size_damage(moved) == find_damage(moved) == "MANIFEST.json is of step 3"
    manifest = moved / MANIFEST
    manifest.write_text(manifest.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert find_damage(moved) == "MANIFEST.json isn't what was written"
    for content in ("", "[]", '{"files": []}', "\x00"):
        manifest.write_text(content, encoding="utf-8")
        assert [*all_damage(moved)] == ["MANIFEST.json can't be read"]
    manifest.unlink()
    assert [*all_damage(moved)] == ["it has no MANIFEST.json"]
    for name, entry in (("a", 1), ("b", {}), ("c", {"size": "x"}), ("d", {"size": 0})):
        (moved / name).touch()
        content = json.dumps({"step": 4, "files": {name: entry}})
        manifest.write_text(content, encoding="utf-8")
        assert any(damage.startswith(f"{name} isn't") for damage in all_damage(moved))


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "inner/.DS_Store", "._model.safetensors", ".nfs0000000001", "Thumbs.db",
        "desktop.ini", "tokenizer.json", "tokenizer_config.json", ".ipynb_checkpoints/a.json",
    ],
)  # fmt: skip
def test_what_file_managers_leave_damages_nothing(tmp_path: Path, name: str):
    """A look into the folder must not have `--resume` skip its newest checkpoint."""
    path = commit(tmp_path, 3).path
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"\0\0\0\1Bud1")
    assert [*all_damage(path)] == []
    (path / "empty").unlink()
    assert [*all_damage(path)] == ["empty is missing"]


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "model.safetensors.index.json", "inner/tokens.txt"]
)
def test_what_a_library_may_read_is_damage(tmp_path: Path, name: str):
    path = commit(tmp_path, 3).path
    (path / name).touch()
    assert [*all_damage(path)] == [f"{name} was put there by something else"]


def test_the_same_step_again_takes_the_place_of_the_first(tmp_path: Path):
    commit(tmp_path, 2)
    (tmp_path / "checkpoint-2" / "empty").write_text("damage", encoding="utf-8")
    commit(tmp_path, 2)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == {"checkpoint-2"}
    assert find_damage(tmp_path / "checkpoint-2") is None


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, {5}),
        (2, None, {4, 5}),
        (9, None, {1, 2, 3, 4, 5}),
        (1, 2, {2, 5}),  # the best one, and the last to go on from
        (2, 2, {2, 5}),
        (3, 2, {2, 4, 5}),
        (2, 5, {4, 5}),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(
    tmp_path: Path, keep: int, best: int | None, left: set[int]
):
    for step in range(1, 6):
        commit(tmp_path, step)
    path = tmp_path / f"checkpoint-{best}" if best else None
    rotate_checkpoints(tmp_path, step=5, keep=keep, best=path)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == {f"checkpoint-{step}" for step in left}


def test_a_damaged_checkpoint_of_a_later_step_does_not_push_out_the_one_just_written(
    tmp_path: Path,
):
    for step in (2, 4, 6):
        commit(tmp_path, step)
    (tmp_path / "checkpoint-6" / "empty").write_text("damage", encoding="utf-8")
    commit(tmp_path, 5)  # after resuming from step 4
    rotate_checkpoints(tmp_path, step=5, keep=1)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == {"checkpoint-5", "checkpoint-6"}
    newest, _ = newest_valid(tmp_path)
    assert newest == Checkpoint(tmp_path / "checkpoint-5", 5)


def test_what_others_have_made_is_neither_counted_nor_touched(tmp_path: Path):
    before = strangers(tmp_path)
    for step in (1, 2, 3):
        commit(tmp_path, step)
    rotate_checkpoints(tmp_path, step=3, keep=2)
    clear_leftovers(tmp_path)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {c.step for c in list_checkpoints(tmp_path)} == {2, 3, 7}
    newest, skipped = newest_valid(tmp_path)
    assert newest == Checkpoint(tmp_path / "checkpoint-3", 3)
    assert [(one.name, one.reason) for one in skipped] == [
        ("checkpoint-7", "it has no MANIFEST.json")
    ]


def test_no_folder_holds_no_checkpoint(tmp_path: Path):
    assert newest_valid(tmp_path / "none") == (None, [])


SETTINGS = {
    "max_steps": 8,
    "learning_rate": 0.2,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 1,
    "load_best_model_at_end": True,
}


def test_a_run_keeps_the_best_and_the_last_and_leaves_others_alone(run: Run, tmp_path: Path):
    data = {"validation": 0.3}
    with Cut(after=5):
        run(data=data, training=SETTINGS)
    folder = tmp_path / "run" / "checkpoints"
    before = strangers(tmp_path / "mine")
    for path in (tmp_path / "mine").iterdir():
        path.rename(folder / path.name)
    result = run(data=data, training=SETTINGS, resume=Resume())
    logged = rows(result.run_dir / "metrics.jsonl")
    losses = {row["step"]: row["eval_loss"] for row in logged if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert best < 8
    assert result.validation is not None
    assert result.validation.loss_after == pytest.approx(losses[best], rel=1e-9)
    after = contents(folder)
    # Its name was needed in step 7; what is in it wasn't.
    moved = {name.replace("checkpoint-7/", "checkpoint-7-old-1/"): before[name] for name in before}
    assert {name: after[name] for name in moved} == moved
    ours = {c.step for c in list_checkpoints(folder) if (c.path / MANIFEST).is_file()}
    assert ours == {best, 8}


def test_no_pickled_arguments_and_no_secret_on_the_disk(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", SECRET + "E")
    result = run(training={"hub_token": SECRET, "save_strategy": "steps", "save_steps": 1})
    files = contents(result.run_dir)
    assert any(name.endswith("optimizer.pt") for name in files)
    assert not [name for name in files if name.endswith((".bin", ".pkl"))]
    leaks = [name for name, content in files.items() if SECRET.encode() in content]
    for name in files:
        path = result.run_dir / name
        if zipfile.is_zipfile(path):  # what torch.save writes
            with zipfile.ZipFile(path) as archive:
                inner = [archive.read(one) for one in archive.namelist()]
            leaks += [name for content in inner if SECRET.encode() in content]
    assert leaks == []
    assert facts(result.run_dir)["state"] == "done"
