"""YAML 1.2 text, where 5e-5 is a number -> plain values, with the line and column of each key."""

import io
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, StreamMark
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gptft.errors import ConfigError
from gptft.inputs import near_names, read_input
from gptft.text.unicode import join_pairs, only_text, text_problem

KeyPath = tuple[str | int, ...]
Problem = tuple[tuple[int, int], str]  # line and column, message
YAML_SUFFIXES = (".yaml", ".yml")
_COMMENT = re.compile(r"(^|\s)#")
_LAST = (10**9, 0)  # where a problem without a line is sorted
# A config has four levels, some hundreds of values and some kilobytes. Much more is an alias that
# holds itself, aliases of aliases, or no config at all.
_MAX_DEPTH = 32
_MAX_NODES = 100_000
_MAX_CHARACTERS = 4_000_000


@dataclass
class Source:
    """A config as written.

    Attributes:
        name: where it was read, for messages.
        values: the plain values, a mapping at the top.
        marks: line and column, from 1, of every key and list item.
        problems: what is wrong with it as YAML: line and column, and a message.
        overridden: settings that came from --set or a flag and so have no line, and from which.
        num_nodes: names and values, each as often as an alias stands for it.
        num_characters: the same of the characters of all texts.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: dict[KeyPath, str] = field(default_factory=dict)
    num_nodes: int = 0
    num_characters: int = 0

    def level(self, path: KeyPath) -> int:
        """Who gave a setting its value: 0 nobody or a recipe, 1 the file, 2 --set."""
        if any(path[: len(keys)] == keys[: len(path)] for keys in self.overridden):
            return 2
        return 1 if path in self.marks else 0

    def problem(self, path: KeyPath, message: str) -> Problem:
        """What is wrong with the setting `path`, with its place before it.

        The place is `file:line:column` of the setting or of the nearest section above it, --set or
        a flag.
        """
        for keys, place in reversed(self.overridden.items()):
            if path[: len(keys)] == keys:
                return _LAST, f"{place}  {message}"
        above = (self.marks.get(path[:end]) for end in range(len(path), 0, -1))
        if (mark := next(filter(None, above), None)) is None:
            return _LAST, f"{self.name}  {message}"
        return mark, f"{self.name}:{mark[0]}:{mark[1]}  {message}"


def read_yaml(path: Path) -> Source:
    """Read one YAML file.

    Raises:
        ConfigError: it can't be read or isn't YAML; with file:line:column.
    """
    try:
        text = read_input(path, at_most=_MAX_CHARACTERS).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a config: not UTF-8 text, byte 0x{error.object[error.start]:02x} at "
            f"offset {error.start:,}. A config is a YAML file."
        ) from None
    except FileNotFoundError:
        what = "config file" if path.suffix.lower() in YAML_SUFFIXES else "file or folder"
        raise ConfigError(
            f"{path}: no such {what} (looked from {Path.cwd()}).{near_names(path)}"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Name a YAML config file.") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from None
    return parse_yaml(text, name=str(path))


def parse_yaml(text: str, *, name: str) -> Source:
    r"""Parse YAML text; see `read_yaml`.

    >>> parse_yaml("training:\n  learning_rate: 5e-5", name="a.yaml").values
    {'training': {'learning_rate': 5e-05}}
    """
    source = Source(name)
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Composer = _Composer
        node = yaml.compose(io.StringIO(text))
        if isinstance(node, MappingNode):
            source.values = _plain(node, (), source)
            return source
    except MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(name, error)) from None
    except ConfigError:
        raise
    except Exception as error:  # ruamel raises bare errors for forbidden characters
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{name} is not YAML: {reason}.") from None
    if node is None:
        return source
    raise ConfigError(
        f"{_place(name, node.start_mark)}  a config is sections of `key: value`, and this is not."
    )


def parse_value(text: str, *, name: str = "--set") -> Any:
    """Read one value as YAML reads it: 5e-5 a number, true a boolean, [a, b] a list.

    A boolean may have any capitals. What YAML can't read is taken as the text it is, and so is a
    text that YAML would cut off at a comment.

    >>> parse_value("5e-5"), parse_value("runs/a"), parse_value("Мороз: и"), parse_value("fALSE")
    (5e-05, 'runs/a', 'Мороз: и', False)

    Raises:
        ConfigError: it isn't Unicode, or names a key twice.
    """
    if problem := text_problem(text):
        raise ConfigError(f"{name}: {text!r} is not Unicode: it {problem}. Write it in UTF-8.")
    if (word := text.strip().lower()) in ("true", "false"):
        return word == "true"
    as_text = Source(name, {"value": text})
    try:
        source = parse_yaml(f"value: {text}", name=name)
    except ConfigError:
        source = as_text
    is_plain = text.strip()[:1] not in ("'", '"', "[", "{")
    if len(source.values) > 1 or (is_plain and _COMMENT.search(text)):  # a line looks like a key
        source = as_text
    if source.problems:
        raise ConfigError(*(message for _, message in source.problems))
    return source.values["value"]


def dump_yaml(values: dict[str, Any]) -> str:
    r"""Plain values as YAML, keys in their order, Cyrillic readable, 1e-05 still a number.

    >>> dump_yaml({"model": {"name": "pico"}})
    'model:\n  name: pico\n'
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def _place(name: str, mark: StreamMark) -> str:
    """Where `mark`, which counts from 0, is for a person."""
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _syntax_problem(name: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = _place(name, mark) if mark else name
    if isinstance(error, _TooMuchError):
        return f"{where}  more than {error.problem}. A config has four levels, some hundred values."
    reason = error.problem or error.context or "unreadable"
    return f"{where}  not YAML: {reason}. Check the indentation, colons and quotes there."


class _TooMuchError(MarkedYAMLError):
    """YAML that is right, and more of it than any config holds."""


class _Composer(Composer):
    """Gives up where there is too much, before all of it is read."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # YAML 1.2 allows them, and a warning would be printed
        self.num_nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value with all that it holds."""
        self.num_nodes += 1
        if self.num_nodes > _MAX_NODES or self.depth > _MAX_DEPTH:
            limit = f"{_MAX_DEPTH} levels" if self.depth > _MAX_DEPTH else f"{_MAX_NODES:,} values"
            raise _TooMuchError(problem=limit, problem_mark=self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def _plain(node: Node, path: KeyPath, source: Source) -> Any:
    if len(path) > _MAX_DEPTH:
        raise ConfigError(source.problem(path, f"nested more than {_MAX_DEPTH} deep.")[1])
    _count_node(source)
    if isinstance(node, MappingNode):
        return _mapping(node, path, source)
    if isinstance(node, SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            _mark(item, (*path, index), source)
            items.append(_plain(item, (*path, index), source))
        return items
    value = _scalar(node)
    return _text(value, path, source) if isinstance(value, str) else value


def _text(value: str, path: KeyPath, source: Source) -> str:
    """A text with its surrogate pairs joined; what is no text is a problem of the setting."""
    source.num_characters += len(value)
    text = join_pairs(value)
    if problem := text_problem(text):
        name = only_text(".".join(map(str, path)))
        source.problems.append(
            source.problem(path, f"{name} {problem}, which is no text. Write another escape.")
        )
    return only_text(text)  # for the checks that follow


def _mapping(node: MappingNode, path: KeyPath, source: Source) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            place = _place(source.name, key_node.start_mark)
            raise ConfigError(f"{place}  a setting's name must be text, not a list or a mapping.")
        _count_node(source)
        key = only_text(join_pairs(key_node.value))
        here = (*path, key)
        if key in values:
            mark = key_node.start_mark
            message = (
                f"{_place(source.name, mark)}  {'.'.join(map(str, here))} is set twice, first in "
                f"line {source.marks[here][0]}. Keep one of them."
            )
            source.problems.append(((mark.line + 1, mark.column + 1), message))
            continue
        _mark(key_node, here, source)
        _text(key_node.value, here, source)
        values[key] = _plain(value_node, here, source)
    return values


def _count_node(source: Source) -> None:
    source.num_nodes += 1
    for number, limit, what in (
        (source.num_nodes, _MAX_NODES, "values"),
        (source.num_characters, _MAX_CHARACTERS, "characters"),
    ):
        if number > limit:
            raise ConfigError(
                f"{source.name} has more than {limit:,} {what} where its aliases (*name) are "
                "written out. Use fewer of them."
            )


def _mark(node: Node, path: KeyPath, source: Source) -> None:
    source.marks[path] = (node.start_mark.line + 1, node.start_mark.column + 1)


def _scalar(node: Node) -> Any:
    """The value of a scalar under YAML 1.2's core schema; a date stays the text it is."""
    try:
        value = _constructor().construct_non_recursive_object(node)
    except (ValueError, KeyError):  # a 13th month; a number longer than Python reads; !!bool 7
        return node.value
    return value if isinstance(value, str | int | float | bool | None) else node.value


@cache
def _constructor() -> Any:
    """What makes values of scalars; it keeps nothing of them, and takes a while to be made."""
    return YAML(typ="safe", pure=True).constructor
