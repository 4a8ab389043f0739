"""A chat template and messages -> token ids, and which of them are the answers'.

What people say stays text: only the template writes control tokens, whatever a content holds. The
ids are those of transformers' `apply_chat_template`, but where a content has the text of a control
token in it: there they are the pieces of that text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tokenizers import Encoding, Tokenizer

from gptft.errors import ConfigError, DataError
from gptft.panics import no_panic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]  # of characters: where it begins, and where it ends

_HAS_MARKS = re.compile(r"\{%[-+]?\s*generation\b")


class Said(Protocol):
    """A message."""

    @property
    def role(self) -> str:
        """Who says it."""

    @property
    def content(self) -> str:
        """What is said."""


@dataclass(frozen=True)
class Written:
    """A conversation as its template writes it.

    Attributes:
        text: all of it.
        answers: where the answers stand in it, each with what ends it.
        contents: where the contents stand; None where that wasn't looked for.
    """

    text: str
    answers: tuple[Span, ...]
    contents: tuple[Span, ...] | None


class EncodedChat(NamedTuple):
    """The tokens of a conversation.

    Attributes:
        ids: of all of it.
        is_answer: of each, whether it belongs to an answer.
        stops: of each, the character of the text where it ends.
    """

    ids: list[int]
    is_answer: list[bool]
    stops: list[int]


class ChatEncoder:
    """Writes conversations by a template and encodes them.

    Attributes:
        control: the ids of the tokenizer's control tokens.
    """

    def __init__(
        self, backend: Tokenizer, template: str, *, special_tokens: Mapping[str, str]
    ) -> None:
        """Encode by a copy of `backend`.

        Args:
            backend: the tokenizer.
            template: in Jinja.
            special_tokens: text by name, as `eos_token`, which the template may name.
        """
        self._template, self._special = template, dict(special_tokens)
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = False
        added = self._backend.get_added_tokens_decoder()
        control = {i: token.content for i, token in added.items() if token.special}
        for token in special_tokens.values():
            if isinstance(token, str) and (i := self._backend.token_to_id(token)) is not None:
                control[i] = token
        self.control = frozenset(control)
        self._control_texts = sorted({*control.values()})
        self._finds_changed = any(token.special and token.normalized for token in added.values())
        self._has_marks = bool(_HAS_MARKS.search(template))

    @property
    def has_marks(self) -> bool:
        """Whether the template says itself what the answers are, in `generation` blocks."""
        return self._has_marks

    def splits(self, token: str) -> bool:
        """Whether a text is more than one token, control tokens being read."""
        return len(self._backend.encode(token, add_special_tokens=False).ids) > 1

    def write(
        self,
        messages: Sequence[Said],
        *,
        add_generation_prompt: bool = False,
        find_contents: bool = False,
    ) -> Written:
        """Write a conversation.

        Args:
            messages: in order.
            add_generation_prompt: whether the text ends where an answer begins.
            find_contents: whether to look where contents stand, though nothing here needs it.

        Raises:
            DataError: the template refuses it; or doesn't show where the contents are, and they
                hold control tokens, or the template doesn't say what the answers are.
        """
        contents = [message.content for message in messages]
        marks = _unused_marks(contents)
        rendered = self._render(messages, add_generation_prompt, marks)
        text, answers = _without_marks(rendered, marks)
        places = None
        held = self._held(contents)
        answered = [n for n, message in enumerate(messages) if message.role == "assistant"]
        if held or find_contents or (answered and not self._has_marks):
            places = self._find_contents(messages, text, add_generation_prompt)
            if places is None and held:
                raise DataError(
                    f"it holds {held!r}, a control token of this model, and the chat template "
                    "doesn't write each message once and as it is, so that it can't be told from "
                    "the template's own. Take it out"
                )
            if places is None and answered and not self._has_marks:
                raise DataError(
                    "the chat template doesn't write each message once and as it is, so that the "
                    "answers can't be found in what it writes. Put {% generation %} and "
                    "{% endgeneration %} around them in the template"
                )
        if not self._has_marks and places is not None:
            answers = tuple(places[n] for n in answered)
        return Written(text, answers, places)

    def _render(
        self, messages: Sequence[Said], add_generation_prompt: bool, marks: tuple[str, str]
    ) -> str:
        from gptft.tokenization.chat_template import render_chat  # here: few texts need Jinja

        try:
            return render_chat(
                self._template,
                [{"role": one.role, "content": one.content} for one in messages],
                add_generation_prompt=add_generation_prompt,
                special_tokens=self._special,
                marks=marks,
            )
        except Exception as error:  # a template is a program: it raises what it likes
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise DataError(f"the chat template can't write it: {reason}") from None

    def _held(self, contents: Sequence[str]) -> str:
        """The text of a control token that a content may be read to hold; "" for none."""
        for token in self._control_texts:
            if any(token in content for content in contents):
                return token
        if not self._finds_changed:
            return ""
        for content in contents:  # a normalizer may make a control token of another spelling
            for i in self._backend.encode(content, add_special_tokens=False).ids:
                if i in self.control:
                    return self._backend.id_to_token(i) or ""
        return ""

    def _find_contents(
        self, messages: Sequence[Said], text: str, add_generation_prompt: bool
    ) -> tuple[Span, ...] | None:
        """Where each content stands in what the template wrote; None where that can't be told.

        White space around it, which some templates take off, isn't counted to it.
        """
        marks = [f"\ue000{number}\uf8ff\ue001" for number in range(len(messages))]
        cores = [message.content.strip() for message in messages]
        marked = [
            _Marked(m.role, m.content.replace(core, mark, 1) if core else m.content + mark)
            for m, core, mark in zip(messages, cores, marks, strict=True)
        ]
        try:
            rendered = self._render(marked, add_generation_prompt, ("", ""))
        except DataError:
            return None
        places: list[Span] = []
        at = 0
        rebuilt: list[str] = []
        length = 0
        for core, mark in zip(cores, marks, strict=True):
            found = rendered.find(mark, at)
            if found < 0 or rendered.count(mark) != 1:
                return None
            rebuilt.append(rendered[at:found])
            length += found - at
            places.append((length, length + len(core)))
            rebuilt.append(core)
            length += len(core)
            at = found + len(mark)
        rebuilt.append(rendered[at:])
        if "".join(rebuilt) == text:
            return tuple(places)
        before, after = rebuilt[0], rebuilt[-1]
        is_framed = text.startswith(before) and text.endswith(after)
        if len(messages) == 1 and is_framed and len(text) >= len(before) + len(after):
            return ((len(before), len(text) - len(after)),)  # whatever became of it
        return None

    def encode(self, written: Sequence[Written]) -> list[EncodedChat]:
        """The tokens of conversations, in order.

        Raises:
            DataError: the tokenizer can't encode one.
        """
        try:
            with no_panic():
                found = self._backend.encode_batch(
                    [one.text for one in written], add_special_tokens=False
                )
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(f"the tokenizer can't encode it: {error}") from None
        return [self._chat(*pair) for pair in zip(written, found, strict=True)]

    def _chat(self, written: Written, encoding: Encoding) -> EncodedChat:
        ids, starts, stops = [], [], []
        for i, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            pieces = [i]
            if written.contents is not None and i in self.control:
                typed = _within(start, stop, written.contents)
                pieces = self._as_text(written.text[start:stop]) if typed else pieces
            ids += pieces
            starts += [start] * len(pieces)
            stops += [stop] * len(pieces)
        is_answer = [False] * len(ids)
        for begin, end in written.answers:
            begin -= 0 if self._has_marks else self._lead
            first, last = bisect_right(stops, begin), bisect_left(starts, end)
            if not self._has_marks:  # what ends an answer is the control token that follows it
                last = self._end_of_answer(ids, (starts, stops), last, written.text)
            is_answer[first:last] = [True] * max(last - first, 0)
        return EncodedChat(ids, is_answer, stops)

    @cached_property
    def _plain(self) -> Tokenizer:
        """The tokenizer to which all is text."""
        plain = Tokenizer.from_str(self._backend.to_str())
        plain.encode_special_tokens = True
        return plain

    @cached_property
    def _lead(self) -> int:
        """Characters between where an answer begins, and what is said in it: a space, say."""
        question, answer = _Marked("user", "a"), _Marked("assistant", "b")
        try:
            asked = self._render([question], True, ("", ""))
            answered = self.write([question, answer])
        except DataError:
            return 0
        if not answered.answers or not answered.text.startswith(asked):
            return 0
        return max(answered.answers[0][0] - len(asked), 0)

    def _end_of_answer(
        self, ids: Sequence[int], offsets: tuple[list[int], list[int]], last: int, text: str
    ) -> int:
        """The place after the control token that follows `last` at once, or after white space."""
        starts, stops = offsets
        for place in range(last, len(ids)):
            if ids[place] in self.control:
                return place + 1
            covered = text[starts[place] : stops[place]]
            if covered and not covered.isspace():  # offsets may leave white space out
                break
        return last

    def _as_text(self, text: str) -> list[int]:
        """The ids of a text in the midst of another: some tokenizers put a space before a text."""
        anchor, together = (
            self._plain.encode(t, add_special_tokens=False).ids for t in ("a", f"a{text}")
        )
        if together[: len(anchor)] == anchor:
            return list(together[len(anchor) :])
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    @cached_property
    def answer_ends(self) -> tuple[int, ...]:
        """The control token that ends an answer; none where the template writes none."""
        try:
            written = self.write([_Marked("user", "a"), _Marked("assistant", "b")])
            (chat,) = self.encode([written])
        except DataError:
            return ()
        answered = [i for i, yes in zip(chat.ids, chat.is_answer, strict=True) if yes]
        return (answered[-1],) if answered and answered[-1] in self.control else ()

    def encode_text(self, text: str) -> list[int]:
        """The ids of a text in which nothing is a control token."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)


def chat_encoder(
    tokenizer: "PreTrainedTokenizerBase", *, without: str | None = None
) -> ChatEncoder:
    """What writes and encodes conversations by a tokenizer's own chat template.

    Args:
        tokenizer: with a template, or without.
        without: the template of a tokenizer that has none.

    Raises:
        ConfigError: it has none, or several without a default; or it isn't known what is a control
            token to it.
    """
    if not tokenizer.chat_template and without is None:
        raise ConfigError(
            "This model's tokenizer has no chat template: it was never tuned to hold a "
            "conversation. Leave --chat out; --template dialogue frames a prompt for any model."
        )
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError(
            "This model's tokenizer is a program of its own, in which control tokens can't be told "
            "from what is typed. Leave --chat out, or save it with a tokenizer.json."
        )
    special = {n: t for n, t in tokenizer.special_tokens_map.items() if isinstance(t, str)}
    try:
        template = tokenizer.get_chat_template() if tokenizer.chat_template else without
    except ValueError as error:  # several, and none of them is the default
        raise ConfigError(f"This model's chat template can't be had: {error}") from None
    return ChatEncoder(tokenizer.backend_tokenizer, template or "", special_tokens=special)


class _Marked(NamedTuple):
    role: str
    content: str


def _unused_marks(contents: Sequence[str]) -> tuple[str, str]:
    """Two texts that no content holds."""
    number = 0
    while True:
        marks = (f"\ue002{number}\uf8fe", f"\ue003{number}\uf8fe")
        if not any(mark in content for content in contents for mark in marks):
            return marks
        number += 1


def _without_marks(rendered: str, marks: tuple[str, str]) -> tuple[str, tuple[Span, ...]]:
    """A text without its marks, and the spans that stood between them; inner ones are the outer's.

    >>> _without_marks("a<b>c<d>", ("<", ">"))
    ('abcd', ((1, 2), (3, 4)))
    """
    kept: list[str] = []
    spans: list[Span] = []
    opened: list[int] = []
    length = at = 0
    for place, is_end, size in _marks_in(rendered, marks):
        kept.append(rendered[at:place])
        length += place - at
        at = place + size
        if not is_end:
            opened.append(length)
        elif opened:
            begin = opened.pop()
            if not opened and length > begin:
                spans.append((begin, length))
    kept.append(rendered[at:])
    return "".join(kept), tuple(spans)


def _marks_in(rendered: str, marks: tuple[str, str]) -> Iterator[tuple[int, bool, int]]:
    for found in re.finditer("|".join(map(re.escape, marks)), rendered):
        yield found.start(), found[0] == marks[1], len(found[0])


def _within(start: int, stop: int, spans: Sequence[Span]) -> bool:
    return any(begin < stop and start < end for begin, end in spans)
