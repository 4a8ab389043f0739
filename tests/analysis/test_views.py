"""What a person sees of tokens: on terminals of any width, without colours, off a terminal."""

import io
import math

import pytest
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from gptft.analysis.predict import Kept, PredictedStep, PredictedToken, Prediction
from gptft.analysis.prediction_view import prediction_view
from gptft.analysis.score import TextScore
from gptft.analysis.score_view import text_score_summary
from gptft.analysis.scored_tokens import RunnerUp, TokenScore, scored_tokens, token_reader
from gptft.analysis.text_view import text_view, token_table, why_view
from gptft.decoding.settings import resolve_settings
from gptft.files import as_json

TEXT = "Мороз и\nсолнце; 😀 \x1b[31m"
LIKELY, RARE = "on color(74)", "on color(167)"


def score_of(token_id, probability, *, processed=None, rank=1, runners_up=()):
    after = None if processed is None else math.log(processed) if processed else -math.inf
    others = tuple(RunnerUp(*one) for one in runners_up)
    return TokenScore(token_id, math.log(probability), after, rank, others)


def scored(tokenizer, text, probability=0.25, **more):
    ids = tokenizer(text)["input_ids"]
    return scored_tokens(tokenizer, ids, [score_of(i, probability, **more) for i in ids])


def render(view, *, width=80, terminal=True, colour=True):
    """What a console prints: (text, styled segments)."""
    console = Console(
        file=io.StringIO(), width=width if terminal else 100_000, force_terminal=terminal,
        color_system="256" if terminal and colour else None, no_color=not colour,
        soft_wrap=not terminal, highlight=False, legacy_windows=False, _environ={"TERM": "xterm"},
    )  # fmt: skip
    segments = [s for s in console.render(view) if not s.control]
    console.print(view)
    return console.file.getvalue(), segments


def lines_of(view, **how):
    segments = render(view, **how)[1]
    return "".join(segment.text for segment in segments).removesuffix("\n").split("\n")


def style_of(segments, text):
    return next(str(s.style) for s in segments if s.text.strip() == text)


class TestPieces:
    def test_scores_belong_to_the_last_tokens(self, tokenizer):
        ids = tokenizer("Мороз и")["input_ids"]
        tokens = scored_tokens(tokenizer, ids, [score_of(ids[-1], 0.5)])
        assert [token.score is None for token in tokens] == [True] * (len(ids) - 1) + [False]
        assert b"".join(token.token.bytes for token in tokens).decode() == "Мороз и"
        with pytest.raises(ValueError, match="2 scores for 1 tokens"):
            scored_tokens(tokenizer, ids[:1], [score_of(0, 0.5)] * 2)

    def test_the_space_that_a_tokenizer_puts_in_front_is_taken_off(self):
        vocab = [("▁да", -1.0), ("▁", -2.0), ("д", -3.0), ("а", -3.0), ("<unk>", -9.0)]
        backend = Tokenizer(models.Unigram(vocab, unk_id=4, byte_fallback=False))
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
        ids = tokenizer("да да")["input_ids"]
        assert ids == [0, 0]
        tokens = scored_tokens(tokenizer, ids, [score_of(0, 0.5)] * 2)
        assert [token.token.bytes.decode() for token in tokens] == ["да", " да"]

    def test_an_id_without_a_token(self, tokenizer):
        assert token_reader(tokenizer)(5000).token == "⟨id 5000⟩"


class TestTextView:
    def test_colours_say_how_likely(self, tokenizer):
        ids = tokenizer("Мороз;")["input_ids"]
        scores = [score_of(i, 0.9) for i in ids[:-1]] + [score_of(ids[-1], 0.0001)]
        _, segments = render(text_view(scored_tokens(tokenizer, ids, scores)))
        assert LIKELY in style_of(segments, "≥50%")
        assert RARE in style_of(segments, "less")
        assert RARE in style_of(segments, ";")
        assert LIKELY in str(next(s.style for s in segments if "М" in s.text))

    def test_the_text_reads_as_it_is_and_nothing_reaches_the_terminal_raw(self, tokenizer):
        printed, segments = render(text_view(scored(tokenizer, TEXT)))
        plain = "".join(segment.text for segment in segments)
        assert "Мороз и↵\nсолнце; 😀 ⟨U+001B⟩[31m" in plain
        assert "\x1b[31m" not in printed

    def test_a_character_of_several_tokens_is_one_spot(self, tokenizer):
        ids = tokenizer("😀")["input_ids"]
        assert len(ids) == 4
        tokens = scored_tokens(tokenizer, ids, [score_of(i, 0.6) for i in ids])
        _, segments = render(text_view(tokens))
        # 0.6 ** 4 = 0.13: the second colour, though each token alone has the first.
        assert "on color(153)" in style_of(segments, "😀")
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(s.text for s in segments)

    def test_what_has_no_score_is_dim_and_said_to_be(self, tokenizer):
        ids = tokenizer("Мороз;")["input_ids"]
        tokens = scored_tokens(tokenizer, ids, [score_of(ids[-1], 0.9)])
        _, segments = render(text_view(tokens))
        assert "dim" in style_of(segments, "not scored")
        assert "dim" in str(next(s.style for s in segments if "М" in s.text))

    @pytest.mark.parametrize("index", [16, 74, 153, 229, 215, 167])
    def test_black_on_each_colour_has_contrast(self, index):
        """WCAG 2: 4.5 to 1 is enough for text of any size."""

        def luminance(number):
            channels = [c / 255 for c in Color.from_ansi(number).get_truecolor()]
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        if index == 16:
            assert luminance(16) == 0.0
        else:
            assert (luminance(index) + 0.05) / 0.05 > 4.5

    @pytest.mark.parametrize("how", [{"terminal": False}, {"colour": False}])
    def test_without_colours_it_is_the_table(self, tokenizer, how):
        tokens = scored(tokenizer, TEXT)
        printed, _ = render(text_view(tokens), **how)
        assert printed == render(token_table(tokens), **how)[0]
        assert printed.splitlines()[0].split()[0] == "token"

    @pytest.mark.parametrize("width", [20, 40, 100])
    def test_any_width(self, tokenizer, width):
        lines = lines_of(text_view(scored(tokenizer, TEXT * 5)), width=width)
        assert max(map(cell_len, lines)) <= width


class TestWhyView:
    @pytest.mark.parametrize("how", [{"terminal": False}, {"colour": False}])
    def test_without_colours_plain_text_and_one_table(self, tokenizer, how):
        tokens = scored(tokenizer, TEXT)
        printed, _ = render(why_view(tokens), **how)
        text, table = printed.split("\n\n")
        assert text == "Мороз и↵\nсолнце; 😀 ⟨U+001B⟩[31m"
        assert table == render(token_table(tokens), **how)[0]

    def test_in_colour_the_coloured_text_and_one_table(self, tokenizer):
        tokens = scored(tokenizer, TEXT)
        lines = lines_of(why_view(tokens))
        assert lines == [*lines_of(text_view(tokens)), "", *lines_of(token_table(tokens))]


class TestTokenTable:
    @pytest.fixture
    def tokens(self, tokenizer):
        runners = ((5, 0.2, 0.0), (6, 0.1, 0.3), (7, 0.05, 0.7))
        return scored(tokenizer, TEXT, 0.125, processed=0.5, rank=1234, runners_up=runners)

    def test_tabs_off_a_terminal(self, tokens):
        printed, _ = render(token_table(tokens), terminal=False)
        head, *rows = [line.split("\t") for line in printed.splitlines()]
        assert head == ["token", "id", "probability", "after", "rank", "bits", "runners-up"]
        assert len(rows) == len(tokens)
        assert {len(row) for row in rows} == {7}
        assert {tuple(row[2:6]) for row in rows} == {("0.125", "0.5", "1234", "3.0")}
        assert [int(row[1]) for row in rows] == [token.token.id for token in tokens]
        others = f"{tokens[0].runners_up[0]} 0.2 {tokens[0].runners_up[1]} 0.1"
        assert rows[0][6].startswith(others)

    def test_no_column_for_processors_where_there_were_none(self, tokenizer):
        printed, _ = render(token_table(scored(tokenizer, "Мороз")), terminal=False)
        assert "after" not in printed
        assert "after" not in "".join(lines_of(token_table(scored(tokenizer, "Мороз"))))

    def test_tokens_of_one_character_hang_together(self, tokens):
        printed, _ = render(token_table(tokens), terminal=False)
        pieces = [line.split("\t")[0] for line in printed.splitlines()]
        marked = [piece for piece in pieces if piece[0] in "┌│└"]
        assert marked[-4:] == ["┌ ⟨f0⟩", "│ ⟨9f⟩", "│ ⟨98⟩", "└ ⟨80⟩ = 😀"]

    @pytest.mark.parametrize("colour", [True, False])
    @pytest.mark.parametrize("width", [30, 40, 60, 100, 200])
    def test_any_width(self, tokens, width, colour):
        lines = lines_of(token_table(tokens), width=width, colour=colour)
        assert max(map(cell_len, lines)) <= width
        numbers = [line for line in lines if "1,234" in line]
        assert len(numbers) == len(tokens)
        assert all("12.5%" in line and "50.0%" in line for line in numbers)

    def test_others_stand_beside_or_below(self, tokens):
        others = f"{tokens[0].runners_up[0]} 20.0%"
        wide = lines_of(token_table(tokens), width=100)
        narrow = lines_of(token_table(tokens), width=40)
        assert "runners-up" in wide[0]
        assert others in wide[1]
        assert "1,234" in wide[1]
        assert others in narrow[2]
        assert "1,234" not in narrow[2]

    def test_a_long_piece_is_cut(self, tokenizer):
        tokens = scored(tokenizer, "x")
        piece = type(tokens[0].token)(1, "-" * 90, b"-" * 90, "-" * 90, 0, 0)
        line = lines_of(token_table([type(tokens[0])(piece, tokens[0].score)]), width=40)[1]
        assert "…" in line
        assert "25.0%" in line

    def test_an_impossible_token(self, tokenizer):
        ids = tokenizer("x")["input_ids"]
        tokens = scored_tokens(tokenizer, ids, [TokenScore(ids[0], -math.inf, None, 300, ())])
        assert "∞" in render(token_table(tokens), terminal=False)[0]
        assert as_json(tokens[0])["bits"] is None

    def test_no_tokens(self):
        assert render(token_table([]), terminal=False)[0].startswith("token")
        assert lines_of(token_table([]))[0].startswith("token")


def test_summary(tokenizer):
    tokens = scored(tokenizer, "Мороз", 0.25)
    n = len(tokens)
    score = TextScore("m", tokens, "<|endoftext|>", 10, None, True)
    lines = text_score_summary(score).split("\n")
    assert lines[0] == f"perplexity 4.00, {2 * n / 10:.3f} bits per byte, 2.00 bits per token"
    assert lines[1] == f"{2 * n:.2f} bits for {n} tokens, 10 bytes"
    assert lines[2] == "The first token is scored after <|endoftext|>."
    long = TextScore("m", tokens, None, 10, 1024, True)
    assert "isn't scored" in text_score_summary(long)
    assert "context of 1,024" in text_score_summary(long)
    assert "at least 512 others" in text_score_summary(long)


class TestPrediction:
    def step(self, *, text="Мороз\nи", kept=True, other=None):
        rows = (
            PredictedToken(850, "·день", 0.4, 0.8, None, other),
            PredictedToken(12, ",", 0.2, 0.2, None, other),
            PredictedToken(70000, "·солнечный_и_очень_длинный_токен", 0.01, 0.0, "top_p", other),
            PredictedToken(7, "😀", 0.00001, 0.0, "no_repeat_ngram_size", other),
        )
        chain = (
            Kept("temperature", 8192, 8192, 1.0),
            Kept("top_p", 8192, 2, 0.6),
        )
        return PredictedStep(
            text, 5.0, rows if kept else rows[:2], chain if kept else (), 850, text + " день",
            other_entropy_bits=None if other is None else 3.25,
        )  # fmt: skip

    def prediction(self, *steps, other_model=None):
        settings = resolve_settings({"top_p": 0.6, "temperature": 2.0, "seed": 1})
        return Prediction("pico", other_model, "Мороз\nи", settings, steps)

    def test_bars_are_to_scale(self):
        lines = lines_of(prediction_view(self.prediction(self.step())), width=100)
        bars = [line.count("█") for line in lines if "%  █" in line]
        assert bars[0] > 25
        assert abs(bars[0] - 2 * bars[1]) <= 1
        likeliest = next(line for line in lines if line.startswith("·день"))
        assert likeliest.split() == ["·день", "850", "40.0%", "█" * bars[0], "80.0%"]

    def test_what_was_cut_says_by_what(self):
        lines = lines_of(prediction_view(self.prediction(self.step())), width=100)
        assert "top_p 0.6 keeps 2 of 8,192 tokens, 60.0% of the probability" in lines
        assert "temperature 2.0 keeps all 8,192 tokens" in lines
        assert "entropy 5.00 bits, like 32.0 equally likely tokens" in lines
        assert next(line for line in lines if "солнечный" in line).endswith("cut by top_p")
        assert lines[0] == "Мороз↵и"

    @pytest.mark.parametrize("colour", [True, False])
    @pytest.mark.parametrize("other", [None, 0.3])
    @pytest.mark.parametrize("width", [20, 40, 59, 60, 100])
    def test_any_width(self, width, other, colour):
        steps = [self.step(text="Мороз и солнце " * 9, other=other) for _ in range(2)]
        name = None if other is None else "runs/a-name-far-too-long-for-a-column"
        view = prediction_view(self.prediction(*steps, other_model=name))
        lines = lines_of(view, width=width, colour=colour)
        assert max(map(cell_len, lines)) <= width
        assert sum(line.startswith("·день") for line in lines) == 2
        assert all("40.0%" in line for line in lines if line.startswith("·день"))
        if width >= 40:
            assert all("80.0%" in line for line in lines if line.startswith("·день"))

    def test_no_processors_no_column_for_them(self):
        lines = lines_of(prediction_view(self.prediction(self.step(kept=False))))
        assert "after" not in "".join(lines)

    def test_two_models_share_a_scale(self):
        prediction = self.prediction(self.step(other=0.2), other_model="runs/mine")
        lines = lines_of(prediction_view(prediction), width=100)
        head = next(line for line in lines if line.startswith("token"))
        assert head.split()[-3:] == ["pico", "mine", "after"]
        ours, theirs = (
            len(part) for part in next(li for li in lines if li.startswith("·день")).split()
            if part[0] == "█"
        )  # fmt: skip
        assert abs(ours - 2 * theirs) <= 1

    def test_steps_are_numbered_and_end_with_the_text(self):
        lines = lines_of(prediction_view(self.prediction(self.step(), self.step())))
        assert lines[0].startswith("1 of 2: Мороз")
        assert any(line.startswith("2 of 2: ") for line in lines)
        assert lines[-1] == "Мороз↵и день"

    def test_tabs_off_a_terminal(self):
        printed, _ = render(
            prediction_view(self.prediction(self.step(other=0.2), other_model="runs/mine")),
            terminal=False,
        )
        lines = printed.splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith("token\t"))
        rows = [line.split("\t") for line in lines[start:]]
        assert rows[0] == ["token", "id", "probability", "after", "cut by", "runs/mine"]
        assert rows[1] == ["·день", "850", "0.4", "0.8", "", "0.2"]
        assert rows[3][4] == "top_p"

    def test_a_terminal_never_gets_a_raw_escape(self):
        view = prediction_view(self.prediction(self.step(text="a\x1b]0;title\x07")))
        for terminal in (True, False):
            printed, _ = render(view, terminal=terminal)
            assert "\x1b]0" not in printed
            assert "⟨U+001B⟩" in printed
