"""What a command was given (prompts, a file, standard input) -> a list of prompts."""

import json
from collections.abc import Sequence
from pathlib import Path

from gptft.errors import ConfigError
from gptft.inputs import parse_json
from gptft.text.encoding import read_stdin, read_text
from gptft.text.streams import content_suffix
from gptft.text.unicode import text_problem


def gather_prompts(prompts: Sequence[str], path: Path | None) -> list[str]:
    """The prompts of the command line, then those of a file, or else all of standard input.

    Args:
        prompts: given one by one; an empty one is a prompt, too.
        path: a text file with a prompt a line, or JSON Lines where its name ends in .jsonl, before
            .gz or .zst.

    Raises:
        ConfigError: there is none, or one is no text.
        DataError: a file can't be read, or it or standard input isn't text.
    """
    found = [*prompts, *(_read_file(path) if path is not None else [])]
    if not prompts and path is None:
        if not (content := read_stdin()):
            raise ConfigError('There is no prompt. Give one: -p "...", --file FILE, or pipe it in.')
        found = [content.removesuffix("\n").removesuffix("\r")]
    for prompt in found:
        if problem := text_problem(prompt):
            raise ConfigError(f"The prompt {prompt[:30]!r} is not UTF-8 text: it {problem}.")
    return found


def _read_file(path: Path) -> list[str]:
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    if content_suffix(path) == ".jsonl":
        numbered = enumerate(lines, start=1)
        prompts = [_json_prompt(line, f"{path}:{n}") for n, line in numbered if line.strip()]
    else:
        prompts = [line for line in lines if line]
    if not prompts:
        raise ConfigError(f"{path} holds no prompt: every line of it is empty.")
    return prompts


def _json_prompt(line: str, place: str) -> str:
    """The `prompt` of a line, or the line's text where it is no object."""
    try:
        value = parse_json(line)
    except ValueError as error:
        what = str(error)
        if isinstance(error, json.JSONDecodeError):  # its own line is 1, always
            what = f"{error.msg} at column {error.colno}"
        raise ConfigError(f"{place}: this line is no JSON: {what}.") from None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if isinstance(prompt, str):
        if problem := text_problem(prompt):
            raise ConfigError(f"{place}: the prompt is not UTF-8 text: it {problem}.")
        return prompt
    raise ConfigError(
        f'{place}: a line is {{"prompt": "..."}} or a text in quotes, not {line[:60]!r}.'
    )
