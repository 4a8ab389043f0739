"""A trace of merges ends in the tokens of the `tokenizers` library, by the merges of the file."""

import io
import json
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.inspection.merges import LONGEST_WORD, MergeTrace, trace_merges, trace_words
from gptft.inspection.merges_view import merges_view
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES, SHARED_CORPUS

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def wrap(backend: Tokenizer) -> TextTokenizer:
    backend.encode_special_tokens = True
    return TextTokenizer(backend, {}, None, "test")


def numbered(*entries: str) -> dict[str, int]:
    return {entry: number for number, entry in enumerate(entries)}


def lower() -> TextTokenizer:
    """Three merges over single letters; a word a pre-token, spaces dropped."""
    vocab = numbered("l", "o", "w", "e", "r", "lo", "low", "er")
    backend = Tokenizer(models.BPE(vocab, [("l", "o"), ("lo", "w"), ("e", "r")]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrap(backend)


def sentencepiece(*, metaspace: bool = False) -> TextTokenizer:
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += ["▁", "м", "и", "р", "▁м", "▁ми", "▁мир"]
    merges = [("▁", "м"), ("▁м", "и"), ("▁ми", "р")]
    backend = Tokenizer(
        models.BPE(numbered(*entries), merges, unk_token="<unk>", byte_fallback=True)
    )
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(marks)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    return wrap(backend)


def byte_level(*, prefix: bool = False) -> TextTokenizer:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=320, min_frequency=2)
    tokenizer.backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def states(trace: MergeTrace) -> list[list[str]]:
    """The symbols of the only pre-token, before the first merge and after each."""
    (part,) = trace.pre_tokens
    steps = [part.symbols, *(step.symbols for step in part.steps)]
    return [[symbol.shown for symbol in symbols] for symbols in steps]


def ranks(trace: MergeTrace) -> list[int]:
    return [step.rank for part in trace.pre_tokens for step in part.steps]


def test_merges_that_can_be_counted_by_hand() -> None:
    trace = trace_merges(lower(), "lower")
    assert states(trace) == [
        ["l", "o", "w", "e", "r"],
        ["lo", "w", "e", "r"],
        ["low", "e", "r"],
        ["low", "er"],
    ]
    assert ranks(trace) == [0, 1, 2]
    assert [step.at for part in trace.pre_tokens for step in part.steps] == [0, 0, 1]
    assert trace.ids == (6, 7)
    assert trace.agrees
    assert trace.num_merges == 3


def test_the_lowest_rank_comes_first_and_the_leftmost_of_equals() -> None:
    vocab = numbered("a", "b", "c", "ab", "bc", "aa")
    backend = Tokenizer(models.BPE(vocab, [("b", "c"), ("a", "b"), ("a", "a")]))
    assert states(trace_merges(wrap(backend), "abc")) == [["a", "b", "c"], ["a", "bc"]]
    trace = trace_merges(wrap(backend), "aaa")
    assert states(trace) == [["a", "a", "a"], ["aa", "a"]]
    assert trace.agrees


def test_pre_tokens_are_merged_apart() -> None:
    trace = trace_merges(lower(), "low er")
    assert [part.text for part in trace.pre_tokens] == ["low", "er"]
    assert ranks(trace) == [0, 1, 2]
    assert trace.agrees


def test_merges_written_as_one_string_are_read_too() -> None:
    document = json.loads(lower().backend.to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    old = wrap(Tokenizer.from_str(json.dumps(document)))
    assert trace_merges(old, "lower") == trace_merges(lower(), "lower")


@pytest.mark.parametrize("metaspace", [False, True])
def test_sentencepiece_with_byte_fallback(metaspace: bool) -> None:
    trace = trace_merges(sentencepiece(metaspace=metaspace), "мир я")
    assert states(trace) == [
        ["·", "м", "и", "р", "·", "⟨d1⟩", "⟨8f⟩"],
        ["·м", "и", "р", "·", "⟨d1⟩", "⟨8f⟩"],
        ["·ми", "р", "·", "⟨d1⟩", "⟨8f⟩"],
        ["·мир", "·", "⟨d1⟩", "⟨8f⟩"],
    ]
    assert trace.pre_tokens[0].steps[0].left.token == "▁"
    assert ranks(trace) == [0, 1, 2]
    assert trace.agrees


def test_what_ends_or_continues_a_word_is_marked() -> None:
    vocab = numbered("l", "o", "w</w>", "lo", "low</w>", "w")
    backend = Tokenizer(models.BPE(vocab, [("l", "o"), ("lo", "w</w>")], end_of_word_suffix="</w>"))
    assert states(trace_merges(wrap(backend), "low")) == [
        ["l", "o", "w</w>"],
        ["lo", "w</w>"],
        ["low</w>"],
    ]
    assert trace_merges(wrap(backend), "loww").agrees
    vocab = numbered("l", "##o", "##w", "lo", "low")
    pairs = [("l", "##o"), ("lo", "##w")]
    backend = Tokenizer(models.BPE(vocab, pairs, continuing_subword_prefix="##"))
    trace = trace_merges(wrap(backend), "low")
    assert states(trace) == [["l", "##o", "##w"], ["lo", "##w"], ["low"]]
    assert trace.agrees


def test_a_whole_entry_needs_no_merges_where_the_model_ignores_them() -> None:
    vocab = numbered("l", "o", "w", "low")
    ignoring = wrap(Tokenizer(models.BPE(vocab, [], ignore_merges=True)))
    trace = trace_merges(ignoring, "low")
    assert (states(trace), trace.agrees) == ([["low"]], True)
    assert "ignore_merges" in trace.pre_tokens[0].remark
    assert states(trace_merges(ignoring, "lo")) == [["l", "o"]]


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_unknown_characters(fuse: bool, fallback: bool) -> None:
    vocab = numbered("<unk>", "a", "b", "ab", "<0xD0>", "<0xBF>")
    model = models.BPE(
        vocab, [("a", "b")], unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback
    )
    for text in ("abxyab", "xx", "aпb", "xпy", "xпaяяп", "bп"):
        trace = trace_merges(wrap(Tokenizer(model)), text)
        assert trace.agrees, text
    for text in ("xabyz", "zz"):  # without an unknown token they are dropped
        assert trace_merges(wrap(Tokenizer(models.BPE(vocab, [("a", "b")]))), text).agrees


def test_added_tokens_are_matched_before_any_merge() -> None:
    tokenizer = lower()
    tokenizer.backend.add_tokens([AddedToken("wer", normalized=False)])
    trace = trace_merges(tokenizer, "lower")
    assert [part.text for part in trace.pre_tokens] == ["lo", "wer"]
    assert "added token" in trace.pre_tokens[1].remark
    assert trace.agrees


ADDED = [
    AddedToken("   ", normalized=False),
    AddedToken("<x>", normalized=False, lstrip=True, rstrip=True),
    AddedToken("мир", single_word=True),
    AddedToken("<n>", normalized=True),
    AddedToken("<x>y", normalized=False),
    AddedToken("<s>", special=True),
]


def with_added(tokenizer: TextTokenizer) -> TextTokenizer:
    tokenizer.backend.add_tokens(ADDED)
    return tokenizer


def normalised() -> TextTokenizer:
    tokenizer = byte_level()
    tokenizer.backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase()]
    )
    return tokenizer


ANY_BPE = {
    "pico": load_tokenizer("pico"),
    "prefix": byte_level(prefix=True),
    "llama": sentencepiece(),
    "metaspace": sentencepiece(metaspace=True),
    "normalised": normalised(),
    "added": with_added(byte_level(prefix=True)),
    "llama, added": with_added(sentencepiece()),
    "metaspace, added": with_added(sentencepiece(metaspace=True)),
}
PARTS = st.sampled_from(
    [" ", "   ", "<x>", "<x>y", "<n>", "мир", "ми", "<s>", "the", "İ", "ﬁ", "й"]
)


@pytest.mark.parametrize("name", ANY_BPE)
@settings(patient, max_examples=80)
@given(text=UNICODE | st.lists(PARTS, max_size=8).map("".join))
def test_the_trace_ends_where_the_tokenizer_does(name: str, text: str) -> None:
    trace = trace_merges(ANY_BPE[name], text)
    assert trace.ids == tuple(ANY_BPE[name].backend.encode(text, add_special_tokens=False).ids)
    assert trace.agrees


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="the shared corpus isn't here")
def test_ten_thousand_words_of_the_classics() -> None:
    words: dict[str, None] = {}
    for path in sorted(SHARED_CORPUS.rglob("*.txt")):
        words |= dict.fromkeys(path.read_text(encoding="utf-8").split())
        if len(words) >= 10_000:
            break
    chosen = list(islice(words, 10_000))
    assert len(chosen) == 10_000
    pico = ANY_BPE["pico"]
    merged = 0
    for word, trace in zip(chosen, trace_words(pico, (f" {w}" for w in chosen)), strict=True):
        assert trace.ids == tuple(pico.backend.encode(f" {word}").ids), word
        for part in trace.pre_tokens:
            sizes = [len(part.symbols), *(len(step.symbols) for step in part.steps)]
            assert sizes == list(range(sizes[0], sizes[0] - len(sizes), -1))
            merged += len(part.steps)
    assert merged > 30_000


def test_the_rank_is_the_line_of_the_file() -> None:
    pico = ANY_BPE["pico"]
    merges = json.loads(pico.backend.to_str())["model"]["merges"]
    for part in trace_merges(pico, "Мороз и солнце; день чудесный!").pre_tokens:
        for step in part.steps:
            assert merges[step.rank] == [step.left.token, step.right.token]
            assert step.symbols[step.at].token == step.left.token + step.right.token


def unigram() -> models.Unigram:
    return models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (unigram(), "Unigram"),
        (models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"), "WordPiece"),
        (models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"), "WordLevel"),
    ],
)
def test_other_kinds_of_tokenizer_merge_nothing(model: models.Model, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^The tokenizer of test is {kind}, not BPE") as caught:
        trace_merges(wrap(Tokenizer(model)), "a")
    assert "--merges" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_word_is_a_user_error() -> None:
    with pytest.raises(ConfigError, match=r"^Character 2 of the text is U\+DCFF"):
        trace_merges(lower(), "l\udcff")
    with pytest.raises(ConfigError, match="1,001 characters long"):
        trace_merges(lower(), "l" * (LONGEST_WORD + 1))


def test_a_long_word_is_traced() -> None:
    trace = trace_merges(byte_level(), "крутя" * (LONGEST_WORD // 5))
    assert trace.agrees


def test_a_tokenizer_that_drops_merges_is_owned_up_to() -> None:
    vocab = numbered("a", "b", "ab")
    backend = Tokenizer(models.BPE(vocab, [("a", "b")], dropout=1.0))
    trace = trace_merges(wrap(backend), "ab")
    assert (trace.ids, trace.own_ids, trace.agrees) == ((2,), (0, 1), False)
    assert "NOT the tokenizer's own" in drawn(trace, width=None)
    assert as_json(trace)["agrees"] is False


def drawn(trace: MergeTrace, *, width: int | None) -> str:
    console = Console(file=io.StringIO(), width=width or 100_000, force_terminal=bool(width))
    console.print(merges_view(trace))
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_off_a_terminal_a_line_is_a_merge() -> None:
    lines = drawn(trace_merges(sentencepiece(), "ми"), width=None).splitlines()
    assert lines == [
        "# ·ми",
        "\t\t· м и",
        "0\t· + м\t·м и",
        "1\t·м + и\t·ми",
        "ids\t\t262",
        "# Merges: 2, by a list of 3. Tokens: 1, the tokenizer's own.",
    ]


@pytest.mark.parametrize("text", ["Мороз и солнце", "東京 😀", "", "\x1b[31m", "[red]x[/red]"])
def test_on_a_terminal_nothing_is_raw_or_too_wide(text: str) -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    console.print(merges_view(trace_merges(ANY_BPE["pico"], text)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "\x1b[31m" not in shown
    assert all(cell_len(line) <= 40 for line in shown.splitlines())


def test_json_is_readable_and_complete() -> None:
    values = as_json(trace_merges(sentencepiece(), "ми"))
    assert json.loads(json.dumps(values)) == values
    (part,) = values["pre_tokens"]
    assert part["symbols"] == ["·", "м", "и"]
    assert part["steps"][0] == {
        "rank": 0,
        "pair": ["·", "м"],
        "pair_tokens": ["▁", "м"],
        "at": 0,
        "symbols": ["·м", "и"],
    }
    assert part["tokens"] == [{"id": 262, "token": "▁ми", "bytes": " ми".encode().hex()}]
    assert (values["ids"], values["own_ids"], values["num_merges"]) == ([262], [262], 3)
