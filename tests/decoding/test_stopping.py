import pytest
import torch

from gptft.decoding.stopping import StopTexts, cut_at


def rows_of(tokenizer, prompts, texts, *, pad=0):
    """Left-padded prompts with what follows them: ids, the prompts' own ids and their width."""
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    width = max(map(len, encoded))
    each = len(texts) // len(prompts)
    rows = [
        [pad] * (width - len(encoded[i // each]))
        + encoded[i // each]
        + tokenizer(text)["input_ids"]
        for i, text in enumerate(texts)
    ]
    longest = max(map(len, rows))
    rows = [row + [pad] * (longest - len(row)) for row in rows]
    return torch.tensor(rows), encoded, width


class TestStopTexts:
    def done(self, tokenizer, stops, prompts, texts):
        rows, encoded, width = rows_of(tokenizer, prompts, texts)
        stop = StopTexts(tokenizer, stops, prompts=encoded, prompt_length=width)
        found = stop(rows, torch.zeros(len(rows), 1))
        assert found.dtype is torch.bool
        assert found.shape == (len(rows),)
        return found.tolist()

    def test_a_row_ends_once_it_holds_one_of_them(self, tokenizer):
        texts = ["день", "день!", "солнце\n\nи", "!"]
        prompts = ["Мороз", "x", "Буря", "небо"]
        assert self.done(tokenizer, ["!", "\n\n"], prompts, texts) == [False, True, True, True]

    def test_the_prompt_is_not_looked_at(self, tokenizer):
        assert self.done(tokenizer, ["!", "Мороз"], ["Мороз!", "!"], ["день", "x"]) == [False] * 2
        # nor what only prompt and text together say
        assert self.done(tokenizer, ["abcd"], ["ab"], ["cd"]) == [False]

    @pytest.mark.parametrize("stop", ["ень ч", "день чудес", "нь", " ", "уде"])
    def test_it_is_found_wherever_the_tokens_are_cut(self, tokenizer, stop):
        text = "день чудесный"
        assert len(tokenizer(text)["input_ids"]) < len(text)
        ends = []
        for length in range(1, len(text) + 1):
            ends += self.done(tokenizer, [stop], ["Мороз"], [text[:length]])
        first = text.index(stop) + len(stop)
        assert ends == [length >= first for length in range(1, len(text) + 1)]

    def test_half_a_character_is_nothing_yet(self, tokenizer):
        ids = tokenizer("м")["input_ids"]
        assert len(ids) == 2
        prompt = tokenizer("x")["input_ids"]
        stop = StopTexts(tokenizer, ["м", "\ufffd"], prompts=[prompt], prompt_length=1)
        scores = torch.zeros(1, 1)
        assert stop(torch.tensor([[*prompt, ids[0]]]), scores).tolist() == [False]
        assert stop(torch.tensor([[*prompt, *ids]]), scores).tolist() == [True]

    def test_rows_of_one_prompt_go_by_its_ids(self, tokenizer):
        texts = ["a", "b", "a", "b!"]
        assert self.done(tokenizer, ["!"], ["Мороз", "x"], texts) == [False, False, False, True]
        assert self.done(tokenizer, ["b"], ["Мороз", "x"], texts) == [False, True, False, True]


class TestCut:
    @pytest.mark.parametrize(
        ("text", "stops", "left"),
        [
            ("Paris.\nQ: And", ["\nQ:", "\n\n"], "Paris."),
            ("ab cd ef", ["ef", "cd"], "ab "),
            ("ab", ["ab"], ""),
            ("ab", ["c"], "ab"),
            ("ab", [], "ab"),
            ("aXbX", ["X"], "a"),
            ("abc", ["bc", "b"], "a"),
            ("", ["x"], ""),
        ],
    )
    def test_a_text_is_left_up_to_the_first_of_them(self, text, stops, left):
        assert cut_at(text, stops) == left
