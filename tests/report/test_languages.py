"""Pages in Russian: every word of them, and the same numbers as in English."""

import json
import re
import shutil
import string
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from gptft import api
from gptft.analysis.evaluate.results import Evaluation
from gptft.analysis.explain.explain import explain
from gptft.report.evaluation import evaluation_html
from gptft.report.explain import explain_html
from gptft.report.generation import generation_html
from gptft.report.language import Words, page_words
from gptft.report.novelty import novelty_html
from gptft.report.prediction import prediction_html
from gptft.report.run_comparison import run_comparison_html
from gptft.report.score import score_html
from gptft.runs.compare import compare_runs
from gptft.text.scripts import PageLanguage
from tests.report.conftest import MakeRun
from tests.report.pages import check_page
from tests.report.test_generation_page import generated
from tests.report.test_html import VOID
from tests.report.test_novelty_page import measured, text_of
from tests.report.test_prediction_page import predicted
from tests.report.test_score_page import changed_dir

__all__ = ["changed_dir"]

FILES = sorted(one.name for one in files("gptft.report").joinpath("words").iterdir())
TEXT = "Буря мглою небо кроет, вихри снежные крутя."
# What Russian writes in Latin letters, too: names of settings, of files and of this program's.
LATIN = {
    "id", "bos", "eos", "tab", "json", "javascript", "data", "validation", "contrastive", "search",
    "softmax", "feed", "forward", "top", "min", "rotary", "alibi", "config", "cut", "p", "k", "e",
    "temperature", "poem", "txt", "endoftext", "q", "v",
}  # fmt: skip


def letters(text: str) -> str:
    """The letters of a sentence without its places for values."""
    return "".join(one for one in re.sub(r"\{\w+\}", "", text) if one.isalpha())


@pytest.mark.parametrize("name", sorted({one.split(".")[0] for one in FILES} - {"strategies"}))
def test_both_languages_say_the_same_things(name: str) -> None:
    assert {f"{name}.en.yaml", f"{name}.ru.yaml"} <= {*FILES}
    english, russian = page_words("en", name), page_words("ru", name)
    assert [*english] == [*russian]
    for key, text in english.items():
        fields = [
            {name for _, name, _, _ in string.Formatter().parse(one) if name}
            for one in (text, russian[key])
        ]
        assert fields[0] == fields[1], key
        assert text.strip()
        translated = re.search("[а-яё]", russian[key].lower())
        assert translated or not letters(text) or key in ("loss", "part_feed-forward"), key
        assert not re.search("[а-яё]", text.lower()), key
        if key.startswith("n_"):
            assert (text.count("|"), russian[key].count("|")) == (1, 2)


@pytest.mark.parametrize(
    ("number", "english", "russian"),
    [
        (0, "0 tokens", "0 токенов"), (1, "1 token", "1 токен"), (2, "2 tokens", "2 токена"),
        (4, "4 tokens", "4 токена"), (5, "5 tokens", "5 токенов"), (11, "11 tokens", "11 токенов"),
        (12, "12 tokens", "12 токенов"), (21, "21 tokens", "21 токен"),
        (24, "24 tokens", "24 токена"), (111, "111 tokens", "111 токенов"),
        (1_001, "1,001 tokens", "1\u202f001 токен"),
        (1_000_112, "1,000,112 tokens", "1\u202f000\u202f112 токенов"),
    ],
)  # fmt: skip
def test_a_noun_goes_with_its_number(number: int, english: str, russian: str) -> None:
    assert Words.of("en").count(number, "token") == english
    assert Words.of("ru").count(number, "token") == russian


class Reader(HTMLParser):
    """The words of a page that are its own: in its language, and no token, script or style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open, self.own, self.cells = [(False, "")], [""], [""]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        foreign = "lang" in given and tag != "html"  # a text that is shown, or a name in English
        quoted = tag in ("style", "script", "bdi", "mark", "blockquote")
        quoted = quoted or given.get("class") in (
            "given",
            "scored",
            "copies",
            "text from",
            "hidden",
        )
        is_foreign = self._open[-1][0] or foreign or quoted
        if not is_foreign and not given.get("class", "").startswith("token"):
            self.own += [given[name] for name in ("title", "aria-label") if name in given]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self._open.append((is_foreign, tag))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[1] == tag

    def handle_data(self, data: str) -> None:
        if not self._open[-1][0]:
            self.own.append(data)
        self.cells[-1] += data


Draw = Callable[[PageLanguage], str]


def check_russian(page: str, latin: set[str]) -> None:
    """The page is Russian, and says nothing in Latin letters but names."""
    assert '<html lang="ru">' in page
    said = " ".join(Reader(page).own)
    assert len(re.findall("[а-яё]+", said.lower())) > 30
    said = re.sub("«[^»]*»", "", said)  # tokens in a sentence
    assert {word.lower() for word in re.findall("[A-Za-z]+", said)} - latin == set()


def check_numbers(draw: Draw) -> None:
    """Both languages have the same figures in the same cells, each written its own way."""
    english, russian = (Reader(draw(lang)).cells for lang in ("en", "ru"))
    assert len(english) == len(russian)
    numbers, narrow = 0, "\N{NARROW NO-BREAK SPACE}"
    swap = str.maketrans({",": narrow, ".": ","})
    for ours, theirs in zip(english, russian, strict=True):
        if re.fullmatch(r"[<>+−]?\d[\d,]*(\.\d+)?%?\s*", ours):
            assert theirs.strip() == ours.strip().translate(swap)
            numbers += 1
    assert numbers > 3


@pytest.fixture(scope="module")
def pages(tiny_model_dir: Path, changed_dir: Path) -> dict[str, Draw]:
    """A page of each kind, with everything on it that it can have."""
    both = api.score(str(changed_dir), TEXT, other=str(tiny_model_dir), use_cpu=True)
    both = replace(both, model="м", other=replace(both.other, model="н"), context=1024)
    alone = replace(both, other=None, begins_after=None, lossless=False)
    step = predicted(changed_dir, prompt=TEXT[:10], other=str(tiny_model_dir), steps=3)
    step = replace(step, model="м", other_model="н")
    long = replace(step, steps=step.steps * 200)
    reasons = generated(tiny_model_dir, [TEXT[:10], TEXT[:4]], top_k=4)
    many = [[*one] * 500 for one in reasons.tokens]
    copies = replace(
        measured(text_of("Да ", "аж буря мглою небо кроет вихри"), text_of("", "вихри " * 180_000)),
        run_dir=Path("м"), held_out_duplicates=2,
    )  # fmt: skip
    bare = replace(copies, held_out=None, texts=copies.texts[:1])
    found = explain(str(changed_dir), TEXT[:20], base_name=str(tiny_model_dir), use_cpu=True)
    found = replace(
        found, model="м", title=replace(found.title, name="м", base="н"),
        base=replace(found.base, base="н"),
    )  # fmt: skip
    return {
        "score of two": lambda lang: score_html(both, TEXT, lang=lang),
        "score": lambda lang: score_html(alone, TEXT, lang=lang),
        "prediction": lambda lang: prediction_html(step, lang=lang),
        "prediction cut": lambda lang: prediction_html(long, lang=lang),
        "generation": lambda lang: generation_html("м", reasons.texts, reasons.tokens, lang=lang),
        "generation cut": lambda lang: generation_html("м", reasons.texts, many, lang=lang),
        "novelty": lambda lang: novelty_html(copies, lang=lang),
        "novelty bare": lambda lang: novelty_html(bare, lang=lang),
        "explain": lambda lang: explain_html(found, lang),
    }


KINDS = (
    "score of two", "score", "prediction", "prediction cut", "generation", "generation cut",
    "novelty", "novelty bare", "explain",
)  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(
    tiny_model_dir: Path, changed_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Evaluations of two models on two files, and of one on one document."""
    folder = tmp_path_factory.mktemp("evaluated")
    for name in ("а.txt", "б.txt"):
        (folder / name).write_text(TEXT * 3, encoding="utf-8")
    shutil.copytree(tiny_model_dir, folder / "м")
    shutil.copytree(changed_dir, folder / "н")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        two = api.evaluate(["м", "н"], ["а.txt", "б.txt"], counts_eos=True, use_cpu=True)
        yield two, api.evaluate(["м"], ["а.txt"], use_cpu=True)


@pytest.fixture
def comparisons(evaluated: tuple[Evaluation, Evaluation], make_run: MakeRun) -> dict[str, Draw]:
    """Pages of evaluations and of runs side by side."""
    two, one = evaluated
    runs = [
        make_run(name, state=state, fingerprint={"tokenizer": name},
                 data={"ledger": {"documents": n, "bytes": 100 + n}})
        for n, (name, state) in enumerate([("а", "done"), ("б", "stopped"), ("в", "failed")])
    ]  # fmt: skip
    prompts = [{"step": 0, "prompt": f"Буря {n}", "continuation": "х"} for n in range(25)]
    for run in runs:
        lines = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
        (run / "samples.jsonl").write_text(lines, encoding="utf-8")
    compared = compare_runs(runs)
    assert len(compared.remarks) == 3
    same = compare_runs([make_run("г"), make_run("д")])
    return {
        "eval of two": lambda lang: evaluation_html(two, lang),
        "eval": lambda lang: evaluation_html(one, lang),
        "runs": lambda lang: run_comparison_html(compared, lang),
        "alike": lambda lang: run_comparison_html(same, lang),
    }


def test_prompts_left_out_are_counted_in_russian(comparisons: dict[str, Draw]) -> None:
    assert "Ещё 5 начал — в samples.jsonl каждого обучения." in comparisons["runs"]("ru")


@pytest.mark.parametrize("kind", ["eval of two", "eval", "runs", "alike"])
def test_a_page_that_compares_has_no_english_word(comparisons: dict[str, Draw], kind: str) -> None:
    check_russian(comparisons[kind]("ru"), LATIN | {"ece", "loss", "document", "separator", "set",
                  "samples", "jsonl", "gptft", "log", "seed", "a", "b", "c"})  # fmt: skip
    check_numbers(comparisons[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_in_russian_has_no_english_word(pages: dict[str, Draw], kind: str) -> None:
    page = pages[kind]("ru")
    if kind != "explain":  # which has its data in a second script
        check_page(page, lang="ru")
    check_russian(page, LATIN)


@pytest.mark.parametrize("kind", KINDS)
def test_both_languages_show_the_same_numbers(pages: dict[str, Draw], kind: str) -> None:
    check_numbers(pages[kind])
