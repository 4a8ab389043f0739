import re
from dataclasses import replace

import pytest

from gptft.analysis.compare.entries import comparison_entries
from gptft.analysis.compare.results import METRICS, MeasuredText, StrategyEntry, StrategyResult
from gptft.decoding.speed import Speed
from gptft.decoding.strategies import STRATEGIES
from gptft.report.comparison import comparison_html
from gptft.report.language import page_words
from tests.report.test_html import Walker
from tests.report.test_languages import check_numbers, check_russian

PROMPT = "Мороз & <b>солнце</b>;"


TEXT = "\n<i>день</i>"


def written(continuation=TEXT, **changes):
    values = {
        "continuation": continuation,
        "num_new_tokens": 12,
        "stopped": "length",
        "speed": Speed(12, 2.0, 0.5, 12, None),
        "mean_logprob": -2.5,
        "distinct": {1: 0.5, 2: 0.75, 3: 1.0},
        "repetition": 0.25,
        "longest_copy": 7,
    }
    return MeasuredText(**{**values, **changes})


@pytest.fixture
def rows():
    """Greedy, a regex with a stand-in, a config's own strategy, and one that is left out."""
    greedy, regex, mine, assisted = comparison_entries(
        ["greedy", "regex", "mine <3", "assisted"],
        own={"mine <3": {"top_p": 0.5, "stop_strings": ["</main>"]}},
        shared={"seed": 3},
        base_model=None,
        prompt=PROMPT,
    )
    fast = Speed(12, 1.0, 0.5, 6, 0.75)
    return [
        StrategyResult(greedy, PROMPT, written()),
        StrategyResult(
            regex, PROMPT, written(f"{TEXT}!", mean_logprob=-1.5, longest_copy=3, stopped="eos")
        ),
        StrategyResult(mine, PROMPT, written(f"{TEXT}?", speed=fast, repetition=0.0)),
        StrategyResult(assisted, PROMPT, left_out=assisted.left_out),
    ]


def page_of(rows, **given):
    return Walker(comparison_html(rows, **{"model": "runs/poems", "prompt": PROMPT, **given}))


def test_every_strategy_has_its_card(rows):
    page = page_of(rows)
    assert page.tags.count("article") == 4
    assert "One prompt, 4 strategies" in page.text
    assert "runs/poems continues:" in page.text
    for row in rows:
        strategy = STRATEGIES[row.entry.strategy]
        assert row.label in page.text
        assert strategy.description in page.text
        assert strategy.source in page.text
    assert 'stand-in: regex "[^.!?]{1,80}[.!?]"' in page.text
    assert "top_p 0.5, stop_strings [</main>], seed 3" in page.text
    assert "needs assistant_model" in page.text
    assert "The model ended the text." in page.text
    assert "2.00 tokens a call, 75% of drafted tokens kept" in page.text


def test_the_overview_has_every_number(rows):
    cells = page_of(rows).cells
    head = ["strategy", "tokens", "tokens a second", "mean logprob", "distinct-1", "distinct-2"]
    head += ["distinct-3", "repetition", "longest copy"]
    metrics = ["12", "6.0", "-2.50", "0.50", "0.75", "1.00", "0.25", "7"]
    assert cells[:18] == [*head, "greedy", *metrics]
    assert cells[-2:] == ["assisted", "left out"]


def test_the_best_of_each_is_marked_in_table_and_card(rows):
    html = comparison_html(rows, model="m", prompt=PROMPT)
    assert re.findall(r'<td class="number best">([^<]+)', html) == ["-1.50", "3", "12.0", "0.00"]
    marked = re.findall(r'<div class="best".*?>\n?<dt>([^<]+)</dt><dd>([^<]+)', html)
    assert marked == [
        ("mean logprob", "-1.50"),
        ("longest copy", "3"),
        ("tokens a second", "12.0"),
        ("repetition", "0.00"),
    ]


def test_a_text_that_an_earlier_strategy_wrote_is_called_the_same_and_not_the_best(rows):
    again = replace(rows[1], measured=written(mean_logprob=-1.0, longest_copy=1))
    html = comparison_html([rows[0], again, rows[2]], model="m", prompt=PROMPT)
    assert html.count("the same text as greedy") == 1
    assert html.count('<a href="#s0">The same text as greedy</a>') == 1
    assert re.findall(r'<td class="number best">([^<]+)', html) == ["12.0", "0.00"]


def test_a_text_is_in_the_language_of_its_letters(rows):
    html = comparison_html(rows, model="m", prompt=PROMPT)
    assert html.count('<div class="text" dir="auto" lang="ru">') == 3
    english = [replace(row, prompt="The fox") for row in rows[:1]]
    english[0] = replace(english[0], measured=written("jumps"))
    assert '<div class="text" dir="auto" lang="">' in comparison_html(
        english, model="m", prompt="The fox"
    )


def test_the_prompt_is_set_apart_and_everything_is_escaped(rows):
    html = comparison_html(rows, model="<m>", prompt=PROMPT)
    prompt = "Мороз &amp; &lt;b&gt;солнце&lt;/b&gt;;"
    assert html.count(f'<span class="given">{prompt}</span>\n&lt;i&gt;день&lt;/i&gt;') == 3
    assert not {"<b>", "<i>", "<m>", "<3"} & set(re.findall(r"<\w+>|<\d", html))
    assert html.count("</main>") == 1


def test_the_page_loads_and_runs_nothing(rows):
    html = comparison_html(rows, model="m", prompt=PROMPT)
    page = Walker(html)
    assert "default-src 'none'" in html
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert {value[0] for name, value in page.attributes if name in ("href", "src")} == {"#"}
    assert "@media (prefers-color-scheme: dark)" in html
    assert page.tags.count("style") == 1
    ids = [value for name, value in page.attributes if name == "id"]
    links = [value for name, value in page.attributes if name == "href"]
    assert [f"#{value}" for value in ids] == links


def test_control_characters_and_line_ends_are_shown(rows):
    row = replace(rows[0], measured=written(continuation="a\x1b[2J\n\n\n"))
    page = page_of([row])
    assert "a␛[2J ↵ × 3" in page.text
    assert "\x1b" not in page.text
    assert "1 strategy" in page.text


def test_what_nobody_knows_has_no_column(rows):
    known = [replace(row, measured=written(longest_copy=None)) for row in rows[:2]]
    page = page_of(known)
    assert "longest copy" not in page.text
    text = page_of(
        [StrategyResult(rows[0].entry, PROMPT, written(repetition=None)), *rows[1:]]
    ).cells
    assert text[16] == "-"


def test_an_empty_prompt_is_said(rows):
    entry = StrategyEntry("greedy", "greedy", rows[0].entry.settings)
    page = page_of([StrategyResult(entry, "", written())], prompt="")
    assert "continues from nothing: the prompt is empty." in page.text


def test_a_metric_is_called_in_english_what_the_terminal_calls_it(rows):
    words = page_words("en", "comparisons")
    for metric in METRICS:
        name, _, n = metric.name.rpartition("_")
        title = words["metric_distinct"].format(n=n) if name == "distinct" else None
        assert (title or words[f"metric_{metric.name}"]) == metric.title
        assert words[f"about_{metric.name}"] == metric.meaning


def test_every_strategy_is_described_in_russian():
    described = page_words("ru", "strategies")
    assert [*described] == [*STRATEGIES]
    settings = re.compile(r"\b(k|n|num_beams|[a-z]+(_[a-z]+)+|temperature|[A-Z]+)\b")
    for name, said in described.items():
        assert said[0].isupper(), name
        assert said.endswith("."), name
        assert not re.search("[A-Za-z]", settings.sub("", said)), name
        english = {*settings.findall(STRATEGIES[name].description)}
        for setting in {one[0] for one in english if "_" in one[0]}:
            assert setting in said, name


def test_no_word_of_a_comparison_is_english_in_russian(rows):
    amateur, dexperts, context = comparison_entries(
        ["contrastive_decoding", "dexperts", "context_aware"],
        own={}, shared={}, base_model=None, prompt="",
    )  # fmt: skip
    failed = StrategyResult(amateur, PROMPT, left_out="Out of memory.")
    more = [*rows, replace(rows[0], measured=written()), failed]
    more += [StrategyResult(one, PROMPT, left_out=one.left_out) for one in (dexperts, context)]
    drafted = Speed(12, 1.0, 0.5, 6, None)
    more.append(replace(rows[0], measured=written("!", speed=drafted, stopped="stop_string")))

    def draw(lang):
        return comparison_html(more, model="м", prompt=PROMPT, lang=lang)

    check_russian(
        re.sub(r"\b[a-z]+(_[a-z]+)+\b", "", draw("ru")), {"k", "temperature", "greedy", "p"}
    )
    check_numbers(draw)
    said = Walker(draw("ru")).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    for sentence in (
        "Одно начало, 9 стратегий", "м продолжает:", "-2,50", "тот же текст, что у greedy",
        "взято взамен: regex", "Нужно задать expert_model или antiexpert_model. Взамен подошла бы",
        "Нужно задать context: в начале нет слова", "Out of memory.", "Статьи нет: the argmax",
        "Модель сама закончила текст.", "Закончился перед стоп-строкой.",
        "Токенов за один вызов модели: 2,00; из набросанных осталось 75%.",
        "Токенов за один вызов модели: 2,00.", "доля разных троек токенов среди всех троек, чем",
    ):  # fmt: skip
        assert sentence in said, sentence
    one = comparison_html(rows[:1], model="м", prompt="", lang="ru")
    assert "Одно начало, 1 стратегия" in one
    assert "м пишет с чистого листа: начало пустое." in one
