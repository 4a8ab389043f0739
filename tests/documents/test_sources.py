import os
import socket
import unicodedata
from pathlib import Path

import pytest

from gptft.config.data import DataConfig
from gptft.documents.formats.format import Format
from gptft.documents.formats.registry import FORMATS, SUFFIXES
from gptft.documents.sources import (
    VALIDATION,
    FoundTexts,
    find_texts,
)
from gptft.errors import DataError
from gptft.terminal.text import shown_path
from gptft.terminal.words import account_of_skipped
from tests.documents.reference import write_files


def find(folder: Path, *sources: str, **settings: object) -> FoundTexts:
    names = [source if source.startswith("hub:") else str(folder / source) for source in sources]
    return find_texts(DataConfig.model_validate({"train": names, **settings}))


def names(folder: Path, *sources: str, **settings: object) -> list[str]:
    found = find(folder, *sources, **settings)
    return [text.path.relative_to(folder).as_posix() for text in found.texts if text.path]


def refused(folder: Path, *sources: str, **settings: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        find(folder, *sources, **settings)
    return str(caught.value).splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = ("b.txt", "a.md", "deep/er/c.TXT", ".hidden.txt", ".git/d.txt", "x.png", "e.txt~")
    return write_files(tmp_path, {name: "текст" for name in (*files, "README.md")})


class TestFolder:
    """A folder gives the texts and records in it."""

    def test_sorted_without_hidden_ones_and_readmes(self, folder: Path):
        assert names(folder, "") == ["a.md", "b.txt", "deep/er/c.TXT"]
        assert find(folder, "").skipped == {
            "hidden folders": 1,
            "hidden": 1,
            ".png": 1,
            ".txt~": 1,
            "README": 1,
        }

    def test_takes_texts_and_records_compressed_ones_too(self, tmp_path: Path):
        texts = [suffix for format in FORMATS if not format.is_binary for suffix in format.suffixes]
        compressed = [suffix + packed for suffix in texts for packed in (".zst", ".GZ")]
        taken = [f"a{suffix}" for suffix in [*SUFFIXES, *compressed]] + ["C.TXT"]
        left = ["a.gz", "b.zst", "c", "d.png", "e.txt.bz2", "f.tar.gz", "g.exe"]
        write_files(tmp_path, dict.fromkeys([*taken, *left], "x"))
        assert sorted(names(tmp_path, "")) == sorted(taken)
        skipped = {"no suffix": 3, ".png": 1, ".bz2": 1, ".tar": 1, ".exe": 1}
        assert find(tmp_path, "").skipped == skipped

    @pytest.mark.parametrize("name", ["README", "readme.txt", "ReadMe.md", "README.rst.txt"])
    def test_a_readme_speaks_about_the_corpus(self, tmp_path: Path, name: str):
        write_files(tmp_path, {name: "about", "readme_of_my_life.txt": "a text"})
        assert names(tmp_path, "") == ["readme_of_my_life.txt"]
        assert names(tmp_path, name) == [name]

    def test_is_in_order_of_names_as_a_person_reads_them(self, tmp_path: Path):
        """Composed and decomposed accents sort alike, however a file system keeps them."""
        shorts = [unicodedata.normalize("NFD", "й.txt"), "ж.txt", "к.txt", "и.txt"]
        write_files(tmp_path, dict.fromkeys(shorts, "x"))
        decomposed = names(tmp_path, "")
        composed = ["ж.txt", "и.txt", "й.txt", "к.txt"]
        assert [unicodedata.normalize("NFC", name) for name in decomposed] == composed

    def test_with_both_forms_of_an_accent_is_in_one_order(self, tmp_path: Path):
        for folder, forms in (("1", ("NFC", "NFD")), ("2", ("NFD", "NFC"))):
            for form in forms:
                write_files(tmp_path / folder, {f"{unicodedata.normalize(form, 'й')}.txt": form})
        assert names(tmp_path / "1", "") == names(tmp_path / "2", "")

    def test_is_sorted_by_part_not_by_string(self, tmp_path: Path):
        write_files(tmp_path, dict.fromkeys(["a/z.txt", "a b/y.txt", "a.txt", "a/b/c.txt"], "x"))
        assert names(tmp_path, "") == ["a/b/c.txt", "a/z.txt", "a b/y.txt", "a.txt"]

    def test_named_twice_gives_its_files_once(self, folder: Path):
        found = find(folder, "deep", "", "deep/er")
        assert [text.number for text in found.texts] == [0, 1, 1]
        assert found.skipped["named twice"] == 2

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_that_may_not_be_read_is_named(self, folder: Path):
        (folder / "deep").chmod(0)
        try:
            (line,) = refused(folder, "")
        finally:
            (folder / "deep").chmod(0o700)
        assert line.endswith("deep can't be read: Permission denied.")

    def test_that_fails_to_list_is_named(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        scan = os.scandir

        def deny(path: str) -> object:
            if str(path).endswith("deep"):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", deny)
        (line,) = refused(folder, "")
        assert line == f"{folder}/deep can't be read: Permission denied."


class TestFile:
    """A named file is taken whatever its name."""

    def test_whatever_its_suffix(self, folder: Path):
        named = ["x.png", ".hidden.txt", "README.md", ".git/d.txt"]
        assert names(folder, *named) == named

    def test_with_glob_characters_is_a_file_first(self, tmp_path: Path):
        write_files(tmp_path, {"a[1].txt": "x", "a1.txt": "y", "b*.txt": "z", "bb.txt": ""})
        assert names(tmp_path, "a[1].txt", "b*.txt") == ["a[1].txt", "b*.txt"]

    def test_is_taken_once_however_it_is_named(self, folder: Path):
        assert names(folder, "b.txt", "", "*.txt") == ["b.txt", "a.md", "deep/er/c.TXT"]
        assert names(folder, "b.txt", "deep/../b.txt") == ["b.txt"]
        assert find(folder, "b.txt", "b.txt").skipped == {"named twice": 1}

    def test_in_the_home_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HOME", str(folder))
        found = find_texts(DataConfig(train=["~/b.txt"]))
        assert [text.path for text in found.texts] == [folder / "b.txt"]

    def test_whose_name_is_not_unicode(self, tmp_path: Path):
        raw = os.fsencode(tmp_path) + b"/\xd0\xf3\xf1.txt"
        with open(raw, "wb") as file:
            file.write("Русь".encode())
        (text,) = find(tmp_path, "").texts
        assert text.name == f"{tmp_path}/\\xd0\\xf3\\xf1.txt"
        text.name.encode()
        assert text.path is not None
        assert text.path.read_text(encoding="utf-8") == "Русь"
        assert shown_path(os.fsdecode(raw)) == text.name

    def test_numbers_say_which_source_named_it(self, folder: Path):
        found = find(folder, "b.txt", "*.md", validation=[str(folder / "deep")])
        assert [text.number for text in found.texts] == [0, 1, 1, VALIDATION]
        assert found.num_train == 3


class TestGlob:
    """A glob gives what it matches."""

    def test_goes_as_deep_as_it_says(self, folder: Path):
        assert names(folder, "*.txt") == ["b.txt"]
        assert names(folder, "**/*.TXT") == ["deep/er/c.TXT"]
        assert names(folder, "*.png") == ["x.png"]

    def test_may_match_folders_which_give_their_texts(self, folder: Path):
        write_files(folder, {"dust/f.txt": "x", "dust/g.png": "x"})
        assert names(folder, "d*") == ["deep/er/c.TXT", "dust/f.txt"]
        assert find(folder, "d*").skipped == {".png": 1}

    def test_that_names_what_its_folder_passes_over_takes_it(self, folder: Path):
        found = find(folder, "**", "*.png")
        assert [text.path.name for text in found.texts if text.path][-1] == "x.png"
        assert ".png" not in found.skipped

    def test_that_meets_a_folder_and_what_is_in_it_counts_nothing_twice(self, tmp_path: Path):
        write_files(tmp_path, {"in/a/b/c.txt": "x", "in/a/b/.hidden": "x", "in/a/e.txt": "x"})
        found = find(tmp_path, "in/**")
        assert len(found.texts) == 2
        assert found.skipped == {"hidden": 1}

    def test_is_in_order_of_names(self, tmp_path: Path):
        write_files(tmp_path, {f"{n}.txt": "x" for n in (3, 1, 10, 2)})
        assert names(tmp_path, "*.txt") == ["1.txt", "10.txt", "2.txt", "3.txt"]

    def test_passes_over_what_is_no_file(self, tmp_path: Path):
        write_files(tmp_path, {"a.txt": "x"})
        os.mkfifo(tmp_path / "b.txt")
        found = find(tmp_path, "*.txt")
        assert len(found.texts) == 1
        assert found.skipped == {"no files": 1}


class TestLinks:
    """Links are followed, and nothing is taken twice through them."""

    def test_a_loop_ends(self, folder: Path):
        (folder / "deep" / "loop").symlink_to(folder)
        (folder / "self").symlink_to(folder / "self")
        assert names(folder, "") == ["a.md", "b.txt", "deep/er/c.TXT"]
        assert find(folder, "").skipped["links back"] == 1
        assert find(folder, "").skipped["links to nothing"] == 1

    def test_a_loop_in_a_glob_ends(self, folder: Path):
        (folder / "loop").symlink_to(folder)
        assert names(folder, "**/*.txt") == ["b.txt"]

    def test_links_to_folders_are_followed_each_folder_once(self, tmp_path: Path):
        write_files(tmp_path, {"far/away/x.txt": "x", "in/a.txt": "a"})
        (tmp_path / "in" / "one").symlink_to(tmp_path / "far")
        (tmp_path / "in" / "two").symlink_to(tmp_path / "far" / "away")
        assert names(tmp_path, "in") == ["in/a.txt", "in/one/away/x.txt"]
        assert find(tmp_path, "in").skipped == {"links back": 1}

    def test_links_to_a_file_are_that_file(self, tmp_path: Path):
        write_files(tmp_path, {"far/x.txt": "x", "in/a.txt": "a"})
        for name in ("b.txt", "c.txt"):
            (tmp_path / "in" / name).symlink_to(tmp_path / "far" / "x.txt")
        assert names(tmp_path, "in") == ["in/a.txt", "in/b.txt"]

    def test_dangling_ones_are_counted_in_a_folder_and_refused_by_name(self, folder: Path):
        (folder / "gone.txt").symlink_to(folder / "nowhere")
        assert find(folder, "").skipped["links to nothing"] == 1
        (line,) = refused(folder, "gone.txt")
        assert "gone.txt is a link to nothing" in line

    def test_an_endless_one_is_refused_by_name(self, tmp_path: Path):
        (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
        (line,) = refused(tmp_path, "a.txt")
        assert line.endswith("a.txt can't be read: Too many levels of symbolic links.")


class TestExclude:
    """What `data.exclude` names is left out."""

    def test_takes_names_and_paths(self, folder: Path):
        assert names(folder, "", exclude=["b.*"]) == ["a.md", "deep/er/c.TXT"]
        assert names(folder, "", exclude=["*/deep/*"]) == ["a.md", "b.txt"]
        assert names(folder, "", exclude="*.md") == ["b.txt", "deep/er/c.TXT"]
        assert find(folder, "", exclude=["b.*", "*.txt"]).skipped["excluded"] == 1

    def test_that_leaves_nothing_is_refused(self, folder: Path):
        assert refused(folder, "", exclude=["*"]) == [
            f"data.exclude leaves nothing of {folder}. Exclude less."
        ]

    def test_that_matches_nothing_is_refused_each_by_name(self, folder: Path):
        assert refused(folder, "", exclude=["*.doc", "b.*", "z*", "y*", "x*"]) == [
            f"data.exclude: {pattern!r} matches none of the files."
            for pattern in ("*.doc", "z*", "y*", "x*")
        ]

    def test_holds_for_validation_too(self, folder: Path):
        found = find(folder, "deep", validation=[str(folder / "*.*")], exclude=["*.md", "*~"])
        assert [text.name for text in found.texts] == [
            f"{folder}/deep/er/c.TXT",
            f"{folder}/b.txt",
            f"{folder}/x.png",
        ]


class TestOurFolders:
    """What gptft and transformers write isn't text, wherever it lies."""

    RUN = ("run.json", "config.yaml", "metrics.jsonl", "samples.jsonl", "report.html")
    MODEL = ("config.json", "tokenizer.json", "model.safetensors")
    ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

    @pytest.mark.parametrize(
        ("where", "files"),
        [
            ("runs/po", RUN),
            ("runs/po", (*RUN, "checkpoints/checkpoint-2/MANIFEST.json", "model/config.json")),
            ("old", ("config.json", "run.json", "config.yaml")),
            ("tiny", MODEL),
            ("lora", ADAPTER),
            ("tiny", ("config.json", "pytorch_model.bin", "vocab.json", "merges.txt")),
            ("tok", ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")),
        ],
    )
    def test_are_skipped_below_a_folder_and_refused_as_one(
        self, folder: Path, where: str, files: tuple[str, ...]
    ):
        write_files(folder, {f"{where}/{name}": "{}" for name in files})
        assert names(folder, "") == ["a.md", "b.txt", "deep/er/c.TXT"]
        kind = "runs" if "run.json" in files else "models"
        assert find(folder, "").skipped[kind] == 1
        (line,) = refused(folder, where)
        assert line.startswith(f"{folder}/{where} is a {kind[:-1]}, not texts. ")
        assert names(folder, f"{where}/{files[0]}") == [f"{where}/{files[0]}"]

    @pytest.mark.parametrize(
        "files", [("config.json", "a.txt"), ("run.json",), ("config.yaml", "b.txt"), ("a.bin",)]
    )
    def test_a_name_alone_makes_no_run_and_no_model(self, tmp_path: Path, files: tuple[str, ...]):
        write_files(tmp_path, {"a.txt": "текст", **dict.fromkeys(files, "{}")})
        assert "a.txt" in names(tmp_path, "")

    def test_the_way_out_is_a_command(self, tmp_path: Path):
        write_files(tmp_path, {f"my runs/a/{name}": "{}" for name in self.RUN})
        write_files(tmp_path, {f"tiny/{name}": "{}" for name in self.MODEL})
        run, model = f"{tmp_path}/my runs/a", f"{tmp_path}/tiny"
        assert refused(tmp_path, "my runs/a") == [
            f"{run} is a run, not texts. Resume it: gptft train '{run}/config.yaml' --resume"
        ]
        assert refused(tmp_path, "tiny") == [
            f"{model} is a model, not texts. Train it on a text: gptft train TEXT --model {model}"
        ]


class TestNothing:
    """What names nothing is said, all of it at once."""

    def test_each_source_in_a_line(self, folder: Path):
        (folder / "empty").mkdir()
        write_files(folder / "images", {"a.png": "", "b.PNG": "", ".c": "", "README": ""})
        lines = refused(folder, "none.txt", "*.docx", "empty", "images", "b.txt")
        assert lines == [
            f"{folder}/none.txt: no such file or folder (looked from {Path.cwd()}).",
            f"{folder}/*.docx matches no file (looked from {Path.cwd()}).",
            f"{folder}/empty is an empty folder. Put texts in it ({', '.join(SUFFIXES)}).",
            f"{folder}/images holds no text, only 4 files (2 .png, 1 README, 1 hidden). Name a "
            "file or a glob to read it whatever its name.",
        ]

    @pytest.mark.parametrize("packed", [".gz", ".ZST"])
    @pytest.mark.parametrize("format", [format for format in FORMATS if format.is_binary])
    def test_compressed_files_of_a_binary_format_unless_excluded(
        self, folder: Path, format: Format, packed: str
    ):
        compressed = [f"{n}{format.suffixes[0]}{packed}" for n in range(7)]
        write_files(folder, dict.fromkeys(compressed, "x"))
        says = "a binary format can't be read compressed. Decompress the file, or leave it out"
        (line,) = refused(folder, compressed[0])
        assert line.startswith(f"{folder}/{compressed[0]}: {says} with data.exclude.")
        (line,) = refused(folder, "")
        assert f"/{compressed[4]} and 2 more: {says}" in line
        assert names(folder, "", exclude=[f"*{packed}"]) == ["a.md", "b.txt", "deep/er/c.TXT"]

    def test_a_user_that_is_not_there(self):
        with pytest.raises(DataError, match=r"^~nosuchuser/a\.txt: there is no such user\."):
            find_texts(DataConfig(train=["~nosuchuser/a.txt"]))

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("я" * 128, "File name too long"), ("a\0b", "embedded null byte")],
    )
    def test_a_name_that_no_file_can_have(self, tmp_path: Path, name: str, reason: str):
        (line,) = refused(tmp_path, name)
        assert line.endswith(f"can't be read: {reason}.")

    def test_a_file_in_a_file(self, folder: Path):
        (line,) = refused(folder, "b.txt/c.txt")
        assert "b.txt/c.txt: no such file or folder" in line

    def test_a_fifo_is_never_opened(self, folder: Path):
        os.mkfifo(folder / "f.txt")
        (line,) = refused(folder, "f.txt")
        assert line == f"{folder}/f.txt is a FIFO, not a file. Save its text to a file first."
        assert find(folder, "").skipped["no files"] == 1

    def test_a_socket_and_a_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s.txt")  # a short path: sockets' names are limited to 108 bytes
            (line,) = refused(tmp_path, "s.txt")
        assert "s.txt is a socket, not a file" in line
        (line,) = refused(Path("/dev"), "null")
        assert "/dev/null is a device, not a file" in line


class TestValidation:
    """Files named for validation are in no training split."""

    def test_they_leave_the_training_split(self, corpus_dir: Path):
        found = find(corpus_dir, "", validation=[str(corpus_dir / "1.txt")])
        assert [text.path.name for text in found.texts if text.path] == [
            *("0.txt", "2.txt", "3.txt"),
            "1.txt",
        ]
        assert [text.number for text in found.texts] == [0, 0, 0, VALIDATION]

    def test_they_leave_it_through_a_link_too(self, corpus_dir: Path, tmp_path: Path):
        (tmp_path / "link.txt").symlink_to(corpus_dir / "1.txt")
        assert len(find(corpus_dir, "", validation=[str(tmp_path / "link.txt")]).texts) == 4

    def test_all_of_them_leave_nothing(self, corpus_dir: Path):
        assert refused(corpus_dir, "", validation=[str(corpus_dir)]) == [
            "data.validation names all 4 files of data.train, which leaves nothing to train on. "
            "Name fewer."
        ]

    def test_none_of_them_there_is_said(self, corpus_dir: Path):
        (line,) = refused(corpus_dir, "", validation=["no*.txt"])
        assert line.startswith("no*.txt matches no file")

    def test_a_share_names_no_files(self, corpus_dir: Path):
        found = find(corpus_dir, "", validation=0.5)
        assert found.num_train == len(found.texts) == 4


class TestHub:
    """Data sets are named, not looked for."""

    def test_stand_among_files_in_order(self, corpus_dir: Path):
        found = find(corpus_dir, "3.txt", "hub:nobody/texts:ru:train", "0.txt")
        assert [(text.name, text.path is None) for text in found.texts] == [
            (f"{corpus_dir}/3.txt", False),
            ("hub:nobody/texts:ru:train", True),
            (f"{corpus_dir}/0.txt", False),
        ]
        assert [text.number for text in found.texts] == [0, 1, 2]

    def test_once(self, corpus_dir: Path):
        found = find(corpus_dir, "hub:a/b", "hub:a/b")
        assert len(found.texts) == 1
        assert found.skipped == {"named twice": 1}

    def test_held_out_is_not_trained_on(self, corpus_dir: Path):
        found = find(corpus_dir, "hub:a/b", "0.txt", validation=["hub:a/b"])
        assert [text.number for text in found.texts] == [1, VALIDATION]


@pytest.mark.parametrize(
    ("skipped", "said"),
    [
        ({".png": 1}, "1 file (1 .png)"),
        ({".b": 2, ".a": 2, "hidden": 3}, "7 files (3 hidden, 2 .a, 2 .b)"),
        (
            {f".{letter}": 1000 for letter in "abcdefg"},
            "7,000 files (1,000 .a, 1,000 .b, 1,000 .c, 1,000 .d, 1,000 .e, 2,000 others)",
        ),
    ],
)
def test_the_account_names_five_kinds(skipped: dict[str, int], said: str):
    assert account_of_skipped(skipped) == said


def test_relative_names_stay_as_they_were_written(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(corpus_dir.parent)
    found = find_texts(DataConfig(train=["texts", "texts/0.txt"]))
    assert [text.name for text in found.texts] == [f"texts/{n}.txt" for n in range(4)]
