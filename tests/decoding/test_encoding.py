import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from gptft.decoding.encoding import continuation, encode_prompt


@pytest.fixture(scope="module")
def pieces():
    """A tokenizer like Llama's: word pieces with their space, bytes for the rest, BOS and EOS."""
    vocab = {"<s>": 0, "</s>": 1, "▁day": 2, "▁is": 3, "s": 4}
    vocab |= {f"<0x{byte:02X}>": 5 + byte for byte in range(256)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def byte_ids(text):
    return [5 + byte for byte in text.encode()]


def test_a_prompt_is_begun_as_the_tokenizer_begins_texts_but_not_ended(pieces):
    assert encode_prompt(pieces, "day is") == [0, 2, 3]
    assert encode_prompt(pieces, "") == []


def test_special_tokens_in_a_prompt_stay_text(tokenizer):
    ids = encode_prompt(tokenizer, "а<|endoftext|>б")
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "а<|endoftext|>б"


def test_a_space_between_prompt_and_continuation_survives(pieces):
    assert pieces.decode([3, 2], skip_special_tokens=True) == "is day"
    assert continuation(pieces, [0, 2], [3, 2]) == " is day"


def test_special_tokens_are_left_out(pieces, tokenizer):
    assert continuation(pieces, [0, 2], [3, 1]) == " is"
    ids = encode_prompt(tokenizer, "Мороз")
    assert continuation(tokenizer, ids, [0, *ids, 0]) == "Мороз"


def test_an_incomplete_character_at_the_end_is_dropped(tokenizer):
    byte = {b: tokenizer.convert_tokens_to_ids(b) for b in ("Ð", "¼")}  # 0xD0 0xBC is м
    prompt = encode_prompt(tokenizer, "а")
    assert continuation(tokenizer, prompt, [byte["Ð"], byte["¼"]]) == "м"
    assert continuation(tokenizer, prompt, [byte["Ð"], byte["¼"], byte["Ð"]]) == "м"
    assert continuation(tokenizer, prompt, [byte["Ð"]]) == ""


def test_an_incomplete_character_of_byte_fallback_spoils_no_whole_one(pieces):
    ids = byte_ids("мороз")
    assert continuation(pieces, [0, 2], ids) == "мороз"
    assert continuation(pieces, [0, 2], ids[:-1]) == "моро"
    assert continuation(pieces, [0, 2], byte_ids("да🙂")[:-1]) == "да"


def test_a_replacement_character_within_the_text_stays(tokenizer):
    stray = tokenizer.convert_tokens_to_ids("¼")
    prompt = encode_prompt(tokenizer, "а")
    assert continuation(tokenizer, prompt, [stray, *prompt]) == "\ufffdа"


def test_nothing_new_is_an_empty_text(tokenizer):
    assert continuation(tokenizer, encode_prompt(tokenizer, "Мороз"), []) == ""


@pytest.mark.parametrize("text", ["\ufffd", "да\ufffd", "\ufffd\ufffd", "a \ufffd"])
def test_a_replacement_character_at_the_end_is_text_where_its_bytes_are_there(
    pieces, tokenizer, text
):
    prompt = encode_prompt(tokenizer, "Мороз")
    ids = encode_prompt(tokenizer, text)
    assert continuation(tokenizer, prompt, ids) == text
    assert continuation(tokenizer, prompt, [*ids, 0]) == text  # EOS adds nothing
    assert continuation(pieces, [0, 2], byte_ids(text)) == text
    # All but the last of its three bytes is the beginning of some character.
    assert continuation(tokenizer, prompt, ids[:-1]) == text[:-1]
    assert continuation(pieces, [0, 2], byte_ids(text)[:-1]) == text[:-1]


def test_bytes_at_the_end_that_are_no_character_are_dropped_all_of_them(pieces, tokenizer):
    byte = {b: tokenizer.convert_tokens_to_ids(b) for b in ("Ð", "¼")}  # 0xD0, 0xBC
    prompt = encode_prompt(tokenizer, "а")
    sign = encode_prompt(tokenizer, "\ufffd")
    assert continuation(tokenizer, prompt, [*sign, byte["¼"]]) == "\ufffd"
    assert continuation(tokenizer, prompt, [*sign, byte["¼"], byte["Ð"]]) == "\ufffd"
    assert continuation(tokenizer, prompt, [byte["¼"], *sign]) == "\ufffd\ufffd"
    assert continuation(pieces, [0, 2], [*byte_ids("д\ufffd"), 5 + 0xBC]) == "д\ufffd"


def test_a_token_that_ends_within_a_character_keeps_what_it_has_before():
    # F0 9F, a space and these, 98 82, which makes 😂 of them, a space and what begins nothing
    vocab = {"a": 0, "ðŁ": 1, "ĠðŁ": 2, "ĺĤ": 3, "ĠĺĤ": 4}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.decoder = decoders.ByteLevel()
    bare = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert continuation(bare, [0], [0, 2]) == "a "
    assert continuation(bare, [0], [0, 2, 3]) == "a 😂"
    assert continuation(bare, [0], [1]) == ""
    assert continuation(bare, [0], [0, 4]) == "a "
    assert continuation(bare, [0], [0, 4, 2]) == "a \ufffd\ufffd "


def test_a_replacement_character_in_a_vocabulary_of_words_is_text():
    backend = Tokenizer(models.WordLevel({"a": 0, "\ufffd": 1}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert continuation(words, [0], [0, 1]).endswith("\ufffd")
