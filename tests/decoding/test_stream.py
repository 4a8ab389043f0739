import pytest
import torch

from gptft.decoding.stream import TextStreamer


@pytest.fixture
def streamed(tokenizer):
    """A streamer of the prompt "а", and the list its pieces go to."""
    pieces: list[str] = []
    streamer = TextStreamer(tokenizer, prompt="а", eos_token_ids=[0, 40], on_text=pieces.append)
    streamer.put(torch.tensor([tokenizer.encode("а")]))
    return streamer, pieces


def test_the_prompt_comes_first(streamed):
    assert streamed[1] == ["а"]


def test_half_a_character_waits_for_the_other_half(streamed, tokenizer):
    streamer, pieces = streamed
    for token in ("Ð", "¼", "Ð"):
        streamer.put(torch.tensor([tokenizer.convert_tokens_to_ids(token)]))
    streamer.end()
    assert pieces == ["а", "м"]


def test_eos_is_not_shown(streamed):
    streamer, pieces = streamed
    for token in (0, 40):  # 40 is an ordinary token that the model takes for an end
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert pieces == ["а"]
