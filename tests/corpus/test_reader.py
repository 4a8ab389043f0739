from pathlib import Path

import pytest

from gptft.config.sections import DataConfig
from gptft.corpus.documents import find_parts
from gptft.corpus.reader import check_files, find_files, read_text, split_documents
from gptft.errors import DataError


def names(folder: Path, *sources: str, exclude: tuple[str, ...] = ()) -> list[str]:
    found = find_files([str(folder / source) for source in sources], exclude=exclude)
    return [path.relative_to(folder).as_posix() for path in found.files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.md", "deep/er/c.TXT", ".hidden.txt", ".git/d.txt", "x.png", "e.txt~"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("текст", encoding="utf-8")
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    return tmp_path


def test_a_folder_gives_its_texts_sorted_without_hidden_ones_and_readmes(folder: Path):
    assert names(folder, "") == ["a.md", "b.txt", "deep/er/c.TXT"]
    found = find_files([str(folder)])
    assert sorted(path.name for path in found.skipped) == sorted(
        [".hidden.txt", "d.txt", "x.png", "e.txt~", "README.md"]
    )


def test_a_named_file_is_taken_whatever_its_name(folder: Path):
    assert names(folder, "x.png", ".hidden.txt", "README.md") == [
        "x.png",
        ".hidden.txt",
        "README.md",
    ]


def test_a_glob_goes_as_deep_as_it_says(folder: Path):
    assert names(folder, "*.txt") == ["b.txt"]
    assert names(folder, "**/*.TXT") == ["deep/er/c.TXT"]


def test_no_file_is_taken_twice(folder: Path):
    assert names(folder, "b.txt", "", "*.txt") == ["b.txt", "a.md", "deep/er/c.TXT"]


def test_no_file_is_taken_twice_through_a_link(folder: Path):
    (folder / "loop").symlink_to(folder)
    assert names(folder, "**/*.txt") == ["b.txt"]
    assert names(folder, "b.txt", "deep/../b.txt") == ["b.txt"]


def test_a_file_name_with_glob_characters_is_a_file_first(tmp_path: Path):
    (tmp_path / "a[1].txt").write_text("x", encoding="utf-8")
    assert names(tmp_path, "a[1].txt") == ["a[1].txt"]


def test_exclude_takes_names_and_paths(folder: Path):
    assert names(folder, "", exclude=("b.*",)) == ["a.md", "deep/er/c.TXT"]
    assert names(folder, "", exclude=("*/deep/*",)) == ["a.md", "b.txt"]
    with pytest.raises(DataError, match="leaves nothing"):
        names(folder, "", exclude=("*",))


def test_every_source_that_names_nothing_is_said(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as caught:
        names(tmp_path, "none.txt", "*.csv", "empty", "images")
    lines = str(caught.value).splitlines()
    assert "none.txt: no such file or folder" in lines[0]
    assert "*.csv matches no file" in lines[1]
    assert "empty is an empty folder" in lines[2]
    assert "holds no .txt or .md file, only 1 others (.png)" in lines[3]


def test_text_is_read_byte_for_byte_but_for_its_byte_order_mark(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\n")
    assert read_text(path) == "a\r\nb\rc\n\n"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("Мороз".encode("cp1251"), "byte 0xcc at offset 0"),
        ("ab Мороз".encode()[:-1], "byte 0xd0 at offset 11"),
        (b"abc\0def", "NUL byte at offset 3"),
        ("Мороз".encode("utf-16"), "not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_no_utf8_text_is_named_with_the_offset(
    tmp_path: Path, raw: bytes, said: str
):
    path = tmp_path / "bad.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"bad\.txt") as caught:
        read_text(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_bad_files_are_named_at_once_the_rest_counted(tmp_path: Path):
    for number in range(8):
        (tmp_path / f"{number}.txt").write_bytes(b"\xff")
    with pytest.raises(DataError) as caught:
        check_files(sorted(tmp_path.iterdir()))
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    assert lines[-2] == "... and 3 more files that can't be read."
    assert "data.exclude" in lines[-1]


@pytest.mark.parametrize(
    ("text", "separator", "documents", "empty"),
    [
        ("a\n\nb", None, ["a\n\nb"], 0),
        ("a\n\nb", "\n\n", ["a", "b"], 0),
        ("a\n\n\n\n \n\nb\n\n", "\n\n", ["a", "b"], 3),
        ("", None, [], 1),
        (" \n\t", None, [], 1),
        ("a<|endoftext|>b", "<|endoftext|>", ["a", "b"], 0),
    ],
)
def test_documents_are_what_stands_between_separators(
    text: str, separator: str | None, documents: list[str], empty: int
):
    assert split_documents(text, separator=separator) == (documents, empty)


def test_validation_files_leave_the_training_part(corpus_dir: Path):
    data = DataConfig(train=[str(corpus_dir)], validation=[str(corpus_dir / "1.txt")])
    train, validation = find_parts(data)
    assert [path.name for path in train.files] == ["0.txt", "2.txt", "3.txt"]
    assert [path.name for path in validation] == ["1.txt"]
    with pytest.raises(DataError, match="leaves nothing to train on"):
        find_parts(DataConfig(train=[str(corpus_dir)], validation=[str(corpus_dir)]))
