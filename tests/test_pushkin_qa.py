"""The conversations in data/pushkin-qa are true of the poems in data/pushkin."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
QA = DATA / "pushkin-qa"
POEMS = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((DATA / "pushkin").glob("*.txt"))
}
README = (DATA / "pushkin" / "README.md").read_text(encoding="utf-8")
QUOTED = re.compile("«([^«»]*)»")
STANZAS = {"три": 3, "четыре": 4}
# How a question names a poem: the beginning of its title in any case.
NAMES = {
    "Узник": "uznik",
    "Пророк": "prorok",
    "Зимне[ем]у? утр": "zimnee-utro",
    "Зимн(ий|его|ем) вечер": "zimniy-vecher",
    "Зимн(яя|ей) дорог": "zimnyaya-doroga",
    "К Чаадаеву": "k-chaadaevu",
    r"К\*\*\*": "ya-pomnyu-chudnoe-mgnovene",
    "Памятник|Я памятник себе": "ya-pamyatnik-sebe-vozdvig",
    "На холмах Грузии": "na-kholmakh-gruzii",
    "Если жизнь": "esli-zhizn-tebya-obmanet",
    "Я вас любил": "ya-vas-lyubil",
    "Во глубине": "vo-glubine-sibirskikh-rud",
}


class Pair(NamedTuple):
    """A question, its answer, and the poem that the conversation names, if it names one."""

    question: str
    answer: str
    poem: str | None


def conversations(name: str) -> list[list[dict[str, str]]]:
    lines = (QA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def pairs(name: str) -> Iterator[Pair]:
    for messages in conversations(name):
        asked = messages[0]["content"]
        named = {poem for pattern, poem in NAMES.items() if re.search(f"«({pattern})", asked)}
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            poem = named.pop() if len(named) == 1 else None
            named = {poem} if poem else named
            yield Pair(question["content"], answer["content"], poem)


ALL = [*pairs("train"), *pairs("held-out")]
each_pair = pytest.mark.parametrize("pair", ALL, ids=[str(number) for number in range(len(ALL))])


def lines_of(poem: str | None) -> list[str]:
    assert poem is not None
    return [line for line in POEMS[poem].split("\n") if line]


@pytest.mark.parametrize(
    ("name", "num_conversations", "num_pairs"), [("train", 52, 60), ("held-out", 20, 20)]
)
def test_there_are_as_many_as_the_readme_says(name: str, num_conversations: int, num_pairs: int):
    assert len(conversations(name)) == num_conversations
    assert len([*pairs(name)]) == num_pairs
    row = next(
        line
        for line in (QA / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {name}.jsonl")
    )
    assert [int(number) for number in re.findall(r"\b\d{2}\b", row)] == [
        num_conversations,
        num_pairs,
    ]


@pytest.mark.parametrize("name", ["train", "held-out"])
def test_roles_take_turns_and_nothing_else_is_there(name: str):
    for line in (QA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert set(record) == {"messages"}
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(roles) in (2, 4)
        assert all(set(message) == {"role", "content"} for message in record["messages"])


def test_eight_have_a_second_question():
    assert [len(one) for one in conversations("train")].count(4) == 8


def test_no_question_is_asked_twice():
    questions = [pair.question for pair in ALL]
    assert len({*questions}) == len(ALL) == 80
    held_out = {pair.answer for pair in pairs("held-out")}
    assert not held_out & {pair.answer for pair in pairs("train")}


@each_pair
def test_the_form(pair: Pair):
    assert re.fullmatch(r"[А-Я].*[?.]", pair.question)
    assert re.fullmatch(r"[А-Я«].*[.»]", pair.answer)
    assert len(re.findall(r"[.!?](?=\s+[А-Я«]|$)", QUOTED.sub("", pair.answer))) <= 2
    for text in (pair.question, pair.answer):
        assert text == text.strip()
        assert text.count("«") == text.count("»") == len(QUOTED.findall(text))
        strange = re.sub(r"[А-Яа-я0-9 .,:;!?«»—*-]", "", text)
        assert strange == ""  # ё is written е, as in the poems


@each_pair
def test_what_is_quoted_stands_in_the_poem(pair: Pair):
    for quote in QUOTED.findall(pair.answer):
        assert quote in README or any(quote in text for text in POEMS.values()), quote
        if pair.poem is not None and quote not in README:
            assert quote in POEMS[pair.poem], (quote, pair.poem)


def test_most_questions_name_their_poem():
    assert sum(pair.poem is not None for pair in ALL) >= 45


def asked(pattern: str, *, number: int) -> pytest.MarkDecorator:
    """The pairs whose question matches; there must be so many of them."""
    found = [pair for pair in ALL if re.search(pattern, pair.question)]
    assert len(found) == number, (pattern, len(found))
    return pytest.mark.parametrize("pair", found, ids=[pair.question for pair in found])


@asked("году|[Кк]огда", number=8)
def test_years_are_those_of_the_readme(pair: Pair):
    (year,) = re.findall(r"\d{4}", pair.answer)
    assert re.search(rf"\| {pair.poem}\.txt \| [^|]* \| {year} \|", README)


@asked("начинается|открывается|первая строка", number=7)
def test_first_lines(pair: Pair):
    assert lines_of(pair.poem)[0].startswith(QUOTED.findall(pair.answer)[-1])


@asked("кончается|последняя строка", number=5)
def test_last_lines(pair: Pair):
    assert QUOTED.findall(pair.answer)[-1] in lines_of(pair.poem)[-1]


@asked("после (строки )?«|следует за|Продолжите", number=9)
def test_next_lines(pair: Pair):
    (before,), (after,) = QUOTED.findall(pair.question), QUOTED.findall(pair.answer)
    together = (
        pair for poem in POEMS for pair in zip(lines_of(poem), lines_of(poem)[1:], strict=False)
    )
    (following,) = (second for first, second in together if first.startswith(before))
    assert following.startswith(after)


@asked("рифмуется", number=9)
def test_rhymes_end_lines_near_each_other(pair: Pair):
    ends = [re.findall("[а-яё]+", line.lower())[-1] for line in lines_of(pair.poem)]
    one, other = sorted(ends.index(word.lower()) for word in QUOTED.findall(pair.answer))
    assert 1 <= other - one <= 3
    assert ends[one][-1] == ends[other][-1]


@asked("Сколько строф", number=2)
def test_stanzas_are_counted(pair: Pair):
    said = next(number for word, number in STANZAS.items() if word in pair.answer)
    assert pair.poem is not None
    assert said == POEMS[pair.poem].count("\n\n") + 1
