"""`gptft tokenize`: what a tokenizer makes of a text, of a corpus, and what it is itself."""

import gc
import sys
from collections.abc import Callable, Sequence
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from gptft.cli.options import (
    AsJson,
    OverwritePage,
    Words,
    print_result,
    progress_bar,
    text_argument,
)
from gptft.console import error, notice, result, result_json
from gptft.errors import ConfigError, ModelError
from gptft.inputs import is_file, is_folder

if TYPE_CHECKING:
    from gptft.tokenization.tokenizer import TextTokenizer

_SHOWN_BYTES = 100_000  # of a file; a longer one is counted, not shown

Files = Annotated[
    list[Path],
    Option(
        *("--file", "-f"),
        metavar="PATH",
        help="A text file, shown token by token up to 100 kB. A larger one, several (repeat -f), a "
        "folder, a glob or hub:NAME are counted as a corpus.",
    ),
]
ModelName = Annotated[
    str, Option(metavar="NAME", help="pico, a folder, a run, a .gguf file or a hub id.")
]
Compared = Annotated[
    list[str], Option(metavar="MODEL", help="Compare this one with --model's; repeatable.")
]
Html = Annotated[Path | None, Option(metavar="FILE", help="Write the tokens as a page, too.")]
AsBytes = Annotated[
    bool, Option("--bytes", help="A line a token: bytes, offsets in bytes and characters.")
]
Merges = Annotated[bool, Option("--merges", help="How each word of TEXT is built, merge by merge.")]
Vocabulary = Annotated[bool, Option("--vocab", help="What the vocabulary holds.")]
Search = Annotated[str | None, Option(metavar="TEXT", help="Entries of it that hold TEXT.")]
TokenId = Annotated[int | None, Option("--id", metavar="N", help="Its entry N.")]
Regex = Annotated[str | None, Option(metavar="RE", help="Entries of it that RE matches.")]
Limit = Annotated[int, Option(metavar="N", min=1, help="Entries shown at most.")]
Audit = Annotated[
    bool, Option("--audit", help="Look for faults of the tokenizer; exit code 1 if there are any.")
]


def tokenize(
    text: Words = [],
    files: Files = [],
    model: ModelName = "pico",
    compare: Compared = [],
    as_bytes: AsBytes = False,
    html: Html = None,
    overwrite: OverwritePage = False,
    merges: Merges = False,
    vocab: Vocabulary = False,
    search: Search = None,
    token_id: TokenId = None,
    regex: Regex = None,
    limit: Limit = 20,
    audit: Audit = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model sees of TEXT: every token, its bytes, and what a word costs.

    Without TEXT and --file the text comes from standard input; on a terminal, line by line.
    """
    search_for = {"text": search, "token_id": token_id, "regex": regex}
    is_searched = any(value is not None for value in search_for.values())
    views = {"--bytes": as_bytes, "--html": html, "--compare": compare}
    alone = {"--merges": merges, "--vocab": vocab or is_searched, "--audit": audit}
    _check_flags(text=text, files=files, alone=alone, views=views)
    models = [model, *compare]
    if audit:
        _audit(model, as_json=as_json)
    elif is_searched:
        _search(model, {**search_for, "limit": limit}, as_json=as_json)
    elif vocab:
        _summary(model, as_json=as_json)
    elif _is_corpus(files, [name for name, on in {**views, "--merges": merges}.items() if on]):
        _count(files, models, as_json=as_json)
    else:
        page = {"html": html, "inputs": files, "overwrite": overwrite}
        show = _show_merges if merges else partial(_show_tokens, as_bytes=as_bytes, page=page)
        _texts(text, files, models, show=partial(show, as_json=as_json), is_page=html is not None)


def _check_flags(
    *, text: Sequence[str], files: Sequence[Path], alone: dict[str, Any], views: dict[str, Any]
) -> None:
    """Refuse flags that don't go together, all of them at once."""
    given = [name for name, value in alone.items() if value]
    shown = [name for name, value in views.items() if value]
    problems = []
    if text and files:
        problems.append(
            "TEXT and --file are both given. Give one of them; --file takes one path and may be "
            "repeated."
        )
    if len(given) > 1:
        problems.append(f"{' and '.join(given)} answer different questions. Give one of them.")
    if given and shown:
        problems.append(f"{given[0]} doesn't go with {', '.join(shown)}. Leave that out.")
    if given and given[0] != "--merges" and (text or files):
        problems.append(
            f"{given[0]} is about the tokenizer and takes no text. Leave TEXT and --file out."
        )
    if views["--bytes"] and views["--compare"]:
        problems.append("--bytes shows one tokenizer, --compare several. Give one of them.")
    if problems:
        raise ConfigError(*problems)


def _is_corpus(files: Sequence[Path], shown: Sequence[str]) -> bool:
    """Whether the files are too much to be shown token by token.

    Args:
        files: what --file names.
        shown: flags given that show tokens.
    """
    if not files:
        return False
    first = files[0]
    size = first.stat().st_size if is_file(first) else 0
    is_glob = has_magic(str(first)) and not (size or is_file(first) or is_folder(first))
    if len(files) > 1:
        what = f"These are {len(files):,} paths"
    elif is_folder(first) or is_glob or str(first).startswith("hub:"):
        what = f"{first} may hold many texts"
    elif size > _SHOWN_BYTES or _is_packed(first):
        what = f"{first} has {size:,} bytes"
    else:
        return False
    if flags := [name for name in shown if name != "--compare"]:
        raise ConfigError(
            f"{what}; {flags[0]} takes one file of up to {_SHOWN_BYTES:,} bytes. Give one, or "
            f"leave {flags[0]} out: then the tokens are counted."
        )
    return True


def _is_packed(path: Path) -> bool:
    """Whether a file's size says little of its text: it is compressed, or no text."""
    from gptft.documents.formats.registry import format_of
    from gptft.text.streams import COMPRESSED_SUFFIXES

    kind = format_of(path)
    is_packed = path.suffix.lower() in COMPRESSED_SUFFIXES or kind.is_binary
    return is_packed and kind.count_left_out is None


def _audit(model: str, *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.audit_view import audit_view

    found = api.audit_tokenizer(model)
    print_result(found, audit_view, as_json=as_json)
    if found.has_faults:
        raise typer.Exit(1)


def _search(model: str, search_for: dict[str, Any], *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.vocabulary_view import search_view

    found = api.search_vocabulary(api.load_tokenizer(model), **search_for)
    print_result(found, search_view, as_json=as_json)


def _summary(model: str, *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.vocabulary_view import summary_view

    summary = api.summarize_vocabulary(api.load_tokenizer(model))
    print_result(summary, summary_view, as_json=as_json)


def _count(files: Sequence[Path], models: Sequence[str], *, as_json: bool) -> None:
    """Count the tokens of files, by each tokenizer."""
    from gptft import api

    gc.enable()  # this takes long
    from gptft.inspection.counts_view import render_counts

    tokenizers = [api.load_tokenizer(name) for name in models]  # a wrong name is told first
    paths = [str(path) for path in files]
    counts = []
    for tokenizer in tokenizers:
        with progress_bar() as progress:
            counts.append(api.count_tokens(paths, tokenizer, progress=progress, notify=notice))
    if as_json:
        _print_json(counts)
        return
    for name, counted in zip(models, counts, strict=True):
        result(*[name] * (len(models) > 1), render_counts(counted))


def _texts(
    words: Sequence[str],
    files: Sequence[Path],
    models: Sequence[str],
    *,
    show: Callable[[Sequence["TextTokenizer"], str], None],
    is_page: bool,
) -> None:
    """Show the one text that is given, or each line a person types."""
    from gptft import api

    is_typed = not (words or files) and sys.stdin is not None and sys.stdin.isatty()
    if is_typed and is_page:
        raise ConfigError("--html needs the text at once: give TEXT or --file.")
    file, example = files[0] if files else None, "gptft tokenize Мороз"
    content = None if is_typed else text_argument(words, file, example=example)
    tokenizers = [api.load_tokenizer(name) for name in models]
    if content is None:
        _converse(partial(show, tokenizers), models)
    else:
        show(tokenizers, content)


def _converse(show: Callable[[str], None], models: Sequence[str]) -> None:
    """Show each line that is typed, until an empty one or the end of input."""
    names = ", ".join(models)
    choice = "" if len(models) > 1 else " (--model takes another)"
    notice(f"{names}{choice}. Type a text; an empty line ends.")
    while line := _ask():
        try:
            show(line)
        except (ConfigError, ModelError) as problem:
            error(*problem.problems)


def _ask() -> str:
    """A line from a person, who sees the prompt even if the results go elsewhere."""
    if sys.stdout.isatty():
        import readline  # noqa: F401  # lines can be edited and called back

        try:
            return input("> ")
        except EOFError:
            sys.stdout.write("\n")
            return ""
    sys.stderr.write("> ")
    sys.stderr.flush()
    return sys.stdin.readline().removesuffix("\n")


def _show_tokens(
    tokenizers: Sequence["TextTokenizer"],
    text: str,
    *,
    as_bytes: bool,
    page: dict[str, Any],
    as_json: bool,
) -> None:
    from gptft import api
    from gptft.inspection.cost_view import comparison_view, cost_view
    from gptft.inspection.token_view import byte_view, text_view

    measured = api.tokenize(text, tokenizers, **page, notify=notice)
    if as_json:
        _print_json(measured)
    elif len(measured) > 1:
        result(comparison_view(measured))
    else:
        (one,) = measured
        view = byte_view if as_bytes else text_view
        result(view(one), *[""] * bool(one.tokens), cost_view(one))


def _print_json(by_tokenizer: Sequence[Any]) -> None:
    result_json({"comparison": by_tokenizer} if len(by_tokenizer) > 1 else by_tokenizer[0])


def _show_merges(tokenizers: Sequence["TextTokenizer"], text: str, *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.merges_view import merges_view

    print_result(api.trace_merges(tokenizers[0], text), merges_view, as_json=as_json)
