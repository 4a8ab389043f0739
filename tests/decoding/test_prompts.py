import gzip
import io
import json
from unittest import mock

import pytest

from gptft.decoding.prompts.gather import gather_prompts
from gptft.errors import ConfigError, DataError


class Unread(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        raise AssertionError("standard input was read")


def gather(*prompts, path=None, piped=None):
    raw = io.BufferedReader(Unread()) if piped is None else io.BytesIO(piped)
    with mock.patch("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8")):
        return gather_prompts(list(prompts), path)


class TestCommandLine:
    def test_prompts_are_kept_as_they_are_and_in_order(self):
        assert gather("b", "a", " a\n", "b") == ["b", "a", " a\n", "b"]

    def test_an_empty_one_is_a_prompt_too(self):
        assert gather("") == [""]

    def test_bytes_that_were_no_text_are_refused(self):
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            gather("fine", "a\udcd0")


class TestStandardInput:
    def test_all_of_it_is_one_prompt_without_the_last_line_break(self):
        assert gather(piped="Буря\nмглою\n".encode()) == ["Буря\nмглою"]
        assert gather(piped=b"a\r\n") == ["a"]
        assert gather(piped=b"a\n\n") == ["a\n"]
        assert gather(piped=b" a ") == [" a "]
        assert gather(piped=b"\n") == [""]

    def test_a_byte_order_mark_is_none_of_it(self):
        assert gather(piped="\ufeffБуря".encode()) == ["Буря"]

    def test_nothing_is_no_prompt(self):
        with pytest.raises(ConfigError, match=r"There is no prompt. Give one: -p"):
            gather(piped=b"")

    def test_what_is_not_text_says_where(self):
        with pytest.raises(
            DataError, match=r"^Standard input is not text in UTF-8: byte 0xff at offset 2, and it"
        ):
            gather(piped=b"ab\xff\xfe")

    def test_it_is_left_alone_where_prompts_are_given(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("x\n", encoding="utf-8")
        assert gather("y") == ["y"]
        assert gather(path=path) == ["x"]


class TestTextFile:
    def write(self, tmp_path, content, name="prompts.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def test_a_line_is_a_prompt_after_those_of_the_command_line(self, tmp_path):
        path = self.write(tmp_path, "\ufeffБуря\r\n\r\nмглою\u2028небо\n x \n")
        assert gather("fox", path=path) == ["fox", "Буря", "мглою\u2028небо", " x "]

    def test_one_without_prompts_is_refused(self, tmp_path):
        for content in ("", "\n", "\r\n\n"):
            with pytest.raises(ConfigError, match=r"prompts.txt holds no prompt: every line of it"):
                gather("x", path=self.write(tmp_path, content))

    def test_one_that_can_not_be_read_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"none.txt can't be read: No such file"):
            gather(path=tmp_path / "none.txt")
        with pytest.raises(DataError, match="can't be read: Is a directory"):
            gather(path=tmp_path)
        with pytest.raises(DataError, match=r"prompts.txt is not text but a PNG image\."):
            gather(path=self.write(tmp_path, b"\x89PNG\r\n\x1a\n\0\0"))


class TestJsonLines:
    def write(self, tmp_path, *lines):
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def test_a_line_is_an_object_with_a_prompt_or_a_text(self, tmp_path):
        prompts = ["Буря\nмглою", "", 'a "b"']
        path = self.write(
            tmp_path,
            json.dumps({"prompt": prompts[0], "id": 7}),
            "  ",
            json.dumps({"prompt": prompts[1]}, ensure_ascii=False),
            json.dumps(prompts[2]) + "\r",
        )
        assert gather("fox", path=path) == ["fox", *prompts]

    @pytest.mark.parametrize("line", ["{}", '{"prompt": 5}', '{"text": "x"}', "[]", "5", "null"])
    def test_a_line_that_holds_none_is_refused(self, tmp_path, line):
        with pytest.raises(ConfigError, match=r'prompts.jsonl:2: a line is {"prompt": "\.\.\."}'):
            gather(path=self.write(tmp_path, '"x"', line))

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("{prompt: x}", r".* column 2\."),
            ('{"prompt": "x', r".* column 12\."),
            ("[" * 100_000, r"it is nested too deeply\."),
            ('{"prompt":' * 100_000, r"it is nested too deeply\."),
            ('{"id": ' + "1" * 5_000 + "}", r"Exceeds the limit .*"),
        ],
        ids=["no quotes", "cut off", "deep lists", "deep objects", "a long number"],
    )
    def test_a_line_that_is_no_json_is_refused(self, tmp_path, line, why):
        with pytest.raises(
            ConfigError, match=rf"prompts.jsonl:3: this line is no JSON: {why}$"
        ) as caught:
            gather(path=self.write(tmp_path, '"x"', "", line))
        assert len(str(caught.value)) - len(str(tmp_path)) < 200

    def test_a_compressed_one_is_read_through(self, tmp_path):
        path = tmp_path / "prompts.JSONL.gz"
        path.write_bytes(gzip.compress(b'{"prompt": "x"}\n'))
        assert gather(path=path) == ["x"]

    def test_one_without_lines_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="holds no prompt"):
            gather(path=self.write(tmp_path, "", " "))

    def test_half_a_character_written_in_ascii_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            gather(path=self.write(tmp_path, '"a\\ud800"'))
