"""What stands around a text is what stock transformers puts there."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from gptft.errors import ConfigError
from gptft.tokenization.extension import extend_tokenizer
from gptft.tokenization.framing import Framing, framing_of, set_framing
from gptft.tokenization.tokenizer import load_tokenizer
from tests.framed import GPT2, LLAMA, NAMES, OPT, byte_level, write_tokenizer
from tests.tokenization.test_tokenizer import write_legacy

TEXT = "Буря мглою <s> кроет"


def stock_framing(folder: Path) -> Framing:
    """What `AutoTokenizer` puts before and after a text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = tokenizer(TEXT, add_special_tokens=False, split_special_tokens=True).input_ids
    ids = tokenizer(TEXT, split_special_tokens=True).input_ids
    at = next(i for i in range(len(ids)) if ids[i : i + len(own)] == own)
    return Framing(tuple(ids[:at]), tuple(ids[at + len(own) :]))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (LLAMA, Framing((1,))),
        (OPT, Framing((2,))),
        (GPT2, Framing()),
        ("<s> $A </s>", Framing((1,), (2,))),
        ("$A </s>", Framing((), (2,))),
        ("<s> <unk> $A:0 </s> <s>", Framing((1, 0), (2, 1))),
    ],
)
def test_a_template_in_tokenizer_json(
    template: str | None, expected: Framing, tmp_path: Path
) -> None:
    folder = write_tokenizer(tmp_path, template)
    assert load_tokenizer(str(folder)).framing == stock_framing(folder) == expected
    assert load_tokenizer(str(folder / "tokenizer.json")).framing == expected


@pytest.mark.parametrize(
    "processor",
    [
        processors.ByteLevel(),
        processors.BertProcessing(("</s>", 2), ("<s>", 1)),
        processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
        processors.Sequence(  # Llama 3's
            [
                processors.ByteLevel(),
                processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]),
            ]
        ),
        processors.Sequence([processors.ByteLevel()]),
    ],
    ids=lambda processor: json.loads(processor.__getstate__())["type"],
)
def test_every_kind_of_template(processor: Any) -> None:
    backend = byte_level(None)
    backend.post_processor = processor
    bare = backend.encode(TEXT, add_special_tokens=False).ids
    before, after = framing_of(backend)
    assert backend.encode(TEXT).ids == [*before, *bare, *after]


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"add_bos_token": True},
        {"add_bos_token": False, "add_eos_token": True},
        {"add_bos_token": True, "add_eos_token": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("bos", ["<s>", "</s>"])  # ruGPT3's and OPT's
def test_flags_where_there_is_no_tokenizer_json(
    flags: dict[str, bool], bos: str, tmp_path: Path
) -> None:
    config = {"tokenizer_class": "GPT2Tokenizer", **NAMES, "bos_token": bos, **flags}
    folder = write_legacy(tmp_path, tokenizer_config=config)
    framing = load_tokenizer(str(folder)).framing
    assert framing == stock_framing(folder)
    assert bool(framing.before) == flags.get("add_bos_token", False)


def test_flags_say_nothing_beside_a_tokenizer_json(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, GPT2, add_bos_token=True)
    assert load_tokenizer(str(folder)).framing == stock_framing(folder) == Framing()


def stock_tokenizer(name: str) -> Any:
    """A tokenizer of one of transformers' own classes, with few tokens and its own template."""
    import transformers

    letters = ["▁", *sorted({*"Буря мглою кроет<>/s"} - {" "})]
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<bos>": 4, "<eos>": 5}
    vocab = {**special, **{letter: n for n, letter in enumerate(letters, start=len(special))}}
    made = getattr(transformers, name)
    if name == "XGLMTokenizer":
        return made(vocab=[(token, -1.0) for token in ("<s>", "<pad>", "</s>", "<unk>", *letters)])
    if name == "GPT2Tokenizer":  # OPT's
        named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
        return made(vocab=vocab, merges=[], add_bos_token=True, **named)
    return made(vocab=vocab, merges=[], add_bos_token=True)


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("LlamaTokenizer", "<s>"),
        ("GemmaTokenizer", "<bos>"),
        ("XGLMTokenizer", "</s>"),
        ("GPT2Tokenizer", "</s>"),
    ],
)
def test_tokenizers_of_transformers_own_classes(name: str, before: str, tmp_path: Path) -> None:
    saved = stock_tokenizer(name)
    saved.save_pretrained(tmp_path)
    ours = load_tokenizer(str(tmp_path))
    own = saved("Буря", add_special_tokens=False).input_ids
    assert saved("Буря").input_ids == [*ours.framing.before, *own, *ours.framing.after]
    assert ours.framing == Framing((saved.convert_tokens_to_ids(before),))
    assert stock_framing(tmp_path) == ours.framing


@pytest.mark.parametrize("framing", [Framing((1,)), Framing(), Framing((2, 1), (0,))])
def test_what_is_set_is_what_is_there(framing: Framing) -> None:
    backend = byte_level("<s> $A </s>")
    set_framing(backend, framing)
    assert framing_of(backend) == framing
    ids = [backend.encode(t, add_special_tokens=False).ids for t in ("Буря", "крутя")]
    one, two = ([*framing.before, *own, *framing.after] for own in ids)
    assert backend.encode("Буря").ids == one
    assert backend.encode("Буря", "крутя").ids == [*one, *two]


def test_a_token_with_a_colon_in_it() -> None:
    backend = byte_level(None)
    backend.add_special_tokens(["<a:1:b>"])
    token_id = backend.token_to_id("<a:1:b>")
    set_framing(backend, Framing((token_id,)))
    assert backend.encode("Буря").ids[0] == token_id


def test_a_tokenizer_with_more_tokens_frames_a_text_as_before(tmp_path: Path) -> None:
    config = {"tokenizer_class": "GPT2Tokenizer", **NAMES, "add_bos_token": True}
    folder = write_legacy(tmp_path / "old", tokenizer_config=config)
    extend_tokenizer(str(folder), tmp_path / "new", tokens=["жаворонок"])
    assert load_tokenizer(str(tmp_path / "new")).framing == Framing((1,))
    assert stock_framing(tmp_path / "new") == Framing((1,))


class TestAddBos:
    """data.add_bos beside what the template says."""

    @pytest.mark.parametrize(
        ("template", "add_bos", "before"),
        [
            (LLAMA, "auto", (1,)),
            (LLAMA, True, (1,)),
            (LLAMA, False, ()),
            (OPT, "auto", (2,)),
            (OPT, True, (2,)),  # its own, though bos_token is another
            (OPT, False, ()),
            (GPT2, "auto", ()),
            (GPT2, True, (1,)),
            (GPT2, False, ()),
        ],
    )
    def test_beside_a_template(
        self, template: str | None, add_bos: Any, before: tuple[int, ...], tmp_path: Path
    ) -> None:
        tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, template)))
        changed = tokenizer.with_bos(add_bos)
        assert changed.framing.before == before
        assert changed.digest == tokenizer.digest

    def test_what_comes_after_a_text_stays(self, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, "<s> $A </s>")))
        assert tokenizer.with_bos(False).framing == Framing((), (2,))

    def test_without_a_bos_token_there_is_none_to_add(self, tmp_path: Path) -> None:
        tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, GPT2, bos_token=None)))
        assert tokenizer.with_bos("auto") is tokenizer.with_bos(False) is tokenizer
        with pytest.raises(ConfigError, match=r"data\.add_bos is true, .* has no BOS token"):
            tokenizer.with_bos(True)
