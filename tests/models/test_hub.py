"""Models of the hub: what is fetched, what is kept, and what is said where it can't be had."""

import errno
import json
import os
import re
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from time import monotonic

import pytest
from huggingface_hub import constants

from gptft import console
from gptft.errors import Interrupted, ModelError
from gptft.models import hub_fetch
from gptft.models.hub import check_on_hub, commit_of, find_model
from gptft.models.hub_cache import is_text
from gptft.models.source import resolve_model
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.tokenization.training import open_local
from tests.models.hub_server import SIGNATURE, Fault, Hub, cut

CONFIG = {"config.json": b'{"model_type": "gpt2"}', "tokenizer.json": b"{}"}
WEIGHTS = bytes(range(256)) * 40  # 10,240 bytes
SECRET = "hf_" + "s3cr3t" * 5


@pytest.fixture(scope="session")
def model_files(tiny_model_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}


def in_parts(*, suffix: str = "safetensors", stem: str = "model") -> dict[str, bytes]:
    """Weights in two files, with their index."""
    names = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1], "c": names[0]}}
    return {
        f"{stem}.{suffix}.index.json": json.dumps(index).encode(),
        **{name: name.encode() * 100 for name in names},
    }


def message_of(model: str, revision: str | None = None, *, with_weights: bool = True) -> str:
    with pytest.raises(ModelError) as caught:
        find_model(model, revision=revision, with_weights=with_weights)
    return str(caught.value)


class TestWhatIsFetched:
    def test_a_model_once(self, hub: Hub, model_files: dict[str, bytes]):
        hub.add("owner/tiny", {**model_files, "README.md": b"# Tiny", ".gitattributes": b"x"})
        files = find_model("owner/tiny")
        there = {path.name: path.read_bytes() for path in files.folder.iterdir()}
        assert there == {**model_files, "README.md": b"# Tiny"}
        before = len(hub.asked)
        assert find_model("owner/tiny").folder == files.folder
        assert find_model("owner/tiny", with_weights=False).folder == files.folder
        assert check_on_hub("owner/tiny")
        assert open_local("owner/tiny").name == "owner/tiny"
        assert len(hub.asked) == before

    def test_its_tokenizer_without_its_weights(self, hub: Hub, model_files: dict[str, bytes]):
        hub.add("owner/tiny", model_files)
        here = load_tokenizer("owner/tiny")
        assert here.vocab_size == 320
        assert open_local("owner/tiny").backend.to_str() == here.backend.to_str()
        assert not [name for name in hub.fetched() if not is_text(name)]
        assert not hub.ranges()
        asked = len(hub.asked)
        load_tokenizer("owner/tiny")
        assert len(hub.asked) == asked
        assert not check_on_hub("owner/tiny")
        assert find_model("owner/tiny").has_weights

    @pytest.mark.parametrize(
        ("files", "wanted"),
        [
            pytest.param(
                {"model.safetensors": b"1", "pytorch_model.bin": b"2", "tf_model.h5": b"3"},
                {"model.safetensors"},
                id="safetensors before pickled",
            ),
            pytest.param(
                {"pytorch_model.bin": b"2", "rust_model.ot": b"3", "training_args.bin": b"4"},
                {"pytorch_model.bin"},
                id="pickled alone",
            ),
            pytest.param(in_parts(), set(in_parts()), id="an index and its parts"),
            pytest.param(
                in_parts(suffix="bin", stem="pytorch_model"),
                set(in_parts(suffix="bin", stem="pytorch_model")),
                id="pickled in parts",
            ),
            pytest.param(
                {**in_parts(), "consolidated.safetensors": b"3", "model-other.safetensors": b"4"},
                set(in_parts()),
                id="the same weights twice",
            ),
            pytest.param(
                {
                    "model.safetensors": b"1",
                    "original/model.safetensors": b"2",
                    "original/params.json": b"{}",
                    "onnx/config.json": b"{}",
                    "onnx/model.onnx": b"3",
                    "adapter/adapter_model.safetensors": b"4",
                    "checkpoint-5/pytorch_model.bin": b"5",
                    "checkpoint-5/tokenizer.json": b"{}",
                },
                {"model.safetensors"},
                id="nothing of its folders",
            ),
            pytest.param(
                {
                    "model.safetensors": b"1",
                    "chat_template.jinja": b"{{ messages }}",
                    "additional_chat_templates/tools.jinja": b"{{ tools }}",
                    "trainer_state.json": b"[" * 100,
                    "all_results.json": b"{}",
                },
                {
                    "model.safetensors",
                    "chat_template.jinja",
                    "additional_chat_templates/tools.jinja",
                },
                id="templates, and no logs",
            ),
            pytest.param(
                {"model.safetensors": b"1", "tokenizer.model": b"2", "merges.txt": b"3"},
                {"model.safetensors", "tokenizer.model", "merges.txt"},
                id="older tokenizers",
            ),
        ],
    )
    def test_only_what_is_loaded(self, hub: Hub, files: dict[str, bytes], wanted: set[str]):
        hub.add("owner/name", {**CONFIG, **files})
        folder = find_model("owner/name").folder
        paths = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.relative_to(folder).as_posix() for path in paths} == {*CONFIG, *wanted}
        assert set(hub.fetched()) == {*CONFIG, *wanted}
        asked = len(hub.asked)
        find_model("owner/name")
        assert len(hub.asked) == asked

    def test_a_branch_a_tag_and_a_commit(self, hub: Hub):
        made = hub.add("owner/name", {**CONFIG, "model.safetensors": b"new"})
        old = "c" * 40
        made.commits[old] = {**CONFIG, "model.safetensors": b"old"}
        made.tags["v1"], made.branches["refs/pr/1"] = old, old
        for revision, content in (
            (None, b"new"), ("main", b"new"), ("v1", b"old"), (old, b"old"), ("refs/pr/1", b"old"),
        ):  # fmt: skip
            files = find_model("owner/name", revision=revision)
            assert (files.folder / "model.safetensors").read_bytes() == content
        assert files.folder.name == old
        asked = len(hub.asked)
        find_model("owner/name", revision="v1")
        for named in ("owner/name@v1", f"owner/name@{old}"):
            assert find_model(named).folder == files.folder
            assert check_on_hub(named)
            assert commit_of(named) == old
        assert find_model("owner/name@v1", revision="v1").folder == files.folder
        assert len(hub.asked) == asked
        both = "owner/name@v1 names the revision v1, and model.revision is main. Leave one out"
        assert both in message_of("owner/name@v1", "main")
        assert "it has no revision 'v2'" in message_of("owner/name@v2")

    def test_the_token_goes_to_the_hub_and_not_to_the_store_it_leads_to(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/private", {**CONFIG, "model.safetensors": WEIGHTS}, token=SECRET)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        find_model("owner/private")
        to_store = [one for one in hub.asked if "/store/" in one.path]
        assert to_store
        assert not [one for one in to_store if SECRET in str(dict(one.headers))]
        assert {one.headers["authorization"] for one in hub.asked if one not in to_store} == {
            f"Bearer {SECRET}"
        }

    def test_the_token_of_the_login_file(self, hub: Hub):
        hub.add("owner/private", {**CONFIG, "model.safetensors": WEIGHTS}, token=SECRET)
        path = Path(constants.HF_TOKEN_PATH)
        path.parent.mkdir(parents=True)
        path.write_text(f"{SECRET}\n", encoding="utf-8")
        assert (find_model("owner/private").folder / "model.safetensors").read_bytes() == WEIGHTS


class TestABrokenDownload:
    def test_resumes_where_it_was(self, hub: Hub):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        hub.faults += [cut("/store/", after=4000), cut("/store/", after=3000)]
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS
        assert hub.ranges() == ["all", "bytes=4000-", "bytes=7000-"]
        assert not [*Path(constants.HF_HUB_CACHE).rglob("*.incomplete")]

    def test_that_fails_for_good_is_kept_and_the_next_command_goes_on(self, hub: Hub):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        hub.faults += [cut("/store/", after=4000), cut("/store/", after=0, times=3)]
        message = message_of("owner/name")
        assert "model.safetensors broke off at 4.0 kB of 10.2 kB" in message
        assert "run the same again to go on from there" in message
        assert SIGNATURE not in message
        assert "\n" not in message
        hub.asked.clear()
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS
        assert hub.ranges() == ["bytes=4000-"]
        assert sum(sum(one.sent) for one in hub.asked if "/store/" in one.path) == 6240

    def test_of_one_part_costs_no_other(self, hub: Hub):
        parts = in_parts()
        hub.add("owner/name", {**CONFIG, **parts})
        content = parts["model-00002-of-00002.safetensors"]
        store = f"/store/{sha256(content).hexdigest()}"
        hub.faults += [cut(store, after=100), cut(store, after=0, times=3)]
        assert "model-00002-of-00002.safetensors broke off at 100 bytes" in message_of("owner/name")
        hub.asked.clear()
        assert find_model("owner/name").has_weights
        assert "bytes=100-" in hub.ranges()

    def test_from_a_server_that_knows_no_ranges_begins_anew(self, hub: Hub):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        hub.ignores_ranges = True
        hub.faults.append(cut("/store/", after=4000))
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS

    @pytest.mark.parametrize("left", [b"x" * 4000, b"x" * 10_240, b"x" * 20_000])
    def test_with_other_bytes_than_the_hubs_is_never_taken(self, hub: Hub, left: bytes):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        blobs = Path(constants.HF_HUB_CACHE) / "models--owner--name" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{sha256(WEIGHTS).hexdigest()}.incomplete").write_bytes(left)
        if len(left) <= len(WEIGHTS):
            message = message_of("owner/name")
            assert "its SHA-256 isn't" in message
            assert "Run the same again to fetch it anew" in message
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    @pytest.mark.parametrize("where", ["/api/", "/store/", "/resolve/"])
    def test_of_a_busy_hub_is_asked_again(self, hub: Hub, status: int, where: str):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        hub.faults.append(Fault(where, status=status, headers={"Retry-After": "0"}))
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS

    def test_of_a_full_disk_is_told_before_it_begins(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        monkeypatch.setattr(hub_fetch, "free_bytes", lambda folder: 3 * 10**6)
        message = message_of("owner/name")
        assert "10.2 kB are to be fetched" in message
        assert "3.0 MB are free" in message
        assert "HF_HOME" in message
        assert not hub.ranges()

    def test_that_stalls_is_resumed(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        hub.faults.append(Fault("/store/", cut_after=4000, stall=2.0))
        files = find_model("owner/name")
        assert (files.folder / "model.safetensors").read_bytes() == WEIGHTS
        assert hub.ranges() == ["all", "bytes=4000-"]

    def test_onto_a_disk_without_links_takes_it_once(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
        hub.add("owner/name", {**CONFIG, **in_parts()})
        folder = find_model("owner/name").folder
        assert not [path for path in folder.iterdir() if path.is_symlink()]
        assert not [*folder.parents[1].glob("blobs/*")]
        asked = len(hub.asked)
        assert find_model("owner/name").has_weights
        assert len(hub.asked) == asked

    def test_that_fills_the_disk_is_no_fault_of_the_name(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        with monkeypatch.context() as patch:
            patch.setattr("gptft.models.hub_blob.os.fsync", full)
            message = message_of("owner/name")
        assert "cache can't be written: No space left on device. Make room (" in message
        assert find_model("owner/name").has_weights

    def test_of_two_processes_at_once_comes_once(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        find_model("owner/name", with_weights=False)
        monkeypatch.setattr("gptft.models.hub_blob._POLL", 0.02)
        hub.seconds_a_part = 0.05
        with ThreadPoolExecutor(3) as pool:
            found = [*pool.map(find_model, ["owner/name"] * 3)]
        assert all((one.folder / "model.safetensors").read_bytes() == WEIGHTS for one in found)
        assert hub.ranges() == ["all"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("Stopped.", signum=2)])
    def test_that_is_stopped_keeps_what_came(
        self, hub: Hub, error: BaseException, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS * 4})
        hub.seconds_a_part = 0.02

        def press(self: object, arrived: int, say: object) -> None:
            if arrived:
                raise error

        with monkeypatch.context() as patch:
            patch.setattr("gptft.models.hub_fetch._Progress.show", press)
            patch.setattr("gptft.models.hub_fetch._TICK", 0.05)
            with pytest.raises(type(error)) as caught:
                find_model("owner/name")
        if isinstance(error, Interrupted):
            assert "the same command goes on from there" in str(caught.value)
            assert caught.value.exit_code == 130
        hub.asked.clear()
        hub.seconds_a_part = 0.0
        assert (find_model("owner/name").folder / "model.safetensors").stat().st_size == 40_960
        assert hub.ranges()[0].startswith("bytes=")


class TestProgress:
    def test_is_shown_on_a_terminal_and_told_now_and_then_elsewhere(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        hub.add("owner/name", {**CONFIG, "model.safetensors": WEIGHTS})
        hub.seconds_a_part = 0.05
        monkeypatch.setattr(hub_fetch, "_TICK", 0.01)
        monkeypatch.setattr(hub_fetch, "_EVERY", 0.05)
        monkeypatch.setattr(hub_fetch, "_TOLD", 1)
        console.stderr.cache_clear()
        find_model("owner/name")
        told = capsys.readouterr().err.splitlines()
        console.stderr.cache_clear()
        assert told[0].startswith(f"Fetching 1 file of owner/name (10.2 kB) from {hub.url} into ")
        assert re.fullmatch(r"Fetching owner/name: [48]\.\d kB of 10\.2 kB.*\.", told[1])
        assert len(told) < 10

    def test_says_how_long_it_takes(self):
        progress, said = hub_fetch._Progress("owner/name", 4 * 10**9), list[str]()
        progress._first, progress._began = 10**9, monotonic() - 10
        said.append(progress._words(2 * 10**9, monotonic()))
        assert said == ["Fetching owner/name: 2.0 GB of 4.0 GB, 100.0 MB/s, 20.0 s left"]


class TestAHalfFilledCache:
    @pytest.fixture
    def folder(self, hub: Hub) -> Path:
        hub.add("owner/name", {**CONFIG, **in_parts()})
        return find_model("owner/name").folder

    @pytest.mark.parametrize(
        "name",
        ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json",
         "tokenizer.json"],
    )  # fmt: skip
    @pytest.mark.parametrize("damage", ["removed", "dangling", "cut", "copied and cut"])
    def test_is_completed(self, hub: Hub, folder: Path, name: str, damage: str):
        whole = {path.name: path.read_bytes() for path in folder.iterdir()}
        _damage(folder / name, damage)
        asked = len(hub.asked)
        again = find_model("owner/name")
        assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole
        assert {one.path.rpartition("/")[2] for one in hub.asked[asked:] if "resolve" in one.path} \
            == {name}  # fmt: skip

    @pytest.mark.parametrize("damage", ["removed", "dangling", "cut"])
    def test_is_named_offline(
        self, hub: Hub, folder: Path, damage: str, monkeypatch: pytest.MonkeyPatch
    ):
        _damage(folder / "model-00002-of-00002.safetensors", damage)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        message = message_of("owner/name")
        assert "lacks model-00002-of-00002.safetensors of it at main" in message
        assert "HF_HUB_OFFLINE is set" in message
        assert "hf download owner/name" in message
        assert "\n" not in message
        assert find_model("owner/name", with_weights=False).folder == folder

    @pytest.mark.parametrize("listed", ["kept", "removed", "damaged"])
    def test_of_an_older_client_is_used_as_it_is(
        self, hub: Hub, folder: Path, listed: str, monkeypatch: pytest.MonkeyPatch
    ):
        moved = Path(constants.HF_HUB_CACHE).parent / "moved"  # the client remembers lists by path
        shutil.copytree(constants.HF_HUB_CACHE, moved, symlinks=True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(moved))
        trees = moved / "models--owner--name" / "trees"
        if listed == "removed":
            shutil.rmtree(trees)
        elif listed == "damaged":
            next(trees.iterdir()).write_text('{"files": ', encoding="utf-8")
        asked = len(hub.asked)
        assert find_model("owner/name").has_weights
        assert len(hub.asked) == asked

    def test_of_an_older_client_without_a_part_is_completed(self, hub: Hub, folder: Path):
        repo = Path(constants.HF_HUB_CACHE) / "models--owner--name"
        shutil.rmtree(repo / "trees")
        (folder / "model-00001-of-00002.safetensors").unlink()
        assert find_model("owner/name").has_weights

    @pytest.mark.parametrize(
        ("name", "is_needed"),
        [
            ("vocab.json", False), ("merges.txt", False), ("tokenizer.model", False),
            ("generation_config.json", False), ("tokenizer_config.json", True),
            ("chat_template.jinja", True),
        ],
    )  # fmt: skip
    def test_offline_lacks_only_what_is_needed(
        self, hub: Hub, name: str, is_needed: bool, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/more", {**CONFIG, name: b"{}", "model.safetensors": WEIGHTS})
        folder = find_model("owner/more").folder
        (folder / name).unlink()  # as `hf download --include` leaves them out
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        if is_needed:
            assert f"lacks {name} of it at main" in message_of("owner/more")
        else:
            assert find_model("owner/more").folder == folder
            assert check_on_hub("owner/more")
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            assert (find_model("owner/more").folder / name).is_file()

    def test_never_needs_to_be_written_when_it_is_whole(self, hub: Hub, folder: Path):
        before = {path: path.lstat().st_mtime_ns for path in folder.parents[2].rglob("*")}
        find_model("owner/name")
        after = {path: path.lstat().st_mtime_ns for path in folder.parents[2].rglob("*")}
        assert after == before


def _damage(path: Path, how: str) -> None:
    blob = Path(os.path.realpath(path))
    content = blob.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "dangling":
        blob.unlink()
    elif how == "cut":
        blob.write_bytes(content[:-1])
    else:
        path.unlink()
        path.write_bytes(content[:-1])


class TestWhatIsSaid:
    @pytest.fixture
    def token(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("HF_TOKEN", SECRET)
        return SECRET

    def test_of_a_repository_that_is_not_there(self, hub: Hub):
        message = message_of("owner/nmae")
        assert f"there is no such repository at {hub.url}, or it is private (401)" in message
        assert "hf auth login" in message
        assert "HF_TOKEN" in message

    def test_of_one_that_is_not_there_for_a_token(self, hub: Hub, token: str):
        message = message_of("owner/nmae")
        assert "no such repository" in message
        assert "(404)" in message
        assert "your token must have the right to read it" in message
        assert token not in message

    def test_of_a_private_one(self, hub: Hub):
        hub.add("owner/private", CONFIG, token=SECRET)
        message = message_of("owner/private")
        assert "it is private (401)" in message
        assert "log in (hf auth login), or set HF_TOKEN" in message

    def test_of_a_wrong_token(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        hub.add("owner/private", CONFIG, token=SECRET)
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        message = message_of("owner/private")
        assert "the hub doesn't accept your token" in message
        assert "hf_wrong" not in message

    def test_of_terms_to_be_accepted(self, hub: Hub):
        hub.add("owner/gated", {**CONFIG, "model.safetensors": WEIGHTS}, gated=True)
        message = message_of("owner/gated")
        assert f"Accept the terms at {hub.url}/owner/gated, then log in" in message

    def test_of_terms_that_are_not_yet_granted(self, hub: Hub, token: str):
        hub.add("owner/gated", {**CONFIG, "model.safetensors": WEIGHTS}, gated=True)
        message = message_of("owner/gated")
        assert "its owner asks who uses it (403)" in message
        assert f"{hub.url}/owner/gated" in message
        assert "wait until its owner lets you in" in message

    @pytest.mark.parametrize("named", ["v", "v11", "v1.1"])
    def test_of_a_revision_that_is_not_there(self, hub: Hub, named: str):
        made = hub.add("owner/name", CONFIG)
        made.tags["v1"] = made.branches["main"]
        message = message_of("owner/name", named)
        assert f"it has no revision {named!r}" in message
        assert "v1" in message.partition("revision")[2].replace(repr(named), "")

    def test_of_a_token_that_can_be_none(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        hub.add("owner/name", CONFIG)
        monkeypatch.setenv("HF_TOKEN", "hf_se\x01cret")
        message = message_of("owner/name")
        assert "token" in message
        assert "cret" not in message

    def test_of_a_hub_that_asks_to_wait_too_long(self, hub: Hub):
        hub.add("owner/name", CONFIG)
        hub.faults.append(Fault("/api/", status=429, headers={"Retry-After": "3600"}))
        message = message_of("owner/name")
        assert "it was asked too often from here (429)" in message
        assert "in 3,600 s" in message

    def test_of_a_page_that_is_no_hub(self, hub: Hub):
        hub.add("owner/name", CONFIG)
        hub.faults.append(Fault("/api/", status=200, body=b"<html>Welcome!</html>"))
        message = message_of("owner/name")
        assert f"what answers at {hub.url} isn't a model hub" in message
        assert "HF_ENDPOINT" in message

    @pytest.mark.parametrize("endpoint", ["huggingface.co", "", "ftp://hub"])
    def test_of_an_address_that_is_none(
        self, hub: Hub, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        assert "Each begins with https:// or http://" in message_of("owner/name")

    def test_of_no_network(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            gone = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", gone)
        message = message_of("owner/name", "v2")
        assert f"{gone} can't be reached" in message
        assert "hf download owner/name --revision v2" in message
        assert "HTTPS_PROXY" in message

    def test_of_a_proxy_that_wants_a_password(self, hub: Hub, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example")
        monkeypatch.setenv("HTTP_PROXY", hub.url.replace("//", "//me:pass@"))
        hub.faults.append(Fault("http://hub.example/", status=407, times=9))
        message = message_of("owner/name")
        assert "the proxy asks for a name and a password (407)" in message
        assert "HTTPS_PROXY" in message
        assert "pass@" not in message

    def test_of_a_half_filled_cache_without_a_network(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/name", {**CONFIG, **in_parts()})
        find_model("owner/name", with_weights=False)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            gone = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", gone)
        message = message_of("owner/name")
        assert "lacks model.safetensors.index.json of it at main" in message
        assert "can't be reached" in message
        assert find_model("owner/name", with_weights=False).has_tokenizer

    @pytest.mark.parametrize("with_weights", [True, False])
    def test_of_a_model_that_is_not_here_offline(
        self, hub: Hub, with_weights: bool, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        message = message_of("owner/name", with_weights=with_weights)
        assert "no such folder here" in message
        assert "HF_HUB_OFFLINE is set" in message
        assert message.endswith("hf download owner/name")
        assert not hub.asked

    @pytest.mark.parametrize("name", ["owner/na--me", "owner/name.git", "-name", "мой/поэт"])
    def test_of_a_name_that_no_hub_has(self, hub: Hub, name: str):
        assert "no name that a hub id can have" in message_of(name)
        assert not hub.asked

    def test_of_a_cache_that_is_a_file(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        hub.add("owner/name", CONFIG)
        (tmp_path / "file").touch()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
        message = message_of("owner/name")
        assert "is a file" in message
        assert "HF_HOME" in message

    def test_of_an_index_that_names_what_is_not_there(self, hub: Hub):
        parts = in_parts()
        del parts["model-00002-of-00002.safetensors"]
        hub.add("owner/name", {**CONFIG, **parts})
        assert "names model-00002-of-00002.safetensors, which the repository doesn't" in message_of(
            "owner/name"
        )
        assert not hub.ranges()

    def test_of_a_repository_of_gguf_files(self, hub: Hub):
        hub.add("owner/small-GGUF", {"small-Q8_0.gguf": b"1" * 2000, "q4/small.gguf": b"2"})
        for with_weights in (True, False):
            message = message_of("owner/small-GGUF", with_weights=with_weights)
            assert "Name one of its .gguf files:" in message
            assert "\n  owner/small-GGUF/small-Q8_0.gguf  2.0 kB" in message
            assert "\n  owner/small-GGUF/q4/small.gguf  1 byte" in message

    @pytest.mark.parametrize("files", [{}, {"data.parquet": b"1"}, {"README.md": b"1"}])
    def test_of_a_repository_of_nothing(self, hub: Hub, files: dict[str, bytes]):
        hub.add("owner/name", files)
        assert "has no weights that gptft reads" in message_of("owner/name")
        message = message_of("owner/name", with_weights=False)
        assert "neither a config.json nor a tokenizer" in message


@pytest.mark.parametrize(
    ("name", "is_on_hub"),
    [
        ("owner/name/file.gguf", True),
        ("owner/name/q4/file.Q4_K_M.gguf", True),
        ("owner/name@v1/file.GGUF", True),
        ("owner/name/file@v1.gguf", False),
        ("owner/name@v1@v2/file.gguf", False),
        ("name/file.gguf", False),
        ("file.gguf", False),
        ("owner/name/model.safetensors", False),
        ("../name/file.gguf", False),
        ("/owner/name/file.gguf", False),
    ],
)
def test_a_gguf_file_of_a_repository_has_three_names(name: str, is_on_hub: bool):
    if is_on_hub:
        assert resolve_model(name) is None
    else:
        with pytest.raises(ModelError, match=r"no such|can't be opened"):
            resolve_model(name)
