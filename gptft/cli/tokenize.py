"""`gptft tokenize`: a text, piece by piece, and what it costs."""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gptft.cli.options import AsJson

if TYPE_CHECKING:
    from rich.text import Text

    from gptft.corpus.pieces import Piece, TextCost

_GAP = "  "
_LINES_AT_ONCE = 1000  # printed with one call: rich is slow line by line


def tokenize(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Words, joined with a space.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help="A UTF-8 file.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="pico, a folder, a run or a hub id.")
    ] = "pico",
    as_json: AsJson = False,
) -> None:
    """Show what a model sees of TEXT: every token, its bytes, and what a word costs.

    Without TEXT and --file the text comes from standard input.
    """
    from gptft.console import notice, result_json
    from gptft.corpus.pieces import is_lossless, split_pieces, text_cost
    from gptft.corpus.tokenizer import load_tokenizer

    content = _read(text or [], file)
    pieces = split_pieces(load_tokenizer(model), content)
    cost = text_cost(content, num_tokens=len(pieces))
    lossless = is_lossless(pieces, content)
    if not lossless:
        notice(
            f"The tokenizer of {model} doesn't keep this text byte for byte. "
            "Shown is what its tokens spell."
        )
    if as_json:
        tokens = [piece.to_dict() for piece in pieces]
        result_json({"model": model, "tokens": tokens, **cost.to_dict(), "lossless": lossless})
        return
    _print_pieces(pieces)
    _print_cost(cost)


def _read(words: Sequence[str], file: Path | None) -> str:
    """The text to tokenize, from the one place that gives one."""
    from gptft.errors import ConfigError

    if words and file:
        raise ConfigError("TEXT and --file are both given. Give one of them.")
    if words:
        return " ".join(words)
    if file:
        from gptft.corpus.encoding import examine_text, read_chunks

        facts = examine_text(file, encoding="auto")
        return "".join(read_chunks(file, facts, line_ends="keep"))
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            'There is no text. Give one (gptft tokenize "Мороз и солнце"), name a file with '
            "--file, or send one to standard input."
        )
    return _read_stdin()


def _read_stdin() -> str:
    from gptft.errors import DataError

    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"Standard input is not text in UTF-8: byte 0x{error.object[error.start]:02x} at "
            f"offset {error.start:,}. Convert it first (iconv -f WINDOWS-1251 -t UTF-8, say)."
        ) from None


def _print_pieces(pieces: Sequence["Piece"]) -> None:
    """Print id, text and bytes of every piece: in columns on a terminal, else a line a piece."""
    rows = list(_rows(pieces))
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    from rich.text import Text

    from gptft.console import result, stdout

    lines = _layout(rows, width=stdout().width)
    while chunk := list(islice(lines, _LINES_AT_ONCE)):
        result(Text("\n").join(chunk))


def _rows(pieces: Sequence["Piece"]) -> Iterator[tuple[str, str, str]]:
    """Id, visible text and bytes by piece; pieces of one character are bracketed together."""
    from gptft.corpus.pieces import hexadecimal, split_characters, visible

    for group in split_characters(pieces):
        last = len(group) - 1
        for number, piece in enumerate(group):
            shown = visible(piece.bytes) or piece.token
            if last:
                mark = "┌" if number == 0 else "└" if number == last else "│"
                shown = f"{mark} {shown}"
            if last and number == last:
                shown += f" = {visible(b''.join(part.bytes for part in group))}"
            yield str(piece.id), shown, hexadecimal(piece.bytes)


def _layout(rows: Sequence[tuple[str, str, str]], *, width: int) -> Iterator["Text"]:
    """Set rows in three columns of a terminal; what is too long goes on below, in its column."""
    from rich.cells import cell_len, chop_cells, set_cell_size
    from rich.text import Text

    id_width = max((len(row[0]) for row in rows), default=0)
    room = max(width - id_width - 2 * len(_GAP), 8)
    text_width = min(max((cell_len(row[1]) for row in rows), default=0), room // 2)
    bytes_width = max(room - text_width, 2)
    for token_id, shown, raw in rows:
        texts = chop_cells(shown, text_width)
        per_line = (bytes_width + 1) // 3 * 3
        raws = [raw[at : at + per_line].rstrip() for at in range(0, len(raw), per_line)]
        for number, (text, pairs) in enumerate(zip_longest(texts, raws, fillvalue="")):
            yield Text.assemble(
                (f"{'' if number else token_id:>{id_width}}{_GAP}", "dim"),
                set_cell_size(text, text_width),
                (f"{_GAP}{pairs}", "dim"),
            )


def _print_cost(cost: "TextCost") -> None:
    from gptft.console import result

    rows = [
        ("tokens", cost.num_tokens, ""),
        ("words", cost.num_words, _rate(cost.tokens_per_word, "tokens each")),
        ("characters", cost.num_characters, _rate(cost.tokens_per_character, "tokens each")),
        ("bytes", cost.num_bytes, _rate(cost.bytes_per_token, "a token")),
    ]
    digits = max(len(f"{count:,}") for _, count, _ in rows)
    if cost.num_tokens:
        result("")
    for name, count, rate in rows:
        result(f"{name:<10}{_GAP}{count:>{digits},}{_GAP}{rate}".rstrip())


def _rate(rate: float | None, unit: str) -> str:
    return "" if rate is None else f"{rate:.2f} {unit}"
