"""vocab.txt and SentencePiece models give the ids that stock transformers gives."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.errors import ModelError
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer
from tests.conftest import SENTENCES, SHARED_CORPUS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = sorted({*"".join(SENTENCES), *"".join(SENTENCES).lower(), *"ёйéеи北京大学«»—…"} - {" "})
WORDS = ["буря", "Буря", "небо", "the", "fox", "##ою", "##рят", "##не", "##ик"]
WORD_PIECE = [*SPECIAL, *LETTERS, *(f"##{one}" for one in LETTERS), *WORDS]
TEXTS = [
    *SENTENCES,
    "Ещё раз: ёлка, съёжился, Щука — «кавычки»… It's DON'T 12,345.67",
    "  don't  stop\n\n\tnow \r\n e\u0301 é ﬁ ½ İstanbul ß 😀👨‍👩‍👧 \ufeff日本語 北京大学 \x01\x1b",
    "a [SEP] b</s><s> [MASK] <unk>", " ", "",
]  # fmt: skip
BERT = {"tokenizer_class": "BertTokenizer"}


def random_texts(number: int) -> list[str]:
    """Texts of any characters but surrogates."""
    draw = random.Random(5)
    ranges = ((0x20, 0x17F), (0x300, 0x52F), (0x2000, 0x2FFF), (0x4E00, 0x4EFF), (0, 0x10FFFF))

    def character() -> str:
        code = draw.randint(*draw.choice(ranges))
        return " " if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(character() for _ in range(draw.randint(1, 40))) for _ in range(number)]


def corpus_texts() -> list[str]:
    """Stretches of the shared corpus."""
    paths = sorted(SHARED_CORPUS.rglob("*.txt"))
    return [path.read_text(encoding="utf-8", errors="ignore")[500:2500] for path in paths[::7]][:12]


def word_piece(
    folder: Path, *, vocabulary: list[str] = WORD_PIECE, model_type: str = "gpt2", **files: Any
) -> Path:
    """A folder with a vocab.txt, a config.json, and other files by the names without .json."""
    folder.mkdir(parents=True)
    text = "".join(f"{token}\n" for token in vocabulary)
    (folder / "vocab.txt").write_text(text, encoding="utf-8")
    config = {"model_type": model_type, "vocab_size": len(vocabulary), "n_positions": 64}
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def train_sentencepiece(path: Path, **settings: Any) -> Path:
    """A SentencePiece model of the sentences."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=made, minloglevel=2,
        **{"hard_vocab_limit": False, **settings},
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.getvalue())
    return path


def check_equal(folder: Path, texts: list[str]) -> None:
    """Our ids are those of stock transformers for the folder as it is."""
    ours = load_tokenizer(str(folder))
    stock = AutoTokenizer.from_pretrained(folder)
    ours_too = load_auto_tokenizer(str(folder))
    assert ours.backend.get_vocab() == stock.get_vocab() == ours_too.get_vocab()
    for text in texts:
        ids = stock(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours.backend.encode(text, add_special_tokens=False).ids == ids, repr(text)
        plain = stock(text)["input_ids"]
        assert ours_too(text)["input_ids"] == plain, repr(text)
        assert ours_too.decode(plain) == stock.decode(plain)
    for name, token in ours.special_tokens.items():
        assert getattr(stock, name) == token
    assert (*ours.framing.before, *ours.framing.after) == tuple(stock("")["input_ids"])


WORD_PIECES: dict[str, dict[str, Any]] = {
    "BERT's": {"tokenizer_config": BERT},
    "cased": {"tokenizer_config": {**BERT, "do_lower_case": False}},
    "with accents": {"tokenizer_config": {**BERT, "strip_accents": False}},
    "cased without accents": {
        "tokenizer_config": {**BERT, "do_lower_case": False, "strip_accents": True}
    },
    "Chinese words": {"tokenizer_config": {**BERT, "tokenize_chinese_chars": False}},
    "of a BERT": {"model_type": "bert"},
    "of an ELECTRA": {"model_type": "electra"},
    "named by config.json": {
        "config": {"model_type": "gpt2", "tokenizer_class": "BertTokenizer", "n_positions": 64}
    },
    "fast": {"tokenizer_config": {"tokenizer_class": "BertTokenizerFast"}},
    "with other special tokens": {
        "tokenizer_config": BERT,
        "special_tokens_map": {
            "eos_token": "[SEP]", "bos_token": "[CLS]", "unk_token": "[UNK]",
            "pad_token": {"content": "[PAD]", "lstrip": False, "normalized": False,
                          "rstrip": False, "single_word": False},
        },
    },
    "with an EOS of its own": {"tokenizer_config": {**BERT, "eos_token": "<|end|>"}},
    "with added tokens": {
        "tokenizer_config": BERT,
        "added_tokens": {"<стих>": len(WORD_PIECE), "<конец>": len(WORD_PIECE) + 1},
        "special_tokens_map": {"eos_token": "<конец>"},
    },
    "with added tokens by id": {
        "tokenizer_config": {
            **BERT,
            "added_tokens_decoder": {
                str(len(WORD_PIECE) + i): {
                    "content": token, "lstrip": False, "normalized": False, "rstrip": False,
                    "single_word": False, "special": i == 0,
                } for i, token in enumerate(["<|end|>", "ёлка"])
            },
            "eos_token": "<|end|>",
        },
    },
    "with more special tokens": {
        "tokenizer_config": {**BERT, "additional_special_tokens": ["<a>", "<b>"]},
    },
    "without a mask": {
        "tokenizer_config": BERT,
        "vocabulary": [token for token in WORD_PIECE if token != "[MASK]"],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WORD_PIECES)
def test_word_piece(kind: str, tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "old", **WORD_PIECES[kind])
    check_equal(folder, [*TEXTS, *random_texts(150)])


SENTENCE_PIECES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": (
        "tokenizer.model", {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True},
        {"config": {"model_type": "llama"},
         "tokenizer_config": {"tokenizer_class": "LlamaTokenizer"}},
    ),
    "xlm-roberta": (
        "sentencepiece.bpe.model", {"model_type": "unigram", "vocab_size": 110},
        {"config": {"model_type": "xlm-roberta"}},
    ),
    "big_bird": (
        "spiece.model", {"model_type": "unigram", "vocab_size": 110},
        {"config": {"model_type": "big_bird"}},
    ),
    "llama's of a mistral": (
        "tokenizer.model", {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True},
        {"config": {"model_type": "mistral"},
         "tokenizer_config": {"tokenizer_class": "LlamaTokenizer", "legacy": False}},
    ),
    "t5 for a gpt2": (
        "spiece.model", {"model_type": "unigram", "vocab_size": 110, "pad_id": 3},
        {"config": {"model_type": "gpt2"}, "tokenizer_config": {"tokenizer_class": "T5Tokenizer"}},
    ),
    "xlnet": (
        "spiece.model", {"model_type": "unigram", "vocab_size": 110,
                         "control_symbols": "<sep>,<cls>,<mask>,<pad>,<eod>,<eop>"},
        {"config": {"model_type": "xlnet"}},
    ),
    "llama with added tokens": (
        "tokenizer.model", {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True},
        {"config": {"model_type": "llama"},
         "tokenizer_config": {"tokenizer_class": "LlamaTokenizer"},
         "added_tokens": {"<стих>": 400},
         "special_tokens_map": {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}},
    ),
}  # fmt: skip


def sentence_piece(folder: Path, kind: str) -> Path:
    name, settings, files = SENTENCE_PIECES[kind]
    train_sentencepiece(folder / name, **settings)
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", SENTENCE_PIECES)
def test_sentence_piece(kind: str, tmp_path: Path) -> None:
    folder = sentence_piece(tmp_path / "old", kind)
    check_equal(folder, [*TEXTS, *random_texts(150)])


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the shared corpus")
@pytest.mark.parametrize("kind", ["BERT's", "cased", "llama", "xlm-roberta"])
def test_the_classics(kind: str, tmp_path: Path) -> None:
    if kind in WORD_PIECES:
        folder = word_piece(tmp_path / "old", **WORD_PIECES[kind])
    else:
        folder = sentence_piece(tmp_path / "old", kind)
    texts = corpus_texts()
    assert len(texts) == 12
    check_equal(folder, texts)


def test_a_folder_of_a_tokenizer_alone(tmp_path: Path) -> None:
    path = train_sentencepiece(
        tmp_path / "old" / "spiece.model", model_type="unigram", vocab_size=110
    )
    named = {"tokenizer_class": "T5Tokenizer"}
    (path.parent / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    (path.parent / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    ids = load_tokenizer(str(path.parent)).backend.encode("Буря").ids
    (path.parent / "config.json").unlink()
    assert load_tokenizer(str(path.parent)).backend.encode("Буря").ids == ids


class TestOnce:
    def test_a_second_use_converts_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = sentence_piece(tmp_path / "old", "llama")
        first = load_tokenizer(str(folder))
        monkeypatch.setattr("gptft.tokenization.old_files._make", None)
        monkeypatch.setattr("gptft.models.foreign.find_spec", lambda name: None)
        assert load_tokenizer(str(folder)).digest == first.digest

    def test_a_file_that_changed_is_converted_anew(self, tmp_path: Path) -> None:
        folder = word_piece(tmp_path / "old", tokenizer_config=BERT)
        before = load_tokenizer(str(folder)).backend.encode("Буря", add_special_tokens=False)
        cased = json.dumps({**BERT, "do_lower_case": False})
        (folder / "tokenizer_config.json").write_text(cased, encoding="utf-8")
        after = load_tokenizer(str(folder)).backend.encode("Буря", add_special_tokens=False)
        assert (before.tokens, after.tokens) == (["буря"], ["Буря"])

    def test_a_folder_that_cannot_hold_it_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("x", encoding="utf-8")
        monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "file"))
        with pytest.raises(ModelError, match="Set GPTFT_CACHE to a folder that can hold it"):
            load_tokenizer(str(word_piece(tmp_path / "old", tokenizer_config=BERT)))


@pytest.mark.parametrize("missing", ["sentencepiece", "google.protobuf", "google"])
def test_packages_that_are_missing_are_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> object:
        if missing == "google" and name == "google.protobuf":
            raise ModuleNotFoundError("No module named 'google'")
        return None if name == missing else object()

    monkeypatch.setattr("gptft.models.foreign.find_spec", find)
    folder = sentence_piece(tmp_path / "old", "llama")
    name = "sentencepiece" if missing == "sentencepiece" else "protobuf"
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(folder))
    assert f"only tokenizer.model (SentencePiece). Reading it takes {name}. Install" in str(
        caught.value
    )
    assert str(caught.value).endswith('pip install "gptft[sentencepiece]"')


@pytest.mark.parametrize("kind", ["xglm", "gemma", "gpt2"])
def test_what_transformers_leaves_empty_is_refused(kind: str, tmp_path: Path) -> None:
    """XGLM's and Gemma's classes look at no SentencePiece file (5.23)."""
    name = "sentencepiece.bpe.model" if kind == "xglm" else "tokenizer.model"
    train_sentencepiece(tmp_path / "old" / name, model_type="unigram", vocab_size=110)
    (tmp_path / "old" / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=rf"only {name} .*doesn't convert for a {kind}\. Name"):
        load_tokenizer(str(tmp_path / "old"))


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x0a\xff\xff\xff", b"\0" * 500])
def test_a_damaged_sentencepiece_model_is_one_line(data: bytes, tmp_path: Path) -> None:
    folder = sentence_piece(tmp_path / "old", "llama")
    (folder / "tokenizer.model").write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(folder))
    assert "tokenizer.model is not a SentencePiece model, or damaged." in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"added_tokens": {"a": "b"}}, "doesn't give its added tokens as a table"),
        ({"added_tokens": {"a": []}}, "doesn't give its added tokens as a table"),
        ({"added_tokens": {"<a>": 7000}}, "gives '<a>' the id 7,000, and the vocabulary has"),
        (
            {"tokenizer_config": {**BERT, "added_tokens_decoder": [1]}},
            "doesn't give its added tokens as a table",
        ),
        (
            {"tokenizer_config": {**BERT, "added_tokens_decoder": {"1": {"text": "a"}}}},
            "doesn't give its added tokens as a table",
        ),
    ],
)
def test_files_that_say_nothing_sensible(files: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "old", **{"tokenizer_config": BERT, **files})
    with pytest.raises(ModelError, match=said):
        load_tokenizer(str(folder))


def test_a_vocab_txt_that_is_no_text(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "old", tokenizer_config=BERT)
    (folder / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"vocab\.txt can't be read: "):
        load_tokenizer(str(folder))
    (folder / "vocab.txt").write_bytes(b"")
    with pytest.raises(ModelError, match="an empty vocabulary"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("kind", ["word_piece", "llama"])
def test_a_run_on_such_a_base_ends_in_a_folder_that_stock_transformers_opens(
    kind: str, in_tmp: Path
) -> None:
    if kind == "llama":
        base = sentence_piece(in_tmp / "base", kind)
    else:
        tokens = {**BERT, "eos_token": "[SEP]", "bos_token": "[CLS]"}
        base = word_piece(in_tmp / "base", tokenizer_config=tokens)
    sizes = {"vocab_size": 600, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    config = AutoConfig.for_model("gpt2", **sizes, bos_token_id=None, eos_token_id=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    if kind == "llama":
        named = {"tokenizer_class": "LlamaTokenizer"}
        (base / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    Path("poem.txt").write_text("Буря мглою небо кроет,\n" * 40, encoding="utf-8")

    def run(command: str) -> str:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, done.output
        return done.stdout

    ids = load_tokenizer("base").backend.encode("Буря мглою", add_special_tokens=False).ids
    shown = json.loads(run("tokenize --model base --json Буря"))
    assert [one["id"] for one in shown["tokens"]] == ids[: len(shown["tokens"])]
    audit = CliRunner().invoke(app, ["tokenize", "--audit", "--model", "base"])
    assert "vocab.txt" in audit.stdout or "tokenizer.model" in audit.stdout, audit.output
    run("config check poem.txt --set model.name=base")
    run("train poem.txt --model base --max-steps 2 --learning-rate 0 --use-cpu")
    tokenizer = AutoTokenizer.from_pretrained("runs/poem/model")
    assert tokenizer.encode("Буря мглою", add_special_tokens=False) == ids
    for command in ("generate MODEL -p Буря --max-new-tokens 3", "score MODEL Буря"):
        both = [run(command.replace("MODEL", name)) for name in ("base", "runs/poem/model")]
        assert both[0] == both[1]


@pytest.mark.parametrize("kind", ["BERT's", "llama"])
def test_torch_is_loaded_by_the_first_conversion_of_transformers_alone(
    kind: str, tmp_path: Path
) -> None:
    if kind in WORD_PIECES:
        folder = word_piece(tmp_path / "old", **WORD_PIECES[kind])
    else:
        folder = sentence_piece(tmp_path / "old", kind)
        load_tokenizer(str(folder))
    script = (
        "import sys; from gptft.tokenization.tokenizer import load_tokenizer; "
        f"load_tokenizer({str(folder)!r}); "
        "print({'torch', 'transformers', 'sentencepiece'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"
