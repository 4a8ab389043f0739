"""`gptft novelty`: a run and texts its model wrote -> how much of them is copied."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gptft.cli.options import AsJson
from gptft.terminal.text import escaped, quoted
from gptft.terminal.words import count, percent

if TYPE_CHECKING:
    from gptft.analysis.memorization import Memorization, MemorizationSummary, TextMemorization
    from gptft.analysis.training_text import WrittenText

_QUOTED = 400  # characters of a span that are shown; the middle of a longer one is left out
_PROMPT = 40  # characters of a prompt


def novelty(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    files: Annotated[
        list[str],
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Texts: what generate --json prints, a text a line as JSON, or one plain text; "
            "- is standard input; repeatable. Without it, the run's own last samples.",
        ),
    ] = [],
    as_json: AsJson = False,
) -> None:
    """Say how much of what a RUN's model writes is copied from its training text.

    For each text: the longest span copied word for word, where it is in the training text, and the
    share of its runs of 4, 8 and 16 tokens that are there. Short runs occur in any text: compare
    with what held-out text shares with the training text, if the run has some (data.validation).
    """
    from gptft.console import notice, result_json
    from gptft.errors import ConfigError

    if not (run / "run.json").is_file():
        raise ConfigError(_not_a_run(run))
    texts = [text for name in files for text in _read_texts(name)] if files else _samples(run)

    from gptft.analysis.memorization import measure_memorization

    measured = measure_memorization(run, texts, notify=notice)
    if measured.why_no_files:
        notice(measured.why_no_files)
    if as_json:
        result_json(measured)
    else:
        _print(measured)


def _not_a_run(path: Path) -> str:
    above = path.resolve().parent
    if path.name == "model" and (above / "run.json").is_file():
        return f"{path} is the model of a run. Give the run: gptft novelty {path.parent}"
    return (
        f"{path} is not a run folder: there is no run.json in it. What was copied can only be said "
        "of a run, which knows its training text. Give the folder that `gptft train` wrote."
    )


def _samples(run: Path) -> list["WrittenText"]:
    """The last texts that the run itself wrote."""
    from gptft.analysis.training_text import WrittenText
    from gptft.console import notice
    from gptft.errors import ConfigError
    from gptft.runs.read import read_run

    rounds = read_run(run).rounds
    if not rounds:
        raise ConfigError(
            f"{run} has no samples to look at: samples.prompts was empty. Let its model write:\n"
            f'  gptft generate {run} -p "..." --json | gptft novelty {run} --file -'
        )
    notice(f"The texts are the run's own samples after step {rounds[-1].step:,}.")
    return [WrittenText(_whole(prompt), _whole(text)) for prompt, text in rounds[-1].texts]


def _read_texts(name: str) -> list["WrittenText"]:
    """The texts of a file, or of standard input for `-`: JSON, JSON lines, or one plain text."""
    from gptft.analysis.training_text import WrittenText
    from gptft.errors import ConfigError
    from gptft.text.encoding import read_stdin, read_text

    shown = "Standard input" if name == "-" else name
    content = read_stdin() if name == "-" else read_text(Path(name))
    if not content.strip():
        raise ConfigError(f"{shown} holds no text.")
    is_named_json = Path(name).suffix.lower() in (".json", ".jsonl", ".ndjson")
    start = content.lstrip()[:1000]
    is_json = start.startswith("{") and start[1:].lstrip().startswith('"')
    is_json = is_json or (start.startswith("[") and start[1:].lstrip().startswith(("{", '"', "]")))
    if not (is_named_json or is_json):
        return [WrittenText("", content)]
    rows = _parse(content, shown)
    if not rows:
        raise ConfigError(f"{shown} holds an empty list, no text.")
    return [_text_of(row, f"{shown}, text {number}") for number, row in enumerate(rows, start=1)]


def _parse(content: str, shown: str) -> list[Any]:
    """The rows of a JSON list, of one JSON value, or of JSON lines."""
    from gptft.errors import ConfigError

    try:
        value = json.loads(content)
        return value if isinstance(value, list) else [value]
    except RecursionError:
        raise ConfigError(f"{shown} is JSON nested too deeply to be read.") from None
    except ValueError as error:
        first = error
    rows = []
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                said = error if rows else first
                place = f":{number}" if rows else ""
                raise ConfigError(
                    f"{shown}{place} is not readable as JSON: {said}. Give what `gptft generate "
                    "--json` prints, a JSON object a line, or a plain text that doesn't begin like "
                    "one."
                ) from None
    return rows


def _text_of(row: Any, where: str) -> "WrittenText":
    """A string, or an object with continuation and perhaps prompt, or with text."""
    from gptft.analysis.training_text import WrittenText
    from gptft.errors import ConfigError

    if isinstance(row, str):
        return WrittenText("", _whole(row))
    fields = row if isinstance(row, dict) else {}
    prompt, text = fields.get("prompt") or "", fields.get("text")
    continuation = fields.get("continuation")
    if continuation is None and isinstance(text, str) and isinstance(prompt, str):
        is_after = text.startswith(prompt)
        continuation, prompt = text.removeprefix(prompt), prompt if is_after else ""
    if not (isinstance(continuation, str) and isinstance(prompt, str)):
        raise ConfigError(
            f"{where}: no text in it. It must be a string, or an object with the field "
            "continuation, such as `gptft generate --json` prints, or with the field text."
        )
    return WrittenText(_whole(prompt), _whole(continuation))


def _whole(text: str) -> str:
    """A text that UTF-8 can hold: JSON may spell half of a surrogate pair."""
    return text.encode("utf-8", errors="replace").decode()


def _print(measured: "Memorization") -> None:
    from gptft.console import notice, result

    for number, text in enumerate(measured.texts, start=1):
        result("\n".join(_block(number, text)) + "\n")
    result(f"{count(len(measured.texts), 'text')}: {_account(measured.summary)}")
    if measured.held_out is not None:
        result(f"held-out text: {_account(measured.held_out)}")
    if measured.held_out is None:
        notice(
            "The run held no text out to compare this with (data.validation). Short runs of tokens "
            "occur in any text: by themselves they don't show that a text was copied."
        )
    elif measured.held_out_duplicates:
        duplicates = count(measured.held_out_duplicates, "held-out document")
        notice(
            f"Also in the training split: {duplicates}. So held-out text shares more with it than "
            "new text would."
        )


def _block(number: int, text: "TextMemorization") -> list[str]:
    """The lines of one text."""
    copied, prompt = text.copied, text.text.prompt
    after = f" after {quoted(prompt, at_most=_PROMPT, keep='ends')}" if prompt else ""
    lines = [f"text {number:,}{after}: {count(text.num_tokens, 'token')}"]
    if not copied.longest or text.place is None:
        return [*lines, "  longest copy: none"]
    size = f"{count(copied.longest, 'token')}, {count(len(text.quote), 'character')}"
    quote = quoted(text.quote, at_most=_QUOTED, keep="ends")
    lines.append(f"  longest copy: {size}: {quote}")
    more = f", the first of {copied.num_places:,} places" if copied.num_places > 1 else ""
    lines.append(f"  it stands in: {escaped(str(text.place))}{more}")
    return [*lines, f"  found there:  {_shares(copied.shares)}"]


def _account(summary: "MemorizationSummary") -> str:
    typical = "" if summary.num_texts == 1 else f" (median {summary.median_longest:g})"
    return f"longest copy {count(summary.longest, 'token')}{typical}, {_shares(summary.shares)}"


def _shares(shares: dict[int, float | None]) -> str:
    return ", ".join(f"{n}-grams {percent(share, decimals=0)}" for n, share in shares.items())
