import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.preview import BlockPreview, preview_block
from gptft.data.preview_view import preview_view
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.files import as_json
from tests.conftest import SENTENCES
from tests.data.hand_made import prepare_masked

# No merge of the tiny tokenizer joins these letters: a letter is a token.
LETTERS = ("QQQ", "ZZ", "JJJJ")
HARMFUL = "a\x1b]0;Q\x07\r\nb\tc\x7f\x9b31m\u202e\u2028д"
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _colour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A folder of three documents: QQQ, ZZ and JJJJ."""
    return write_texts(tmp_path / "letters", *LETTERS)


def write_texts(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text.encode())
    return folder


def preview(model_dir: Path, number: int, **settings: object) -> BlockPreview:
    config = Config.model_validate({"data": settings, "model": {"name": str(model_dir)}})
    return preview_block(plan_packing(config), prepare_blocks(plan_packing(config)), number)


def documents(block: BlockPreview) -> list[tuple[str, int, bool, bool]]:
    keys = ("text", "num_tokens", "begins", "ends")
    return [tuple(document[key] for key in keys) for document in as_json(block)["documents"]]


def plain(block: BlockPreview) -> str:
    """What is printed off a terminal."""
    file = io.StringIO()
    Console(file=file, force_terminal=False, width=100_000, soft_wrap=True).print(
        preview_view(block)
    )
    return file.getvalue()


def coloured(block: BlockPreview, *, width: int = 100, no_color: bool = False) -> str:
    """What is printed on a terminal."""
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, color_system="256", width=width, no_color=no_color
    )
    console.print(preview_view(block))
    return file.getvalue()


def test_documents_of_every_block_counted_by_hand(tiny_model_dir: Path, letters: Path):
    # Q Q Q E Z | Z E J J J | J E
    expected = [
        [("QQQ", 4, True, True), ("Z", 1, True, False)],
        [("Z", 2, False, True), ("JJJ", 3, True, False)],
        [("J", 2, False, True)],
    ]
    for number, block_documents in enumerate(expected, start=1):
        block = preview(tiny_model_dir, number, train=str(letters), block_size=5)
        assert documents(block) == block_documents
        assert (block.block, block.of) == (number, 3)
        assert block.trained_tokens == len(block.token_ids) - 1
    assert preview(tiny_model_dir, -1, train=str(letters), block_size=5).block == 3
    assert preview(tiny_model_dir, -3, train=str(letters), block_size=5).block == 1


def test_a_block_may_begin_with_a_document_or_with_an_eos(tiny_model_dir: Path, letters: Path):
    # Q Q Q E | Z Z E J | ..., then Q Q Q | E Z Z | ...
    after_eos = preview(tiny_model_dir, 2, train=str(letters), block_size=4)
    assert documents(after_eos) == [("ZZ", 3, True, True), ("J", 1, True, False)]
    with_eos = preview(tiny_model_dir, 2, train=str(letters), block_size=3)
    assert documents(with_eos) == [("", 1, False, True), ("ZZ", 2, True, False)]
    assert "\x1b[2;4;7" in coloured(with_eos)  # its EOS is the token that is never predicted


@pytest.mark.parametrize("block_size", [3, 4, 5, 7])
@pytest.mark.parametrize("isolated", [False, True, "auto"])
def test_what_is_predicted_is_what_training_predicts(
    tiny_model_dir: Path, letters: Path, block_size: int, isolated: bool | str
):
    import torch

    from gptft.training.dataset import IGNORED, collate_blocks, collate_masked

    settings = {"train": str(letters), "block_size": block_size, "isolate_documents": isolated}
    config = Config.model_validate({"data": settings, "model": {"name": str(tiny_model_dir)}})
    prepared = prepare_blocks(plan_packing(config))
    for number, ids in enumerate(BlockStore(prepared.path), start=1):
        block = preview_block(plan_packing(config), prepared, number)
        row = [torch.from_numpy(ids.astype(np.int64))]
        eos = prepared.ledger.eos_token_id
        batch = collate_masked(row, eos_token_id=eos) if isolated else collate_blocks(row)
        assert block.trained_tokens == int((batch["labels"][:, 1:] != IGNORED).sum())
        assert block.token_ids == tuple(ids)


def test_fitted_blocks_are_cut_where_documents_begin(tiny_model_dir: Path, letters: Path):
    # Q Q Q E Z Z E | J J J J E, by 9 with padding: Q Q Q E | Z Z E and two | J J J J E
    settings: dict[str, Any] = {"train": str(letters), "packing": "best_fit"}
    full = preview(tiny_model_dir, 1, block_size=7, **settings)
    assert documents(full) == [("QQQ", 4, True, True), ("ZZ", 3, True, True)]
    assert (full.trained_tokens, full.padding_tokens, full.isolated) == (5, 0, True)
    assert "and of each document (data.isolate_documents).\n" in plain(full)
    assert "shift_blocks" not in plain(full)
    padded = preview(tiny_model_dir, 2, block_size=9, **settings)
    assert padded.of == 2
    write_texts(letters.parent / "more", *LETTERS, "QQQQ")
    three = preview(
        tiny_model_dir, 1, train=str(letters.parent / "more"), block_size=6, packing="best_fit"
    )
    # Lengths 4, 3, 5, 5: a block each, the emptiest, of ZZ, written short.
    assert documents(three) == [("QQQ", 4, True, True)]
    assert (three.padding_tokens, three.trained_tokens, three.token_ids[-1]) == (2, 3, 0)
    assert plain(three).startswith(
        "Block 1 of 4 of the training split: 4 tokens and 2 of padding, not shown, 3 of them "
        "predicted; 1 document begins in it, 1 ends.\n"
    )
    assert as_json(three)["padding_tokens"] == 2
    assert "further piece" not in plain(three)
    # By 3, two documents are split: Q Q Q | E, and J J J | J E.
    split = [preview(tiny_model_dir, n, block_size=3, **settings) for n in range(1, 5)]
    for of in ("begins", "ends"):
        assert sum(getattr(d, of) for one in split for d in one.documents) == 3
    pieces = [d.text for one in split for d in one.documents if not d.begins]
    assert sorted(pieces) == ["", "J"]
    assert sum(one.num_pieces for one in split) == 2
    both = next(one for one in split if one.num_pieces == 2)
    assert "2 parts of it are further pieces of documents that are longer than a block." in plain(
        both
    )
    tail = preview(
        tiny_model_dir, -1, train=str(letters.parent / "more"), block_size=6, packing="best_fit"
    )
    assert (documents(tail), tail.padding_tokens) == ([("ZZ", 3, True, True)], 0)
    assert "the last and shorter: 3 tokens, 2 of them" in plain(tail)


class TestMasked:
    """A block of which every third token of a document, and its EOS, isn't trained on."""

    @pytest.fixture
    def block(self, tiny_model_dir: Path, letters: Path) -> BlockPreview:
        config = Config.model_validate(
            {"data": {"train": str(letters)}, "model": {"name": str(tiny_model_dir)}}
        )
        plan, prepared = prepare_masked(config)
        return preview_block(plan, prepared, 1)

    def test_off_a_terminal_what_is_trained_on_is_in_brackets(self, block: BlockPreview):
        assert plain(block).splitlines() == [
            "Block 1 of 1 of the training split, the last and shorter: 12 tokens, 5 of them "
            "predicted; 3 documents begin in it, 3 end.",
            "<|endoftext|> and a line break stand where a document ends.",
            "Never predicted: the first token of the block and of each document "
            "(data.isolate_documents).",
            "Trained on: what stands in ⟦ ⟧; the rest is only read.",
            "",
            "Q⟦QQ⟧<|endoftext|>",
            "Z⟦Z⟧<|endoftext|>",
            "J⟦JJ⟧J<|endoftext|>",
        ]

    def test_an_end_that_is_trained_on_is_in_brackets_too(self, block: BlockPreview):
        documents = tuple(replace(one, end_is_trained=True) for one in block.documents)
        said = plain(replace(block, documents=documents))
        assert "Z⟦Z⟧⟦<|endoftext|>⟧\nJ" in said

    def test_on_a_terminal_it_is_bold_and_the_rest_dim(self, block: BlockPreview):
        body = coloured(block).split("\n\n")[1]
        assert re.findall(r"\x1b\[(\d)(?:;7)?;38;5;\d+m([^\x1b]+)\x1b", body) == [
            ("2", "Q"), ("1", "QQ"), ("2", " ⏎ EOS "),
            ("2", "Z"), ("1", "Z"), ("2", " ⏎ EOS "),
            ("2", "J"), ("1", "JJ"), ("2", "J"), ("2", " ⏎ EOS "),
        ]  # fmt: skip
        said = " ".join(SGR.sub("", coloured(block)).split())
        assert "Bold is trained on, dim is only read." in said

    def test_json_tells_it_of_each_token(self, block: BlockPreview):
        marks = [False, True, True, False, False, True, False, False, True, True, False, False]
        assert as_json(block)["trained"] == marks

    def test_an_eos_within_a_conversation_is_shown(self):
        from gptft.data.preview import _parts

        raws = [b"a", "д".encode()[:1], "д".encode()[1:] + b"b", b"<|e|>", b""]
        flags = [False, False, True, True, False]
        assert _parts(raws, flags) == (("aд".encode(), False), (b"b<|e|>", True))


def test_isolation_marks_the_first_token_of_each_document(tiny_model_dir: Path, letters: Path):
    # Q Q Q E Z Z E | J J J J E
    packed = preview(tiny_model_dir, 1, train=str(letters), block_size=7)
    assert packed.trained_tokens == 6
    assert re.findall(r"\x1b\[2;4;[0-9;]*m(.)", coloured(packed)) == ["Q"]
    assert "Never predicted: the first token of the block.\n" in plain(packed)
    isolated = preview(tiny_model_dir, 1, train=str(letters), block_size=7, isolate_documents=True)
    assert isolated.trained_tokens == 5
    assert re.findall(r"\x1b\[2;4;[0-9;]*m(.)", coloured(isolated)) == ["Q", "Z"]
    assert "and of each document (data.isolate_documents).\n" in plain(isolated)
    one = preview(
        tiny_model_dir, 1, train=str(letters / "0.txt"), block_size=7, isolate_documents="auto"
    )
    assert "and of each document" not in plain(one)  # there is but one


def test_a_character_cut_by_the_edge_of_a_block_is_its_bytes(tiny_model_dir: Path, tmp_path: Path):
    # A fox is four tokens, a byte each: f0 9f a6 8a f0 9f | a6 8a E
    folder = write_texts(tmp_path / "foxes", "🦊🦊")
    first = preview(tiny_model_dir, 1, train=str(folder), block_size=6)
    last = preview(tiny_model_dir, 2, train=str(folder), block_size=6)
    assert documents(first) == [("🦊⟨f0 9f⟩", 6, True, False)]
    assert documents(last) == [("⟨a6 8a⟩", 3, False, True)]
    assert b"".join(d.data for d in first.documents + last.documents).decode() == "🦊🦊"
    assert "⟨d0⟩ stands for a byte" in plain(first)
    assert re.findall(r"\x1b\[2;4;[0-9;]*m([^\x1b]+)", coloured(first)) == ["🦊"]
    assert re.findall(r"\x1b\[2;4;[0-9;]*m([^\x1b]+)", coloured(last)) == ["⟨a6⟩"]


def test_all_blocks_give_back_the_texts(tiny_model_dir: Path, corpus_dir: Path):
    spelled = b""
    config = Config.model_validate(
        {
            "data": {"train": str(corpus_dir), "block_size": 16},
            "model": {"name": str(tiny_model_dir)},
        }
    )
    prepared = prepare_blocks(plan_packing(config))
    for number in range(1, len(BlockStore(prepared.path)) + 1):
        for document in preview_block(plan_packing(config), prepared, number).documents:
            spelled += document.data + b"\n" * document.ends
    assert spelled.decode().splitlines() == list(SENTENCES)


@pytest.mark.parametrize("number", [0, 4, -4, 10**9])
def test_a_block_that_is_not_there_is_refused(tiny_model_dir: Path, letters: Path, number: int):
    with pytest.raises(ConfigError, match=r"has 3 blocks: give 1 to 3, or -1 for the last\."):
        preview(tiny_model_dir, number, train=str(letters), block_size=5)


def test_the_only_block(tiny_model_dir: Path, letters: Path):
    block = preview(tiny_model_dir, 1, train=str(letters))
    assert plain(block).splitlines() == [
        "Block 1 of 1 of the training split, the last and shorter: 12 tokens, 11 of them "
        "predicted; 3 documents begin in it, 3 end.",
        "<|endoftext|> and a line break stand where a document ends.",
        "Never predicted: the first token of the block.",
        "",
        "QQQ<|endoftext|>",
        "ZZ<|endoftext|>",
        "JJJJ<|endoftext|>",
    ]
    with pytest.raises(ConfigError, match=r"has 1 block: give 1, or -1"):
        preview(tiny_model_dir, 2, train=str(letters))


def test_the_legend_says_what_the_text_does_not_show(tiny_model_dir: Path, letters: Path):
    said = plain(preview(tiny_model_dir, 2, train=str(letters), block_size=5))
    assert said.startswith(
        "Block 2 of 3 of the training split: 5 tokens, 4 of them predicted; 1 document begins in "
        "it, 1 ends. It begins and ends inside a document.\n"
    )
    assert "later epochs cut the text elsewhere (data.shift_blocks)." in said
    still = preview(tiny_model_dir, 2, train=str(letters), block_size=5, shift_blocks=False)
    assert "shift_blocks" not in plain(still)
    # Q Q | Q E | Z Z | E J | J J | J E
    inner = plain(preview(tiny_model_dir, 5, train=str(letters), block_size=2))
    assert "no document begins in it, none ends. It begins and ends inside a document." in inner
    assert "<|endoftext|>" not in inner


def test_an_eos_in_the_text_is_no_border(tiny_model_dir: Path, tmp_path: Path):
    folder = write_texts(tmp_path / "forged", "Q<|endoftext|>\nQ")
    block = preview(tiny_model_dir, 1, train=str(folder))
    assert [d[0] for d in documents(block)] == ["Q<|endoftext|>\nQ"]
    assert "; 1 more stands in the text itself." in plain(block)
    assert "Q<|endoftext|>\nQ" in SGR.sub("", coloured(block))


def test_control_characters_are_shown_and_never_sent(tiny_model_dir: Path, tmp_path: Path):
    folder = write_texts(tmp_path / "harmful", HARMFUL)
    block = preview(tiny_model_dir, 1, train=str(folder))
    shown = "a⟨U+001B⟩]0;Q⟨U+0007⟩⟨U+000D⟩\nb\tc⟨U+007F⟩⟨U+009B⟩31m⟨U+202E⟩⟨U+2028⟩д"
    assert f"{shown}<|endoftext|>\n" in plain(block)
    printed = SGR.sub("", coloured(block))
    assert "".join(sorted({c for c in plain(block) + printed if not c.isprintable()})) == "\t\n"
    assert "⟨U+009B⟩31m" in printed
    text = json.dumps(as_json(block), ensure_ascii=False)
    assert all(character.isprintable() for character in text if character < "\xa0")
    assert block.documents[0].data.decode() == HARMFUL


def test_colours_alternate_and_are_left_out_where_unwanted(tiny_model_dir: Path, letters: Path):
    block = preview(tiny_model_dir, 1, train=str(letters))
    drawn = coloured(block)
    body = drawn.split("\n\n")[1]
    assert re.findall(r"38;5;(\d+)m([A-Z]+)\x1b", body) == [
        ("31", "Q"),
        ("31", "QQ"),
        ("130", "ZZ"),
        ("31", "JJJJ"),
    ]
    assert SGR.sub("", body).splitlines() == ["QQQ ⏎ EOS ", "ZZ ⏎ EOS ", "JJJJ ⏎ EOS "]
    uncoloured = coloured(block, no_color=True)
    assert "38;5" not in uncoloured
    assert "\x1b[7m ⏎ EOS " in uncoloured
    assert "colour" not in SGR.sub("", uncoloured)
    assert "\x1b" not in plain(block)


def test_a_narrow_terminal_wraps_and_loses_nothing(tiny_model_dir: Path, corpus_dir: Path):
    block = preview(tiny_model_dir, 1, train=str(corpus_dir), block_size=64)
    wide, narrow = (SGR.sub("", coloured(block, width=width)) for width in (1000, 40))
    assert narrow.split() == wide.split()
    assert max(len(line) for line in narrow.splitlines()) <= 40


def test_a_first_line_break_can_be_underlined(tiny_model_dir: Path, tmp_path: Path):
    folder = write_texts(tmp_path / "texts", "\nQ")
    drawn = coloured(preview(tiny_model_dir, 1, train=str(folder)))
    assert SGR.sub("", drawn).endswith("\n\n↵\nQ ⏎ EOS \n")


def test_a_tokenizer_that_was_trained(letters: Path):
    config = Config.model_validate(
        {
            "data": {"train": str(letters), "block_size": 64},
            "model": {"from_scratch": {"model_type": "gpt2", "n_positions": 64}},
            "tokenizer": {"train": {"vocab_size": 300, "min_frequency": 9}},
        }
    )
    block = preview_block(plan_packing(config), prepare_blocks(plan_packing(config)), 1)
    assert [d[0] for d in documents(block)] == list(LETTERS)


def model_dir_of(backend: Tokenizer, folder: Path) -> Path:
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    return folder


def test_tokenizers_that_write_spaces_in_other_ways(tmp_path: Path):
    sentencepiece = Tokenizer(models.BPE({"▁": 0, "a": 1, "b": 2, "</s>": 3}, []))
    sentencepiece.pre_tokenizer = pre_tokenizers.Metaspace()
    sentencepiece.decoder = decoders.Metaspace()
    wordpiece = Tokenizer(
        models.WordPiece({"a": 0, "##b": 1, "b": 2, "</s>": 3, "[UNK]": 4}, unk_token="[UNK]")
    )
    wordpiece.pre_tokenizer = pre_tokenizers.Whitespace()
    wordpiece.decoder = decoders.WordPiece()
    suffixed = Tokenizer(
        models.BPE(
            {"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "</s>": 4}, [], end_of_word_suffix="</w>"
        )
    )
    suffixed.pre_tokenizer = pre_tokenizers.Whitespace()
    suffixed.decoder = decoders.BPEDecoder()
    texts = write_texts(tmp_path / "texts", "ab b", "b ab")
    expected = {
        "sentencepiece": (sentencepiece, ["ab b", "b ab"]),
        "wordpiece": (wordpiece, ["ab b", "b ab"]),
        "suffixed": (suffixed, ["ab b ", "b ab "]),
    }
    for name, (backend, spelled) in expected.items():
        block = preview(model_dir_of(backend, tmp_path / name), 1, train=str(texts))
        assert [d[0] for d in documents(block)] == spelled, name


def test_the_command_line(tiny_model_dir: Path, letters: Path):
    settings = (f"model.name={tiny_model_dir}", "data.block_size=5")
    flags = [flag for setting in settings for flag in ("--set", setting)]
    invoke = ["prepare", str(letters), *flags, "--preview"]
    answer = json.loads(CliRunner().invoke(app, [*invoke, "2", "--json"]).stdout)
    block = answer["preview"]
    assert (block["block"], block["of"], block["num_tokens"]) == (2, 3, 5)
    assert block["trained_tokens"] == 3  # Z E J J J: neither the first, nor that of JJJJ
    assert len(block["token_ids"]) == 5
    assert [d["text"] for d in block["documents"]] == ["Z", "JJJ"]
    shown = CliRunner().invoke(app, [*invoke, "-1"]).stdout
    assert "\n\nBlock 3 of 3 of the training split, the last and shorter: 2 tokens" in shown
    assert shown.endswith("\n\nJ<|endoftext|>\n")
    assert isinstance(CliRunner().invoke(app, [*invoke, "0"]).exception, ConfigError)


def test_the_module_is_light():
    heavy = "{'torch', 'transformers', 'rich'}"
    code = f"import sys, gptft.data.preview; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
