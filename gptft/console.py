"""Strings and rich renderables -> stdout for results, stderr for progress and notices.

On a terminal rich colours and wraps; off one lines are neither coloured nor wrapped, so that they
can be piped. Of several processes of one run only the first prints.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from gptft.files import JsonFields, as_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Notify = Callable[[str], None]  # is told in a sentence what a person should know, as `notice` is

_CONTROLS = "\0-\x08\x0b-\x1f\x7f-\x9f"  # all but tabs and line ends
# What has no width, ends a line or turns the direction of writing: a name can look like another.
_UNSEEN = "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_IN_DATA, _ON_TERMINAL = re.compile(f"[{_CONTROLS}]"), re.compile(f"[{_CONTROLS}{_UNSEEN}]")
_IN_MESSAGE = re.compile(f"[{_CONTROLS}{_UNSEEN}]|\n(?!  )")  # our own lines in one are indented
_LONGEST = 1_900  # characters of a message; a value may have millions
_MOST_PROBLEMS = 100
# What JSON lets through and a terminal obeys, or no stream takes: DEL and C1 controls, characters
# that turn the direction of writing, and halves of surrogate pairs.
_NOT_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN_WIDTH = 100_000  # off a terminal: never wrap


@cache
def stdout() -> "Console":
    """The console of results; one a process, made at first use."""
    return _console(stderr=False)


@cache
def stderr() -> "Console":
    """The console of progress, notices and errors; one a process, made at first use."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # here, so that the rooms that only take `Notify` stay light

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        highlight=False,
        force_terminal=stream.isatty(),
        width=None if stream.isatty() else _PLAIN_WIDTH,
        soft_wrap=not stream.isatty(),
    )


def result(*renderables: "RenderableType") -> None:
    """Print results to stdout; a plain string without markup, what a terminal obeys escaped."""
    from rich.text import Text

    console = stdout()
    for renderable in renderables if is_first_process() else ():
        if isinstance(renderable, str):
            pattern = _ON_TERMINAL if console.is_terminal else _IN_DATA
            renderable = Text(_escaped(renderable, pattern))
        console.print(renderable)


def notice(message: "RenderableType") -> None:
    """Print one notice to stderr; a plain string as `one_message` shows it."""
    if not is_first_process():
        return
    if isinstance(message, str):
        _print_message(one_message(message))
    else:
        stderr().print(message)


def silent(sentence: str) -> None:
    """Tell nobody: the `Notify` of one who doesn't want to know."""


class _Stages:
    """The one line on a terminal's stderr that names what is being done."""

    def __init__(self) -> None:
        self.are_shown = False
        self.doing: list[Any] = []  # from the outermost to the innermost
        self.line: Any = None
        self.told: Callable[[str | None], None] | None = None  # a view with a place of its own
        self.num_lines = 0  # of a view at the bottom of the terminal

    def show(self) -> None:
        """Name the innermost, or take the line away where nothing is done."""
        if self.told is not None:
            self.told(self.doing[-1] if self.doing else None)
        elif not self.doing:
            line, self.line = self.line, None
            if line is not None:
                line.stop()
        elif self.line is not None:
            self.line.update(_stage_text(self.doing[-1]))
        else:
            from rich.status import Status

            self.line = Status(_stage_text(self.doing[-1]), console=stderr(), spinner="line")
            self.line.start()


_stages = _Stages()


def _stage_text(doing: str) -> Any:
    from rich.text import Text

    return Text(f"{doing} …")


def show_stages() -> None:
    """Let `stage` show what is being done; the command line's affair, not a library's."""
    _stages.are_shown = True


def shows_stages() -> bool:
    """Whether `stage` shows anything: on a terminal, to a person."""
    return _stages.are_shown and is_first_process() and stderr().is_terminal


@contextmanager
def stage(doing: str) -> Iterator[Notify]:
    """Name what is being done, on a line that goes when it is done; a terminal's stderr only.

    Nothing may be printed to stdout meanwhile, nor another live display be shown. Stages may lie in
    one another: the innermost is named.

    Yields:
        what names it anew, where there is more to say of it.
    """
    if not shows_stages() and _stages.told is None:
        yield silent
        return

    def name_anew(doing: str) -> None:
        _stages.doing[place] = one_message(doing)
        _stages.show()

    place = len(_stages.doing)
    _stages.doing.append(one_message(doing))
    _stages.show()
    try:
        yield name_anew
    finally:
        _stages.doing.pop()
        _stages.show()


def show_stages_in(told: Callable[[str | None], None] | None) -> None:
    """Let a live view say what `stage` names: `told` hears of it, and None where that is over."""
    _stages.told = told


def take_lines(number: int) -> None:
    """Say how many lines a live view has at the bottom of the terminal; it draws itself again."""
    _stages.num_lines = number


def around_a_line() -> tuple[str, str]:
    """What to write to a terminal before and after a line, for it to stand above a live view.

    Beyond all buffers, where a lock may be held: the first line of the view is where the line goes,
    and the view, which counts its lines from the cursor, begins below it.
    """
    below = max(_stages.num_lines - 1, 0)
    return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * below, "\n" * (1 + below)


def loading_libraries() -> AbstractContextManager[object]:
    """The stage in which torch and transformers are imported: seconds, the first time a minute.

    transformers imports peft, which imports bitsandbytes, where they are installed. The latter says
    on a CPU at once that it could be faster, and for int8 at every layer of every step what it
    computes in (0.50).
    """
    import logging  # which commands that load nothing don't need

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return stage("Loading torch and transformers")


def error(*problems: str) -> None:
    """Print why the command ends, on stderr, as `one_message` shows each problem.

    Every process of a run is heard.
    """
    shown = [*map(one_message, problems[:_MOST_PROBLEMS])]
    if left := len(problems) - len(shown):
        shown.append(f"... and {left:,} more.")
    _print_message("error: " + "\n".join(shown))


def one_message(text: str) -> str:
    r"""A message that may quote anything, as any stream takes it and no terminal obeys it.

    What is misleading in a name is escaped, and the middle of what is too long left out.

    >>> print(one_message("a\x1b[2J\u202e\nerror:\n  gptft"))
    a\x1b[2J\u202e\nerror:
      gptft
    """
    return _shortened(_escaped(_shortened(text), _IN_MESSAGE))


def _shortened(text: str) -> str:
    left_out = len(text) - _LONGEST
    if left_out <= 0:
        return text
    start = _LONGEST * 2 // 3  # where and what; at the end is what to do
    return f"{text[:start]}[... {left_out:,} characters ...]{text[start + left_out :]}"


def result_json(value: Any) -> None:
    """Print `as_json(value)` to stdout, letters beyond ASCII readable, indented by two spaces.

    What a terminal would obey is escaped, and the values stay what they are. Items of a list are
    made, written and forgotten one by one.
    """
    if is_first_process():
        for part in chain(_json_parts(value), "\n"):
            sys.stdout.write(_NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", part))


def _json_parts(value: Any, indent: str = "\n") -> Iterator[str]:
    """What `json.dumps` makes of `as_json(value)`, each item of a list apart."""
    value = value.json_fields() if isinstance(value, JsonFields) else value
    if isinstance(value, Mapping) and value:
        before = "{"
        for name, item in value.items():
            yield f"{before}{indent}  {_json(str(name))}: "
            yield from _json_parts(item, f"{indent}  ")
            before = ","
        yield f"{indent}}}"
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        before = "["
        for item in value:
            yield f"{before}{indent}  {_json(item, f'{indent}  ')}"
            before = ","
        yield f"{indent}]"
    else:
        yield _json(value, indent)


def _json(value: Any, indent: str = "\n") -> str:
    text = json.dumps(as_json(value), ensure_ascii=False, indent=2)
    return text.replace("\n", indent)  # those within texts are escaped


def is_first_process() -> bool:
    """Whether this is the one process of a run that prints and writes for all."""
    return os.environ.get("RANK", "0") == "0"


def _print_message(message: str) -> None:
    from rich.text import Text

    for line in message.split("\n"):
        is_command = line.startswith("  ")  # which must stay in one line to be copied
        stderr().print(Text(line), soft_wrap=True if is_command else None)


def _escaped(text: str, pattern: re.Pattern[str]) -> str:
    text = text.encode("utf-8", errors="backslashreplace").decode()
    return pattern.sub(lambda match: ascii(match[0])[1:-1], text)  # [1:-1]: its quotes
