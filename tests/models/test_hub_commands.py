"""The command line in a process of its own, which finds the hub by its variables alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.hub_server import Hub, running_hub

SECRET = "hf_" + "s3cr3t" * 5


def gptft(hub: Hub, home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    left_out = ("HF_", "HUGGING", "HTTP", "http", "ALL_PROXY", "all_proxy")
    env = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1,localhost", **more}
    return subprocess.run(
        [sys.executable, "-m", "gptft", *args],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_a_model_is_told_of_and_used_offline_afterwards(tmp_path: Path, tiny_model_dir: Path):
    with running_hub() as hub:
        files = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
        hub.add("owner/tiny", files, token=SECRET)
        refused = gptft(hub, tmp_path, "info", "owner/tiny")
        assert refused.returncode == 2
        assert "it is private (401)" in refused.stderr
        told = gptft(hub, tmp_path, "info", "owner/tiny", HF_TOKEN=SECRET)
        assert told.returncode == 0, told.stderr
        assert "owner/tiny, gpt2" in told.stdout
        assert told.stderr == ""
        asked = len(hub.asked)
        shown = gptft(hub, tmp_path, "tokenize", "Буря", "--model=owner/tiny", HF_HUB_OFFLINE="1")
        assert shown.returncode == 0, shown.stderr
        (tmp_path / "x.txt").write_text("Буря мглою небо кроет.\n" * 50, encoding="utf-8")
        check = ("config", "check", "x.txt", "--set=model.name=owner/tiny")
        lacking = gptft(hub, tmp_path, *check, TRANSFORMERS_OFFLINE="1")
        assert lacking.returncode == 2
        assert "lacks model.safetensors of it at main" in lacking.stderr
        assert "HF_HUB_OFFLINE" in lacking.stderr
        assert len(hub.asked) == asked
        assert SECRET not in "".join((told.stdout, shown.stdout, lacking.stderr))


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_variables_that_the_client_cannot_read_are_named(tmp_path: Path, name: str):
    with running_hub() as hub:
        done = gptft(hub, tmp_path, "info", "owner/name", **{name: "1.5"})
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
