"""A run on a model of the hub: which commit it began at, and that nothing of it knows the token."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from gptft.cli.app import app
from tests.conftest import SENTENCES
from tests.models.hub_server import Hub

SECRET = "hf_" + "s3cr3t" * 5
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def repository(
    hub: Hub, tiny_model_dir: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A private repository with one commit, and a text beside the run to train on."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (in_tmp / "x.txt").write_text("\n".join(SENTENCES * 4), encoding="utf-8")
    files = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
    made = hub.add("owner/tiny", {}, token=SECRET)
    made.commits = {OLD: files, NEW: {**files, "README.md": b"new"}}
    made.branches["main"] = OLD
    return made


def gptft(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def train(*args: str, max_steps: int) -> Result:
    settings = ("max_steps", str(max_steps)), ("save_strategy", "steps"), ("save_steps", "1")
    flags = [f"--set=training.{name}={value}" for name, value in settings]
    sizes = ["--set=data.block_size=32", "--set=samples.recite=false", "--use-cpu"]
    run = ["--model", "owner/tiny", "--out", "run"]
    return gptft("train", "x.txt", *run, *flags, *sizes, *args)


def facts() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    return read


def test_it_says_at_which_commit_and_resumes_at_no_other(hub: Hub, repository: Any):
    done = train(max_steps=1)
    assert done.exit_code == 0, done.output
    assert facts()["fingerprint"]["model.commit"] == OLD
    assert f"(https://huggingface.co/owner/tiny), revision `{OLD}`" in Path(
        "run/model/README.md"
    ).read_text(encoding="utf-8")

    asked = len(hub.asked)
    assert train("--resume", "--extend", max_steps=2).exit_code == 0
    assert len(hub.asked) == asked

    shutil.rmtree(constants.HF_HUB_CACHE)  # as on another machine, when main is at another commit
    repository.branches["main"] = NEW
    refused = train("--resume", "--extend", max_steps=3)
    back = f"Put it back (--set model.revision={OLD}), or resume with --allow-change model.commit."
    assert f"model.commit was {OLD} and is {NEW} now. {back}" in str(refused.exception)
    again = train("--resume", "--extend", f"--set=model.revision={OLD}", max_steps=3)
    assert again.exit_code == 0, again.exception
    assert facts()["fingerprint"]["model.commit"] == OLD


def test_no_file_and_no_line_of_it_knows_the_token(hub: Hub, repository: Any):
    said = gptft("config", "check", "x.txt", "--set=model.name=owner/tiny")
    assert said.exit_code == 0, said.exception
    assert not hub.ranges()  # no weights for a check
    outputs = [said.output]
    for done in (
        train(max_steps=1),
        gptft("generate", "run", "-p", "Буря", "--max-new-tokens", "2", "--json"),
        gptft("generate", "owner/tiny", "-p", "Буря", "--max-new-tokens", "2", "--json"),
        gptft("info", "owner/tiny", "--json"),
        gptft("score", "owner/tiny", "Буря"),
        gptft("tokenize", "Буря", "--model", "owner/tiny"),
    ):
        assert done.exit_code == 0, done.exception
        outputs.append(done.output)
    outputs.append(str(gptft("info", "owner/other").exception))
    assert "no such repository" in outputs[-1]
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert not [text for text in outputs if SECRET in text]


@pytest.mark.parametrize("command", ["generate -p x", "predict -p x", "score x"])
def test_a_name_that_the_hub_does_not_have_is_told_before_torch_is_loaded(
    hub: Hub, command: str, monkeypatch: pytest.MonkeyPatch
):
    def load() -> None:
        raise AssertionError("torch was loaded")

    for module in ("generation", "models", "tokens"):
        monkeypatch.setattr(f"gptft.api.{module}.loading_libraries", load, raising=False)
    name, *rest = command.split()
    refused = gptft(name, "owner/nothing", *rest)
    assert "there is no such repository" in str(refused.exception)
