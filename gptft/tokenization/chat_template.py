"""A chat template, which is a program of a stranger's, and messages -> the text, within bounds.

It is rendered as transformers renders it, in Jinja's sandbox, where it reaches neither files nor
Python. But that sandbox lets a template run for years and fill the memory. Here each of its steps
and every value that it makes is counted: whatever an operation is given is bounded, those that
enlarge are weighed before they are done, and loops and calls have a number and a time.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, wraps
from itertools import chain
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

_LONGEST_SOURCE = 200_000  # characters; the longest in use have some 20,000
_LONGEST = 1_000_000  # characters and items of a value, beside ten times what messages hold
_ITEM = 10  # characters that an item weighs as much as
_SECONDS = 3.0
_STEPS = 500_000
_LARGEST = 10_000  # a width, a count, the bits of a number, what a slow filter is given
_SLOW = frozenset({"pprint", "striptags", "sum", "urlize", "wordwrap", "xmlattr"})
_STRIPPING = frozenset({"lstrip", "rstrip", "strip", "trim"})
_FORBIDDEN = frozenset({"maketrans", "translate"})
_WIDTH = re.compile(r"\d{5,}")


class TooMuch(SecurityError):
    """A template does more than any that is meant would."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it {what}, more than a chat template may")


class _Budget:
    """What a rendering has used, and may."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, size: int) -> None:
        self.steps, self.until, self.given = 0, time.monotonic() + _SECONDS, size
        self.longest = _LONGEST + 10 * size

    def step(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise TooMuch(f"takes over {_STEPS:,} steps")
        if time.monotonic() > self.until:
            raise TooMuch(f"takes over {_SECONDS:g} s")

    def grow(self, size: int) -> None:
        if size > self.longest:
            raise TooMuch(f"makes a text or a list of over {self.longest:,} characters")

    def weigh(self, *values: Any) -> int:
        """The characters and items of values, those within others as often as they would show.

        An item weighs as much as ten characters.
        """
        total, waiting = 0, [*values]
        while waiting:
            value = waiting.pop()
            total += _ITEM
            if isinstance(value, str | bytes):
                total += len(value)
            elif isinstance(value, int):
                if value.bit_length() > _LARGEST:
                    raise TooMuch("computes a number of over 10,000 bits")
            elif isinstance(value, Mapping):
                self.grow(total + _ITEM * len(value))
                waiting += chain(value.keys(), value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                self.grow(total + _ITEM * len(value))
                waiting += value
            elif isinstance(value, Namespace):
                waiting.append(dict(value._Namespace__attrs))
            self.grow(total)
        return total


def render_chat(
    source: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    special_tokens: Mapping[str, Any],
    now: datetime | None = None,
    marks: tuple[str, str] = ("", ""),
) -> str:
    """The text that a chat template makes of messages, which is transformers'.

    Args:
        source: the template, in Jinja, with the additions that transformers documents.
        messages: each with its role and content.
        add_generation_prompt: whether the text ends where an answer begins.
        special_tokens: text by name, as `bos_token`; templates may name them.
        now: what the template takes the time for, the time it is unless given.
        marks: put before and after what stands in each `generation` block.

    Raises:
        Exception: the template raises it, being a program; TooMuch where it has no end.
    """
    if len(source) > _LONGEST_SOURCE:
        raise TooMuch(f"has over {_LONGEST_SOURCE:,} characters")
    environment, template = _compiled(source)
    budget: _Budget = environment.budget
    environment.marks = marks
    budget.begin(sum(len(text) for message in messages for text in message.values()))
    environment.globals["strftime_now"] = lambda form: (now or datetime.now()).strftime(form)
    given = {"tools": None, "documents": None, **special_tokens}
    text: str = template.render(
        messages=[dict(message) for message in messages],
        add_generation_prompt=add_generation_prompt,
        **given,
    )
    return text


@lru_cache(maxsize=8)
def _compiled(source: str) -> tuple[Any, Any]:
    environment = _Sandbox()
    return environment, environment.from_string(source)


class _GenerationBlock(Extension):
    """What is in it stays, between marks; transformers notes where it was."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    def marked(self, caller: Callable[[], str]) -> str:
        """What a template calls in place of the block."""
        before, after = self.environment.marks  # type: ignore[attr-defined]
        return f"{before}{caller()}{after}"


class _Counting(NodeTransformer):
    """Has each loop counted, and every list, mapping and joined text weighed."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _through("_counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        node.nodes = [_through("_weighed", one) for one in node.nodes]
        return _through("_weighed", node)

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        self.generic_visit(node)
        return _through("_weighed", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        return _through("_weighed", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        return _through("_weighed", node) if node.ctx == "load" else node


def _through(name: str, node: Any) -> nodes.Filter:
    made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    made.environment = node.environment
    return made


class _Sandbox(ImmutableSandboxedEnvironment):
    """transformers' sandbox: its settings, its functions, its `generation` block; and a budget."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        extensions: list[Any] = [_GenerationBlock, loopcontrols]
        self.budget, self.marks = _Budget(), ("", "")
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=self._shown
        )
        self.filters["tojson"] = _to_json
        self.filters = {name: _guarded(name, one, self) for name, one in self.filters.items()}
        self.filters |= {"_counted": self._counted, "_weighed": self._weighed}
        del self.globals["lipsum"]  # as many random words as one asks for
        self.globals["raise_exception"] = _raise

    def _generate(self, source: Any, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Counting().visit(source), *args, **kwargs)

    def _shown(self, value: Any) -> Any:
        self.budget.weigh(value)
        return value

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.budget.step()
            yield value

    def _weighed(self, value: Any) -> Any:
        self.budget.weigh(value)
        return value

    def concat(self, pieces: Iterable[str]) -> str:
        kept, size = [], 0
        for piece in pieces:
            size += len(piece)
            self.budget.grow(size)
            kept.append(piece)
        return "".join(kept)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.budget.step()
        weight = self.budget.weigh(left, right)
        if operator == "**":
            is_whole = isinstance(left, int) and isinstance(right, int)
            if is_whole and left.bit_length() * right > _LARGEST:
                raise TooMuch("computes a number of over 10,000 bits")
        elif operator == "*":
            times = next((n for n in (left, right) if isinstance(n, int)), 1)
            if not (isinstance(left, int) and isinstance(right, int)):
                self.budget.grow(weight * times)
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, right)
        result = super().call_binop(context, operator, left, right)
        self.budget.weigh(result)
        return result

    def _check_format(self, form: str, *given: Any) -> None:
        """Refuse a form that repeats what it is given, or has it fill a width, without an end."""
        if _WIDTH.search(form):
            raise TooMuch("fills a text up to a width of over 9,999")
        numbers = [n for n in chain(*(g if isinstance(g, tuple) else (g,) for g in given))
                   if isinstance(n, int)]  # fmt: skip
        if "*" in form or "{" in form:
            _check_numbers(numbers)
        fields = form.count("%") + form.count("{")
        self.budget.grow(len(form) + fields * self.budget.weigh(*given))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = __self.budget
        budget.step()
        budget.weigh(*args, *kwargs.values())
        own = getattr(__obj, "__wrapped__", __obj)  # which the sandbox puts around `format`
        name, owner = getattr(own, "__name__", ""), getattr(own, "__self__", None)
        if isinstance(owner, str | bytes):
            if name == "join" and args:
                args = ([*args[0]], *args[1:])
            __self.check_growth(name, (owner, *args, *kwargs.values()))
        elif name in _FORBIDDEN:
            raise TooMuch(f"calls {name}")
        result = super().call(__context, __obj, *args, **kwargs)
        budget.weigh(result)
        return result

    def check_growth(self, name: str, values: Sequence[Any]) -> None:
        """Refuse a method or filter of text that would make more than it may of what it is given.

        Args:
            name: of either.
            values: the text or what else it is applied to, and its arguments.
        """
        subject, *others = values
        text = subject if isinstance(subject, str) else ""
        if name in _FORBIDDEN:
            raise TooMuch(f"calls {name}")
        if name in ("format", "format_map"):
            self._check_format(text, *others)
            return
        _check_numbers(others)
        weight = self.budget.weigh(*others)
        if name in _SLOW and self.budget.weigh(*values) > _LARGEST + self.budget.given:
            raise TooMuch(f"applies {name} to over {_LARGEST:,} characters")
        if name in _STRIPPING and weight > 1_000:
            raise TooMuch(f"lets {name} look for over 1,000 characters")
        width = max((n for n in others if isinstance(n, int)), default=8)
        growth = 0
        if name == "replace" and len(others) > 1:
            growth = len(text) + text.count(str(others[0])) * len(str(others[1]))
        elif name == "join" and isinstance(subject, str | bytes):
            growth = weight + len(others[0] if others else ()) * len(subject)
        elif name == "join":
            growth = self.budget.weigh(subject) + len(subject) * weight
        elif name == "indent":
            growth = (text.count("\n") + 1) * (width + weight)
        elif name == "expandtabs":
            growth = text.count("\t") * width
        elif name in ("batch", "slice"):
            growth = width * weight
        elif name == "tojson":
            growth = self.budget.weigh(subject) * (width + 2)
        self.budget.grow(growth)


def _check_numbers(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > _LARGEST for value in values):
        raise TooMuch(f"asks for a width or a number of over {_LARGEST:,}")


def _guarded(name: str, own: Callable[..., Any], sandbox: _Sandbox) -> Callable[..., Any]:
    """A filter that counts as a step, and is given no more than it can work on."""
    has_context = hasattr(own, "jinja_pass_arg")

    @wraps(own)  # with the mark that it is given Jinja's own context
    def filtered(*args: Any, **kwargs: Any) -> Any:
        sandbox.budget.step()
        before, values = (args[:1], args[1:]) if has_context else ((), args)
        if name in ("join", "sum") and values and not isinstance(values[0], str):
            values = ([*values[0]], *values[1:])
        sandbox.budget.weigh(*values, *kwargs.values())
        sandbox.check_growth(name, (*values, *kwargs.values()))
        result = own(*before, *values, **kwargs)
        sandbox.budget.weigh(result)
        return result

    return filtered


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
