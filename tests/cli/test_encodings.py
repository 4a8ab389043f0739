"""Every command that takes a text reads it in any encoding, and says alike what is no text."""

import io
import json
import sys
from pathlib import Path

import pytest

from gptft.cli import main
from gptft.tokenization.extension import read_tokens

TEXT = "Буря мглою небо кроет, вихри снежные крутя."
READ = {
    "cp1251": TEXT.encode("cp1251"),
    "koi8-r": TEXT.encode("koi8-r"),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-be": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "utf-8-sig": b"\xef\xbb\xbf" + TEXT.encode(),
    "utf-8": TEXT.encode(),
}
REFUSED = {
    "unmarked": (
        TEXT.encode("utf-16-le"),
        "in UTF-8: NUL byte at offset 9; it looks like UTF-16 LE without a byte order mark. "
        "Convert it (iconv -f UTF-16-LE -t UTF-8).",
    ),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text but a PNG image. Give a text in UTF-8."),
    "nul": (TEXT.encode() + b"\0", "in UTF-8: NUL byte at offset 78. Give a text in UTF-8."),
    "cut": (TEXT.encode() + b"\xd0", "is UTF-8 but for 1 byte, the first 0xd0 at offset "),
    "half": (TEXT.encode("utf-16") + b"a", "is not utf-16 to its end: byte 0x61 at offset 88"),
}


class Cli:
    """Runs a command on the tiny model in this process."""

    def __init__(self, monkeypatch, capsys, model: Path, folder: Path) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.model, self.folder = str(model), folder

    def __call__(self, command: str, raw: bytes, *, piped: bool) -> tuple[int, str, str]:
        path = self.folder / "text"
        path.write_bytes(raw)
        options = [] if piped else ["--file", str(path)]
        arguments = {
            "tokenize": ["--model", self.model],
            "score": [self.model, "--cpu"],
            "generate": [self.model, "--cpu", "--max-new-tokens", "1"],
        }[command]
        stdin = io.TextIOWrapper(io.BytesIO(raw if piped else b""), encoding="utf-8")
        self.monkeypatch.setattr(sys, "stdin", stdin)
        self.monkeypatch.setattr(sys, "argv", ["gptft", command, *arguments, *options, "--json"])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = self.capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err


@pytest.fixture
def cli(monkeypatch, capsys, tiny_model_dir, tmp_path):
    return Cli(monkeypatch, capsys, tiny_model_dir, tmp_path)


def text_of(command: str, out: str) -> str:
    found = json.loads(out)
    if command == "generate":
        return found[0]["prompt"]
    tokens = found["tokens"]
    return b"".join(bytes.fromhex(token["bytes"]) for token in tokens).decode()


@pytest.mark.parametrize("piped", [False, True], ids=["file", "stdin"])
@pytest.mark.parametrize("command", ["tokenize", "score", "generate"])
class TestCommands:
    @pytest.mark.parametrize("raw", READ.values(), ids=READ)
    def test_any_encoding_is_read(self, cli, command, piped, raw):
        code, out, _ = cli(command, raw, piped=piped)
        assert code == 0
        assert text_of(command, out) == TEXT

    @pytest.mark.parametrize(("raw", "said"), REFUSED.values(), ids=REFUSED)
    def test_what_is_no_text_is_said_alike(self, cli, command, piped, raw, said):
        code, out, err = cli(command, raw, piped=piped)
        assert (code, out) == (2, "")
        name = "Standard input is " if piped else f"{cli.folder / 'text'} is "
        assert name in err
        assert said in err
        assert err.count("\n") == 1
        assert "data." not in err  # there is no config here


@pytest.mark.parametrize("raw", READ.values(), ids=READ)
def test_tokens_to_add_are_read_in_any_encoding(tmp_path, raw):
    path = tmp_path / "tokens.txt"
    path.write_bytes(raw)
    assert read_tokens(path) == [TEXT]
