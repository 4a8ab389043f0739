"""`gptft tokenize`: what a tokenizer makes of a text, of a corpus, and what it is itself."""

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gptft.cli.options import AsJson, print_result, progress_bar, text_argument

if TYPE_CHECKING:
    from gptft.inspection.cost import MeasuredText

_SHOWN_BYTES = 100_000  # of a file; a longer one is counted, not shown

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="Words, joined with a space.", show_default=False),
]
Files = Annotated[
    list[Path],
    typer.Option(
        "--file",
        "-f",
        metavar="PATH",
        help="A text file, shown token by token up to 100 kB. A larger one, several (repeat -f), a "
        "folder, a glob or hub:NAME are counted as a corpus.",
    ),
]
ModelName = Annotated[
    str, typer.Option("--model", metavar="NAME", help="pico, a folder, a run or a hub id.")
]
Compared = Annotated[
    list[str],
    typer.Option("--compare", metavar="MODEL", help="Compare this one with --model's; repeatable."),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the tokens as a page, too."),
]
AsBytes = Annotated[
    bool, typer.Option("--bytes", help="A line a token: bytes, offsets in bytes and characters.")
]
Merges = Annotated[
    bool, typer.Option("--merges", help="How each word of TEXT is built, merge by merge.")
]
Vocabulary = Annotated[bool, typer.Option("--vocab", help="What the vocabulary holds.")]
Search = Annotated[
    str | None, typer.Option("--search", metavar="TEXT", help="Entries of it that hold TEXT.")
]
TokenId = Annotated[int | None, typer.Option("--id", metavar="N", help="Its entry N.")]
Regex = Annotated[
    str | None, typer.Option("--regex", metavar="RE", help="Entries of it that RE matches.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Entries shown at most.")]
Audit = Annotated[
    bool,
    typer.Option("--audit", help="Look for faults of the tokenizer; exit code 1 if there are any."),
]


def tokenize(
    text: Words = None,
    files: Files = [],
    model: ModelName = "pico",
    compare: Compared = [],
    as_bytes: AsBytes = False,
    html: Html = None,
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
    looked_up = {"--search": search, "--id": token_id, "--regex": regex}
    asked = [name for name, value in looked_up.items() if value is not None]
    views = {"--bytes": as_bytes, "--html": html, "--compare": compare}
    _check_flags(
        text=text,
        files=files,
        alone={"--merges": merges, "--vocab": vocab or asked, "--audit": audit},
        views=views,
    )
    if audit:
        _audit(model, as_json=as_json)
    elif vocab or asked:
        search_for = {"text": search, "token_id": token_id, "regex": regex, "limit": limit}
        _vocabulary(model, search_for if asked else None, as_json=as_json)
    elif _is_corpus(files, [name for name, on in {**views, "--merges": merges}.items() if on]):
        _count(files, [model, *compare], as_json=as_json)
    else:
        _texts(
            text or [],
            files,
            [model, *compare],
            show=_show_merges if merges else _show_bytes if as_bytes else _show_tokens,
            html=html,
            as_json=as_json,
        )


def _check_flags(
    *, text: Words, files: Files, alone: dict[str, Any], views: dict[str, Any]
) -> None:
    """Refuse flags that don't go together, all of them at once."""
    from gptft.errors import ConfigError

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
    from gptft.errors import ConfigError

    if not files:
        return False
    several = len(files) > 1 or files[0].is_dir() or str(files[0]).startswith("hub:")
    if not several and (files[0].exists() or not {*"*?["} & {*str(files[0])}):
        size = files[0].stat().st_size if files[0].is_file() else 0
        if size <= _SHOWN_BYTES and not _is_packed(files[0]):
            return False
        what = f"{files[0]} has {size:,} bytes"
    else:
        many = f"These are {len(files):,} paths"
        what = many if len(files) > 1 else f"{files[0]} may hold many texts"
    flags = [name for name in shown if name != "--compare"]
    if flags:
        raise ConfigError(
            f"{what}; {flags[0]} takes one file of up to {_SHOWN_BYTES:,} bytes. Give one, or "
            f"leave {flags[0]} out: then the tokens are counted."
        )
    return True


def _is_packed(path: Path) -> bool:
    """Whether a file's size says little of its text: it is compressed, or no text."""
    from gptft.documents.formats.registry import format_of
    from gptft.text.streams import COMPRESSED_SUFFIXES

    return path.suffix.lower() in COMPRESSED_SUFFIXES or format_of(path).is_binary


def _audit(model: str, *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.audit_view import audit_view

    found = api.audit_tokenizer(model)
    print_result(found, audit_view, as_json=as_json)
    if found.has_faults:
        raise typer.Exit(1)


def _vocabulary(model: str, search_for: dict[str, Any] | None, *, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.vocabulary_view import search_view, summary_view

    tokenizer = api.load_tokenizer(model)
    if search_for is None:
        print_result(api.summarize_vocabulary(tokenizer), summary_view, as_json=as_json)
    else:
        print_result(api.search_vocabulary(tokenizer, **search_for), search_view, as_json=as_json)


def _count(files: Sequence[Path], models: Sequence[str], *, as_json: bool) -> None:
    """Count the tokens of files, by each tokenizer."""
    gc.enable()  # this takes long
    from gptft import api
    from gptft.console import notice, result, result_json
    from gptft.inspection.counts_view import render_counts

    tokenizers = [api.load_tokenizer(name) for name in models]  # a wrong name is told first
    paths = [str(path) for path in files]
    counts = []
    for tokenizer in tokenizers:
        with progress_bar() as progress:
            counts.append(api.count_tokens(paths, tokenizer, progress=progress, notify=notice))
    if as_json:
        result_json({"comparison": counts} if len(counts) > 1 else counts[0])
        return
    for name, count in zip(models, counts, strict=True):
        if len(models) > 1:
            result(name)
        result(render_counts(count))


def _texts(
    words: Sequence[str],
    files: Sequence[Path],
    models: Sequence[str],
    *,
    show: Callable[..., None],
    html: Path | None,
    as_json: bool,
) -> None:
    """Show the one text that is given, or each line a person types."""
    from gptft import api
    from gptft.errors import ConfigError

    is_typed = not (words or files) and sys.stdin is not None and sys.stdin.isatty()
    if is_typed and html:
        raise ConfigError("--html needs the text at once: give TEXT or --file.")
    example = "gptft tokenize Мороз"
    file = files[0] if files else None
    content = None if is_typed else text_argument(words, file, example=example)
    tokenizers = [api.load_tokenizer(name) for name in models]
    if content is None:
        _converse(lambda line: show(tokenizers, line, html=None, as_json=as_json), models)
    else:
        show(tokenizers, content, html=html, as_json=as_json)


def _converse(show: Callable[[str], None], models: Sequence[str]) -> None:
    """Show each line that is typed, until an empty one or the end of input."""
    import signal

    from gptft.console import error, notice
    from gptft.errors import ConfigError, Interrupted

    names = ", ".join(models)
    choice = "" if len(models) > 1 else " (--model takes another)"
    notice(f"{names}{choice}. Type a text; an empty line ends.")
    try:
        while line := _ask():
            try:
                show(line)
            except ConfigError as problem:
                error(str(problem))
    except KeyboardInterrupt:
        raise Interrupted("Stopped.", signum=signal.SIGINT) from None


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


def _show_tokens(tokenizers: Sequence[Any], text: str, *, html: Path | None, as_json: bool) -> None:
    from gptft import api
    from gptft.console import notice, result, result_json
    from gptft.inspection.cost_view import comparison_view
    from gptft.inspection.token_view import text_view

    measured = api.tokenize(text, tokenizers, html=html, notify=notice)
    if len(measured) == 1:
        _show_one(measured[0], text_view, as_json=as_json)
    elif as_json:
        result_json({"comparison": measured})
    else:
        result(comparison_view(measured))


def _show_bytes(tokenizers: Sequence[Any], text: str, *, html: Path | None, as_json: bool) -> None:
    from gptft import api
    from gptft.console import notice
    from gptft.inspection.token_view import byte_view

    (measured,) = api.tokenize(text, tokenizers, html=html, notify=notice)
    _show_one(measured, byte_view, as_json=as_json)


def _show_one(one: "MeasuredText", view: Callable[..., Any], *, as_json: bool) -> None:
    from gptft.console import result, result_json
    from gptft.inspection.cost_view import cost_view

    if as_json:
        result_json(one)
        return
    result(view(one))
    if one.tokens:
        result("")
    result(cost_view(one))


def _show_merges(tokenizers: Sequence[Any], text: str, *, html: Path | None, as_json: bool) -> None:
    from gptft import api
    from gptft.inspection.merges_view import merges_view

    print_result(api.trace_merges(tokenizers[0], text), merges_view, as_json=as_json)
