"""The report of a run in Russian: every word of it, and the same figures as in English."""

import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gptft.data.ledger import Ledger
from gptft.report.html import report, report_language
from gptft.report.language import Words
from gptft.report.ledger_words import ledger_sentences
from gptft.runs.read import read_run
from tests.report.conftest import LEDGER, METRICS, MakeRun
from tests.report.pages import check_page
from tests.report.test_html import RECITAL
from tests.report.test_languages import LATIN, check_numbers, check_russian

# Names of settings and states of a machine, and what Russian writes in Latin letters.
NAMES = LATIN | {"loss", "samples", "jsonl", "metrics", "lora", "cuda", "gptft", "utf", "cr", "lf"}
NAMES |= {"abcdef", "t"}  # a hash, and the T of a time
SETTINGS = re.compile(
    r"\b(training|data)\.\w+(: [a-z]+)?|bfloat16|float(16|32)|learning_rate|int8|moving_average/"
)


def figures(before: float, after: float) -> dict[str, Any]:
    return {
        "loss_before": before, "loss_after": after, "perplexity_before": math.exp(before),
        "perplexity_after": math.exp(after), "bits_per_byte_before": before / 4,
        "bits_per_byte_after": after / 4, "num_tokens": 1_732,
    }  # fmt: skip


DOCUMENTS = {
    "num_measured": 250, "median_fall": 1.5,
    "least": [{"start": "Буря", "num_tokens": 1_021, "loss_before": 3.0, "loss_after": 2.9}],
}  # fmt: skip
MANY = [
    {"step": step, "prompt": f"Буря {n}", "continuation": "х"}
    for step in range(0, 60, 10)
    for n in range(23)
]  # fmt: skip
# A change of the run that everything in `conftest` describes, by what it makes the report say.
RUNS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "not finished": {"state": "running", "result": ..., "finished": ...},
    "stopped": {"state": "stopped", "metrics": None, "result": ...},
    "unknown": {"config": {"model": {"name": ...}}, "data": ..., "num_parameters": ...},
    "new": {"config": {"model": {"from_scratch": {"model_type": "м"}}}},
    "adapter": {"num_trained": 1_200_000, "config": {"lora": {"rank": 8, "quantize": "int8"}}},
    "frozen": {"num_trained": 12_345, "device": "cuda", "world_size": 2},
    "recited": {"result": {**RECITAL, "model_step": 12}},
    "one text recited": {"result": {"recital": {"texts": RECITAL["recital"]["texts"][:1]}}},
    "general": {"result": {"general": {"ru": figures(2.0, 2.5), "en": figures(3.0, 4.0)}}},
    "worse": {"result": {"train": figures(5.0, 6.0), "validation": figures(5.0, 6.0)}},
    "alike": {"result": {"validation": figures(5.0, 5.0)}},
    "infinite": {"result": {"validation": {**figures(5.0, 6.0), "perplexity_after": math.inf}}},
    "not a number": {"metrics": [{"step": n, "loss": math.nan} for n in range(1, 1_200)]},
    "turned": {"metrics": [*METRICS, {"step": 50, "eval_loss": 5.0}],
               "result": {"best": {"checkpoint": "х"}, "model_step": 50, "steps": 50,
                          "validation": figures(5.5, 5.0)}},
    "turned at once": {"metrics": [], "result": {"validation": figures(3.0, 3.5)}},
    "best kept": {"metrics": [*METRICS, {"step": 50, "eval_loss": 5.0}],
                  "result": {"steps": 50, "model_step": 40}},
    "averaged": {"metrics": [*METRICS, {"step": 50, "eval_loss": 5.0}],
                 "result": {"best": {"checkpoint": "х"}, "averaged": {"ema_decay": 0.99},
                            "model_step": 50, "steps": 50, "validation": figures(5.5, 5.0)}},
    "mean": {"result": {"averaged": {"checkpoints": [10, 1_020]}}},
    "ended early": {"result": {"ended": "early_stopping", "planned_steps": 1_200,
                               "without_improvement": 3}},
    "ended early, unknown": {"result": {"ended": "early_stopping", "planned_steps": 60}},
    "evaluated": {"metrics": [*METRICS, {"step": 50, "eval_loss": 5.0}],
                  "config": {"training": {"eval_strategy": "epoch", "max_steps": 50}}},
    "documents": {"result": {"documents": DOCUMENTS}},
    "few documents": {"result": {"documents": {**DOCUMENTS, "num_measured": 5}}},
    "many prompts": {
        "samples": MANY,
        "config": {"samples": {"prompts": [f"Буря {n}" for n in range(23)]}},
    },
    "padded": {"data": {"ledger": {"packing": "best_fit", "padding_tokens": 20, "num_bos": 12,
                                   "dropped_tokens": 7, "split_documents": 2}}},
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_no_word_of_a_report_is_english(make_run: MakeRun, kind: str) -> None:
    run_dir = make_run("обучение", **RUNS[kind])
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("{")
    page = report(read_run(run_dir), "ru")
    check_page(page, lang="ru")
    run = str(run_dir.parent)
    check_russian(SETTINGS.sub("", page.replace(run, "").replace("pico", "")), NAMES)


@pytest.mark.parametrize("kind", ["as it is", "recited", "general", "documents", "padded"])
def test_both_languages_have_the_same_figures(make_run: MakeRun, kind: str) -> None:
    run = read_run(make_run(**RUNS[kind]))
    check_numbers(lambda lang: re.sub("<details>.*</details>", "", report(run, lang), flags=re.S))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("as it is", "Дообучение модели pico (параметров: 4,4 млн) за 40 шагов на тексте из 10 "
         "документов (токенов: 1 736), прочитано токенов: 69 440, это 4 000% текста; заняло 1 мин "
         "2 с. Перплексия на отложенном тексте упала с 244,69 до 90,02."),
        ("as it is", "5,000 → <strong>1,000"),
        ("as it is", "шаг 20: loss на отложенном тексте 4,6"),
        ("as it is", "шаг 40, последний"),
        ("as it is", "3 блока по 512 и последний, короче, в 200; ничего не дополнено."),
        ("as it is", "Отложено для проверки: 2 документа, 1 блок."),
        ("as it is", "Пропущено: 1 файл."),
        ("as it is", "(задано, не показано)"),
        ("not finished", "Обучение не закончено: последний записанный шаг — 40."),
        ("new", "Обучение с нуля новой модели м (параметров: 4,4 млн)"),
        ("adapter", "адаптером LoRA (параметров: 1,2 млн)"),
        ("recited", "По первым строкам 2 текстов модель читает слово в слово 3 из 4 строк, "),
        ("recited", "12 из 40: у каждого токена текста p >= 0,9"),
        ("one text recited", "По первой строке модель читает слово в слово 2 из 3 строк"),
        ("worse", "loss 5,000 до и 6,000 после. Уменьшите training.learning_rate, 0.001."),
        ("turned", "был наименьшим на шаге 40, 4,500, а в конце 5,000"),
        ("best kept", "модель шага 40, лучшая на отложенном тексте, а не шага 50"),
        ("averaged", "шага 50, последнего: скользящее среднее её весов (training."),
        ("averaged", "её веса до усреднения, а их среднее — в moving_average/."),
        ("mean", "шага 40, последнего: среднее сохранённых на шагах 10, 1 020."),
        ("ended early", "40 из 1 200: loss на отложенном тексте падал недостаточно, 3 измерения "
         "подряд"),
        ("ended early, unknown", "40 из 60: loss на отложенном тексте падал недостаточно<"),
        ("not a number", "таких 1 199 из 1 199 записей, первая на шаге 1."),
        ("infinite", "бесконечность"),
        ("many prompts", "Ещё 3 начала — в samples.jsonl."),
        ("few documents", "Измерено документов обучающего текста: 5."),
    ],
)  # fmt: skip
def test_what_a_report_says_in_russian(make_run: MakeRun, kind: str, said: str) -> None:
    page = unescape(report(read_run(make_run(**RUNS[kind])), "ru"))
    assert said in page.replace("\N{NARROW NO-BREAK SPACE}", " ")


LEDGERS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one document": {"documents": 1, "validation_documents": 0, "tail_tokens": 0},
    "short": {"num_blocks": 0},
    "dropped": {"tail_tokens": 0, "dropped_tokens": 1},
    "bos": {"num_bos": 12},
    "bos of parts": {"num_bos": 2},
    "fitted": {"packing": "best_fit", "padding_tokens": 1_021, "split_documents": 1},
    "fitted in one": {"packing": "best_fit", "num_blocks": 0, "split_documents": 21},
    "fitted evenly": {"packing": "best_fit", "tail_tokens": 0, "dropped_tokens": 33},
    "held out": {"validation_tokens": 256, "held_out_duplicates": 1},
    "held out twice": {"validation_tokens": 256, "held_out_duplicates": 2},
    "lengths": {"longest_tokens": 1_001, "shortest_tokens": 2, "trained_tokens": 1_000},
    "weights": {"repeated_documents": 5, "unused_documents": 1},
    "peculiar": {"empty_documents": 1, "unanswered_documents": 2, "duplicate_documents": 3,
                 "decoded_files": 1, "book_files": 2, "crlf_files": 1, "skipped_files": 4},
}  # fmt: skip


@pytest.mark.parametrize("kind", LEDGERS)
def test_the_account_says_the_same_as_that_of_preparing(make_run: MakeRun, kind: str) -> None:
    ledger = read_run(make_run(data={"ledger": {**LEDGER, **LEDGERS[kind]}})).ledger
    assert isinstance(ledger, Ledger)
    english, russian = (ledger_sentences(ledger, Words.of(w, "report")) for w in ("en", "ru"))
    assert english == ledger.sentences()
    for ours, theirs in zip(english, russian, strict=True):
        numbers = [sorted(re.findall(r"\d+", re.sub(r"(?<=\d)[,.\u202f](?=\d)", "", one)))
                   for one in (ours, theirs)]  # fmt: skip
        words = [one for one in numbers[0] if one not in numbers[1]]  # "not in UTF-8" is in both
        assert not words, (ours, theirs)
        assert len(numbers[0]) == len(numbers[1]), (ours, theirs)


def test_a_report_is_in_the_language_of_the_runs_texts(make_run: MakeRun) -> None:
    english = [{"step": step, "prompt": "The frost", "continuation": "х"} for step in (0, 40)]
    only = {"config": {"samples": {"prompts": ["The frost"]}}, "result": {"samples": []}}
    none = {"samples": None, "config": {"samples": {"prompts": []}}}
    runs = {
        "ru": [{}, {**none, "result": {**RECITAL, "samples": []}},
               {**none, "result": {"documents": DOCUMENTS, "samples": []}}],
        "en": [{"samples": english, **only}, {**none, "result": {"samples": []}}],
    }  # fmt: skip
    for lang, changes in runs.items():
        found = [read_run(make_run(f"{lang}{n}", **one)) for n, one in enumerate(changes)]
        assert [report_language(run) for run in found] == [lang] * len(found)


def test_the_same_run_gives_the_same_bytes_in_russian(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run())
    assert report(run, None) == report(run, "ru") == report(read_run(tmp_path / "poems"), "ru")
