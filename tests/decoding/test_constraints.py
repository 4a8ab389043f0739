import re
import time

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from gptft.decoding.constraints import TextConstraint, read_vocabulary
from gptft.decoding.matchers import Vocabulary, allowed_by_choices, allowed_by_regex
from gptft.errors import ConfigError, ModelError
from gptft.models.hub import find_model

PROMPTS = ("Мороз и", "Буря мглою небо")
WORDS = Vocabulary(
    {b"a": (1,), b"ab": (2, 7), b"b": (3,), b"c": (4,), b"abcd": (5,), b"x": (9,), b"d": (8,)}
)


@pytest.fixture(scope="module")
def llama(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 4,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["gpt2", "llama"])
def either(request: pytest.FixtureRequest, llama: PreTrainedModel) -> PreTrainedModel:
    return llama if request.param == "llama" else request.getfixturevalue("model")


def run(model, tokenizer, matcher, **settings):
    """What each row says behind its prompt, and whether it has ended."""
    encoded = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    longest = max(map(len, encoded))
    assert len({*map(len, encoded)}) == 2
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
    values = {"max_new_tokens": 24, "do_sample": False} | settings
    config = GenerationConfig(eos_token_id=[0], pad_token_id=0, bos_token_id=0, top_k=0, **values)
    model.generation_config = config
    constraint = TextConstraint(tokenizer, matcher, prompt_length=longest, eos_token_ids=[0])
    output = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([constraint]),
    )
    rows = output[:, longest:].tolist()
    return [(tokenizer.decode(row, skip_special_tokens=True), 0 in row) for row in rows]


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    "choices",
    [
        [" солнце", "солнце", " не солнце; снег"],
        ["кот", "который", "коты"],
        [" один день\n", " день"],
    ],
)
def test_texts_are_among_the_choices(either, tokenizer, choices, sampled):
    torch.manual_seed(0)
    texts = run(either, tokenizer, allowed_by_choices(choices), do_sample=sampled)
    assert all(text in choices and ended for text, ended in texts)


def test_sampling_reaches_every_choice(either, tokenizer):
    torch.manual_seed(0)
    matcher = allowed_by_choices(["да", "дам", " да"])
    drawn = run(either, tokenizer, matcher, do_sample=True, temperature=5.0, num_beams=1,
                num_return_sequences=20)  # fmt: skip
    assert {text for text, _ in drawn} == {"да", "дам", " да"}


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    "pattern",
    ["[0-9]{1,5}", " [а-яё]{2,4}(, [а-яё]{2,3})?[.!]", "(?i) МОРОЗ|снег", r"\d\d:\d\d", ""],
)
def test_texts_match_the_pattern(either, tokenizer, pattern, sampled):
    torch.manual_seed(1)
    for text, ended in run(either, tokenizer, allowed_by_regex(pattern), do_sample=sampled):
        assert ended
        assert re.fullmatch(pattern, text)


def test_beams_keep_to_the_pattern(either, tokenizer):
    texts = run(either, tokenizer, allowed_by_regex("[0-9]{2}"), num_beams=3,
                num_return_sequences=3)  # fmt: skip
    assert len({text for text, _ in texts[:3]}) == 3
    assert all(re.fullmatch("[0-9]{2}", text) for text, _ in texts)


def test_a_pattern_outlives_settings_that_forbid_its_end(either, tokenizer):
    texts = run(either, tokenizer, allowed_by_regex("[0-9]{2}"), min_new_tokens=10)
    assert all(re.fullmatch("[0-9]{2}", text) for text, _ in texts)


def test_tokens_are_spelled_as_they_add_to_a_text(tokenizer):
    vocabulary = read_vocabulary(tokenizer)
    before = tokenizer("мороз")["input_ids"]
    assert {*vocabulary.token_bytes} == {*range(1, len(tokenizer))}
    for i, data in vocabulary.token_bytes.items():
        text = ("мороз".encode() + data).decode(errors="replace")
        assert tokenizer.decode([*before, i]) == text
    assert {bytes([byte]) for byte in range(256)} <= {*vocabulary.ids}
    assert len(vocabulary.partial_tokens) >= 128


def sentencepiece_like():
    """A tokenizer of Llama's kind: leading spaces are marked, bytes stand in for characters."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁Пе", "Пе",
              "тер", "▁дом", "a"]  # fmt: skip
    vocabulary = [(piece, -float(i)) for i, piece in enumerate(pieces)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def test_leading_spaces_of_sentencepiece_tokens_are_kept():
    tokenizer = sentencepiece_like()
    vocabulary = read_vocabulary(tokenizer)
    ids = {
        data: tokenizer.convert_ids_to_tokens(list(same)) for data, same in vocabulary.ids.items()
    }
    assert ids[" Пе".encode()] == ["▁Пе"]
    assert ids["Пе".encode()] == ["Пе"]
    assert ids[b" "] == ["<0x20>", "▁"]
    assert ids[b"a"] == ["<0x61>", "a"]
    assert ids[b"\xd0"] == ["<0xD0>"]
    assert not {"<s>", "</s>", "<unk>"} & {token for same in ids.values() for token in same}
    assert set(allowed_by_choices([" дом", "Петр"]).allowed(b"", vocabulary=vocabulary)[0]) == {
        *vocabulary.ids[" дом".encode()], *vocabulary.ids["Пе".encode()],
    }  # fmt: skip


def test_a_tokenizer_without_letters_is_refused():
    backend = Tokenizer(models.WordLevel({"!": 0, "?": 1}, unk_token="?"))
    with pytest.raises(ModelError, match="no token that is a letter"):
        read_vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend))


def test_choices_are_spelled_in_as_few_tokens_as_can_be():
    matcher = allowed_by_choices(["abcx", "abcd", "ab"])
    assert matcher.allowed(b"", vocabulary=WORDS) == ({2, 7, 5}, False)
    assert matcher.allowed(b"a", vocabulary=WORDS) == ({3}, False)
    assert matcher.allowed(b"ab", vocabulary=WORDS) == ({4}, True)
    assert matcher.allowed(b"abcx", vocabulary=WORDS) == (set(), True)
    assert matcher.allowed(b"nothing", vocabulary=WORDS) == (set(), False)


def test_ways_that_lead_nowhere_are_left_out():
    vocabulary = Vocabulary({b"a": (1,), b"ab": (2,), b"bc": (3,)})
    assert allowed_by_choices(["abc"]).allowed(b"", vocabulary=vocabulary) == ({1}, False)


def test_a_pattern_may_cut_characters_into_bytes():
    """д is D0 B4, ё is D1 91, € is E2 82 AC."""
    names = [
        b"\xd0",
        b"\xd1",
        b"\xb4",
        b"\x91",
        b"\xe2",
        b"\xe2\x82",
        b"\x82",
        b"\xac",
        b"\xb4\xd0",
    ]
    vocabulary = Vocabulary({name: (i,) for i, name in enumerate(names)})

    def allowed(pattern, written):
        ids, may_end = allowed_by_regex(pattern).allowed(written, vocabulary=vocabulary)
        return [names[i] for i in ids], may_end

    assert allowed("[а-я]+", b"") == ([b"\xd0", b"\xd1"], False)
    assert allowed("[а-е]+", b"") == ([b"\xd0"], False)
    assert allowed("[а-е]+", b"\xd0") == ([b"\xb4", b"\xb4\xd0"], False)
    assert allowed("[а-е]", b"\xd0") == ([b"\xb4"], False)
    assert allowed("[а-е]+", b"\xd0\xb4") == ([b"\xd0"], True)
    assert allowed("€|ё", b"") == ([b"\xd1", b"\xe2\x82"], False)
    assert allowed("€", b"\xe2\x82") == ([b"\xac"], False)
    assert allowed("€", b"\xff") == ([], False)


@pytest.mark.parametrize("pattern", ["a?b+c*", "(ab|x)+", "[^a]*", "(?!x).{1,3}", "abcd"])
@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "x"])
def test_the_tree_is_walked_to_the_same_tokens_as_trying_all(pattern, text):
    import regex

    ids, may_end = allowed_by_regex(pattern).allowed(text.encode(), vocabulary=WORDS)
    wanted = {
        i
        for i, data in WORDS.token_bytes.items()
        if regex.fullmatch(pattern, text + data.decode(), partial=True)
    }
    assert set(ids) == wanted
    assert may_end == bool(re.fullmatch(pattern, text))


def test_the_tree_has_parents_before_children():
    vocabulary = Vocabulary({b"abc": (1,), b"abd": (2,), b"a": (3,), b"b": (4,), b"xyz": (5,)})
    assert vocabulary.trie == (
        ["a", "ab", "abc", "abd", "b", "xyz"],
        [4, 4, 3, 4, 5, 6],
        [(3,), (), (1,), (2,), (4,), (5,)],
    )


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[0-9", "unterminated character set at position 4"),
        ("ab(c", r"missing \) at position 4"),
        ("a{2,1}", "position"),
    ],
)
def test_a_wrong_pattern_is_said_with_its_position(pattern, said):
    with pytest.raises(ConfigError, match=f"regex: .* isn't a regular expression: .*{said}"):
        allowed_by_regex(pattern)


def test_what_cannot_be_written_is_refused_at_once(tokenizer):
    def constrain(matcher, eos=(0,)):
        TextConstraint(tokenizer, matcher, prompt_length=1, eos_token_ids=eos)

    with pytest.raises(ConfigError, match="choices: there is none"):
        allowed_by_choices([])
    matcher = allowed_by_choices(["abd", "az", "zz"])
    with pytest.raises(ConfigError, match=r"'az' isn't .*\n.*'zz' isn't something that this token"):
        matcher.check(WORDS)
    with pytest.raises(ConfigError, match=r"after '' no token .* leads to a match of 'z'"):
        allowed_by_regex("z").check(WORDS)
    with pytest.raises(ConfigError, match=r"no text matches '\(\?!\)'"):
        constrain(allowed_by_regex("(?!)"))
    with pytest.raises(ConfigError, match="need an EOS token"):
        constrain(allowed_by_regex("a"), eos=())


def test_rows_that_have_ended_or_left_the_pattern_get_eos_alone(tokenizer):
    constraint = TextConstraint(
        tokenizer, allowed_by_regex("[0-9]+"), prompt_length=1, eos_token_ids=[0, 290]
    )
    (two,), (letter,) = tokenizer("2")["input_ids"], tokenizer("a")["input_ids"]
    rows = torch.tensor([[9, two, two], [9, two, 0], [9, letter, two]])
    scores = torch.zeros(3, 400)
    kept = [set(np.flatnonzero(row > -np.inf)) for row in constraint(rows, scores).numpy()]
    digits = {tokenizer(d)["input_ids"][0] for d in "0123456789"}
    assert kept == [digits | {0, 290}, {0, 290}, {0, 290}]
    assert (scores == 0).all()


def test_a_pattern_that_would_never_end_is_stopped(monkeypatch):
    monkeypatch.setattr("gptft.decoding.matchers._MATCH_SECONDS", 0.05)
    with pytest.raises(ConfigError, match=r"takes more than 0\.05 s"):
        allowed_by_regex("(a|aa)+(?<=c)b").allowed(b"a" * 60, vocabulary=WORDS)


def test_patterns_are_quick_at_a_full_vocabulary():
    tokenizer = AutoTokenizer.from_pretrained(find_model("pico").folder)
    constraint = TextConstraint(
        tokenizer, allowed_by_regex(".*"), prompt_length=0, eos_token_ids=[0]
    )
    row = torch.tensor([tokenizer("Мороз и солнце; день чудесный! " * 6)["input_ids"]])
    scores = torch.zeros(1, len(tokenizer))
    start = time.perf_counter()
    kept = constraint(row, scores)
    elapsed = time.perf_counter() - start
    assert (kept == 0).sum() > 0.9 * len(tokenizer)
    assert elapsed < 1.0  # about 0.02 s where nothing else runs
