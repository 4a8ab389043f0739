"""What a person sees of tokens and numbers: on a terminal of any width, and off one."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from gptft.files import as_json
from gptft.inspection.cost import MeasuredText, measure_text
from gptft.inspection.cost_view import comparison_view, cost_view, costs_instead
from gptft.inspection.token_view import byte_view, text_view
from gptft.terminal.draw import Drawn
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.tokenization.tokens import Token, text_cost
from tests.framed import write_tokenizer

PICO = load_tokenizer("pico")
POEM = "Мороз и солнце; 😀 день 中文 чудесный!\n\tЕщё ты дремлешь"
COLOUR = re.compile("\x1b\\[38;5;16;48;5;(\\d+)m(.*?)\x1b\\[0m")
ESCAPE = re.compile("\x1b\\[[0-9;]*m")
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def drawn(
    view: Drawn, *, width: int = 80, terminal: bool = True, no_color: bool = False
) -> list[str]:
    """The lines a console prints, colours and all."""
    console = Console(
        file=io.StringIO(),
        width=width if terminal else 100_000,
        force_terminal=terminal,
        color_system="256" if terminal else None,
        no_color=no_color,
        soft_wrap=not terminal,
        legacy_windows=False,
        _environ={"TERM": "xterm-256color"},
    )
    console.print(view)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def plain(lines: list[str]) -> list[str]:
    return [ESCAPE.sub("", line).rstrip() for line in lines]


def made(*raws: bytes, ids: list[int] | None = None) -> MeasuredText:
    """Pieces of these bytes."""
    numbers = ids or [*range(1, len(raws) + 1)]
    tokens = []
    for token_id, raw in zip(numbers, raws, strict=True):
        text = None if raw in (b"\xd0", b"\xbf") else raw.decode()
        tokens.append(Token(token_id, "", raw, text, 0, len(raw)))
    text = b"".join(raws).decode()
    return MeasuredText(
        "tiny", tuple(tokens), text_cost(text, num_tokens=len(raws)), True, context=None
    )


def test_an_id_stands_below_the_beginning_of_its_pill() -> None:
    view = text_view(made("ам".encode(), " 中".encode(), b"!", ids=[7, 12345, 8]))
    assert plain(drawn(view)) == ["ам ·中   !", "7  12345 8"]


def test_a_combining_mark_takes_no_cell_and_an_emoji_two() -> None:
    view = text_view(made("е\u0301".encode(), "😀".encode(), b"x", ids=[1, 2, 3]))
    assert plain(drawn(view)) == ["е\u0301 😀 x", "1 2  3"]


def test_a_pill_has_the_colour_of_its_id_and_a_gap_after_it() -> None:
    (pills, _) = drawn(text_view(made(b"a", b"b", b"a", b"c", ids=[1, 2, 1, 8])))
    colours = [colour for colour, _ in COLOUR.findall(pills)]
    assert colours[0] == colours[2] == colours[3] != colours[1]
    # 1 and 8 share a colour: the cell between them, which has none, tells them apart.
    assert COLOUR.sub("", pills).replace("\x1b[2m", "").replace("\x1b[0m", "") == "   "


def test_spaces_line_breaks_and_tabs_are_seen_and_a_line_break_ends_a_row() -> None:
    view = text_view(made(b" a", b"\n", b"\tb", b"\n\n", b"c"))
    assert plain(drawn(view)) == ["·a ↵", "1  2", "→b ↵↵", "3  4", "c", "5"]


def test_tokens_of_one_character_are_added_up_and_marked() -> None:
    view = text_view(made(b"a", b"\xd0", b"\xbf", b"b", ids=[5, 170, 171, 6]))
    assert plain(drawn(view)) == ["a ⟨d0⟩+⟨bf⟩=п b", "5 170* 171*   6"]


def test_a_sum_may_continue_in_the_next_row() -> None:
    view = text_view(made(b"abcdef", b"\xd0", b"\xbf", b"\n", ids=[5, 170, 171, 6]))
    assert plain(drawn(view, width=12)) == [
        "abcdef ⟨d0⟩",
        "5      170*",
        "+⟨bf⟩=п ↵",
        " 171*   6",
    ]


def test_a_token_longer_than_the_window_continues_below() -> None:
    lines = plain(drawn(text_view(made(b"-" * 30, b"a")), width=20))
    assert lines == ["-" * 19, "1", "-" * 11 + " a", " " * 12 + "2"]


TERMINAL_TEXT = st.text(
    st.sampled_from("абвЙё \n\té\u0301中文ｗ😀👩🏽\u200d\ufe0f\u3099\x1b\u200bقd1!")
    | st.characters()
).map(lambda text: text.encode(errors="ignore").decode())


@pytest.mark.parametrize("width", [20, 40, 100])
@settings(patient, max_examples=40)
@given(text=TERMINAL_TEXT)
def test_nothing_is_wider_than_the_terminal_and_nothing_is_lost(width: int, text: str) -> None:
    measured = measure_text(PICO, text)
    for view in (text_view(measured), comparison_view([measured] * 2)):
        assert all(line.isprintable() for line in plain(drawn(view, width=width)))
        assert all(cell_len(line) <= width for line in plain(drawn(view, width=width)))
    rows = "\n".join(drawn(text_view(measured), width=width))
    shown = "".join(pill for _, pill in COLOUR.findall(rows))
    assert shown.replace(" ", "") == "".join(token.shown for token in measured.tokens).replace(
        " ", ""
    )


@pytest.mark.parametrize("width", [40, 100])
@settings(patient, max_examples=40)
@given(text=TERMINAL_TEXT.filter(bool))
def test_every_byte_stands_in_its_column(width: int, text: str) -> None:
    _, *lines = plain(drawn(byte_view(measure_text(PICO, text)), width=width))
    assert all(cell_len(line) <= width for line in lines)
    raws = [re.search("(?:^|  )((?:[0-9a-f]{2} ?)*)$", line) for line in lines]
    assert bytes.fromhex("".join(raw[1] for raw in raws if raw)).decode() == text


def test_off_a_terminal_and_without_colours_it_is_lines_with_tabs() -> None:
    measured = measure_text(PICO, "Да 😀")
    off = drawn(text_view(measured), terminal=False)
    assert drawn(text_view(measured), no_color=True) == off
    cells = [line.split("\t") for line in off]
    assert [int(row[0]) for row in cells] == [token.id for token in measured.tokens]
    assert bytes.fromhex("".join(row[2] for row in cells)) == "Да 😀".encode()
    assert cells[-1][1] == "└ ⟨80⟩ = 😀"


def test_bytes_stand_in_columns_under_their_heads() -> None:
    measured = measure_text(PICO, "Да 😀")
    head, *lines = plain(drawn(byte_view(measured)))
    assert head.split() == ["id", "byte", "char", "token", "bytes"]
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    assert bytes.fromhex("".join(row[-1] for row in rows)).decode() == "Да 😀"
    assert [row[1:3] for row in rows[-4:]] == [["5–6", "3–4"], ["6–7", "3–4"], ["7–8", "3–4"],
                                               ["8–9", "3–4"]]  # fmt: skip
    assert all(row[0].endswith("*") for row in rows[-4:])


def test_a_narrow_terminal_shows_where_tokens_begin() -> None:
    measured = measure_text(PICO, "Мороз " * 2000)
    lines = plain(drawn(byte_view(measured), width=40))
    assert max(map(cell_len, lines)) <= 40
    assert not any("–" in line for line in lines)
    last = measured.tokens[-1]
    assert lines[-1].split()[1:3] == [str(last.start), str(last.start_character)]


def test_bytes_off_a_terminal_have_offsets_in_four_columns_more() -> None:
    measured = measure_text(PICO, "Да 😀")
    rows = [line.split("\t") for line in drawn(byte_view(measured), terminal=False)]
    assert [row[3:] for row in rows[-2:]] == [["7", "8", "3", "4"], ["8", "9", "3", "4"]]
    without = drawn(text_view(measured), terminal=False)
    assert [line.split("\t") for line in without] == [row[:3] for row in rows]


def test_the_numbers_by_hand() -> None:
    text = "Мороз и солнце\n"  # 3 words, 15 characters, 27 bytes
    measured = MeasuredText(
        "m", tuple([Token(0, "a", b"a", "a", 0, 1)] * 6), text_cost(text, num_tokens=6), True, 64
    )
    assert drawn(cost_view(measured), terminal=False) == [
        "tokens\t6",
        "words\t3\t2.00 tokens each",
        "characters\t15\t0.40 tokens each",
        "bytes\t27\t4.50 a token",
        "a word\t5.00 characters, 9.00 bytes, 2.00 tokens",
        "one token each\t3 words (0.50x), 15 characters (2.50x), 27 bytes (4.50x)",
        "of a context\t64 (its own) 9.4%, 512 1.2%, 1,024 0.6%, 2,048 0.3%",
    ]
    assert measured.context_used == {64: 6 / 64, 512: 6 / 512, 1024: 6 / 1024, 2048: 6 / 2048}
    found = as_json(measured)
    assert found["one_token_each"] == {"words": 3, "characters": 15, "bytes": 27}
    assert found["context_used"]["64"] == 6 / 64


@pytest.mark.parametrize("width", [24, 40, 80])
def test_the_numbers_fit_the_terminal(width: int) -> None:
    lines = drawn(cost_view(measure_text(PICO, POEM * 100)), width=width)
    assert all(cell_len(line) <= max(width, 31) for line in lines)
    joined = " ".join(" ".join(lines).split())
    assert re.search(r"1,024 \(its own\) \d{3}%, 2,048 \d{3}%", joined)  # it doesn't fit


def test_tokens_that_are_no_text_alone_are_counted() -> None:
    lines = drawn(cost_view(measure_text(PICO, "😀")), terminal=False)
    assert lines[-1] == "partial (*)\t4 tokens, text only with their neighbours"
    assert not any("partial" in line for line in drawn(cost_view(measure_text(PICO, "Да"))))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("<s> $A", "<s> (id 1) before it"),
        ("</s> $A <unk>", "</s> (id 2) before it, <unk> (id 0) after it"),
    ],
)
def test_what_a_model_sees_around_the_text_is_said_and_not_counted(
    template: str, said: str, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, template)))
    measured = measure_text(tokenizer, "Буря")
    line = f"a model also sees\t{said}, which isn't counted here"
    assert line in drawn(cost_view(measured), terminal=False)
    found = as_json(measured)
    around = [*found["before"], *found.get("after", [])]
    assert f"{template} ".replace("$A ", "").split() == [one["token"] for one in around]
    assert all(tokenizer.backend.token_to_id(one["token"]) == one["id"] for one in around)
    whole = tokenizer.backend.encode("Буря")
    assert found["num_tokens"] == len(found["tokens"]) == len(whole) - len(around)


def test_tokenizers_side_by_side() -> None:
    few, many = made("абв".encode()), made("а".encode(), "б".encode(), "в".encode())
    lines = plain(drawn(comparison_view([few, many])))
    assert lines == [
        "      tokens  a word  bytes each",
        "tiny       1    1.00        6.00",
        "tiny       3    3.00        2.00",
        "",
        "tiny",
        "абв",
        "",
        "tiny",
        "а б в",
    ]
    assert plain(drawn(comparison_view([many]), no_color=True))[-1] == "│а│б│в"
    assert drawn(comparison_view([few, many]), terminal=False) == [
        "model\ttokens\ttokens a word\tbytes a token\ttext",
        "tiny\t1\t1\t6\tабв",
        "tiny\t3\t3\t2\tа б в",
    ]


def test_no_text_is_no_rows() -> None:
    nothing = measure_text(PICO, "")
    for view in (text_view(nothing), byte_view(nothing)):
        assert drawn(view) == []
        assert drawn(view, terminal=False) == []
    assert [line.split()[1] for line in drawn(cost_view(nothing))] == ["0"] * 4
    assert drawn(comparison_view([nothing]), terminal=False)[1] == "pico\t0\t\t\t"


def test_one_of_a_unit_is_said_in_the_singular():
    measured = measure_text(PICO, "d")
    assert costs_instead(measured) == ["1 word (1.00x)", "1 character (1.00x)", "1 byte (1.00x)"]
