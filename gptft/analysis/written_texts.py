"""A file, standard input or a run's samples -> the texts of a model that are to be looked at."""

import json
from pathlib import Path
from typing import Any

from gptft.analysis.training_text import WrittenText
from gptft.documents.whole_text import read_whole_text
from gptft.errors import ConfigError
from gptft.runs.read import read_run
from gptft.runs.recital import recital_of
from gptft.terminal.commands import command_line, path_word
from gptft.text.encoding import read_stdin


def last_samples(run: Path) -> tuple[int, list[WrittenText]]:
    """The last texts that a run itself wrote, and the step of the model that did.

    Those of its prompts, or what it recited where it had none.

    Raises:
        ConfigError: it wrote none.
        RunError: the run can't be read.
    """
    found = read_run(run)
    rounds, recital = found.rounds, recital_of(found.facts)
    if rounds:
        step, pairs = found.sample_step(rounds[-1].step), rounds[-1].texts
    elif recital is not None:
        step = found.model_step or 0
        pairs = tuple((one.prompt, one.after) for one in recital.texts)
    else:
        at = path_word(run)
        raise ConfigError(
            f"{run} has no samples to look at: samples.prompts was empty. Let its model write:\n"
            f'  {command_line("generate", at)} -p "..." --json | '
            f"{command_line('novelty', at, '--file', '-')}"
        )
    return step, [WrittenText(utf8_text(prompt), utf8_text(text)) for prompt, text in pairs]


def read_texts(name: str) -> list[WrittenText]:
    """The texts of a file, or of standard input for `-`: JSON, JSON lines, or one plain text.

    Raises:
        ConfigError: there is none, or it isn't what `gptft generate --json` prints.
        DataError: the file can't be read.
    """
    shown = "Standard input" if name == "-" else name
    content = read_stdin() if name == "-" else read_whole_text(Path(name))
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


def _text_of(row: Any, where: str) -> WrittenText:
    """A string, or an object with continuation and perhaps prompt, or with text."""
    if isinstance(row, str):
        return WrittenText("", utf8_text(row))
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
    return WrittenText(utf8_text(prompt), utf8_text(continuation))


def utf8_text(text: str) -> str:
    """A text that UTF-8 can hold: JSON may spell half of a surrogate pair."""
    return text.encode("utf-8", errors="replace").decode()
