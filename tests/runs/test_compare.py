"""Runs side by side: what differs, what compares, and which is best."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.report.run_comparison import run_comparison_html
from gptft.runs.compare import (
    DIFFERENT_TEXTS,
    DIFFERENT_TOKENIZERS,
    ESTIMATED,
    RunComparison,
    compare_runs,
)
from gptft.runs.compare_view import comparison_view
from tests.report.conftest import METRICS, SAMPLES, MakeRun
from tests.report.test_html import Walker
from tests.runs.test_show import BROKEN_FACTS
from tests.runs.test_show import weightless as whole
from tests.runs.test_status import make_run as bare_run


def on_screen(compared: RunComparison, *, width: int | None = None) -> str:
    screen = io.StringIO()
    terminal = Console(
        file=screen, force_terminal=width is not None, width=width or 100_000, color_system=None
    )
    terminal.print(comparison_view(compared))
    return screen.getvalue()


@pytest.fixture
def two(make_run: MakeRun) -> list[Path]:
    """Two runs on the same texts, with another learning rate and seed."""
    first = make_run("first", fingerprint={"training.seed": 42, "tokenizer": "t", "data": "d"})
    second = make_run(
        "second",
        metrics=[
            {**row, "eval_loss": row["eval_loss"] - 1} for row in METRICS if "eval_loss" in row
        ],
        samples=[{**row, "continuation": " иначе"} for row in SAMPLES],
        config={"training": {"learning_rate": 5e-4, "output_dir": "runs/second"}},
        fingerprint={"training.seed": 7, "tokenizer": "t", "data": "d"},
        result={"validation": {"loss_after": 3.5, "perplexity_after": 33.115}},
    )
    return [whole(first), whole(second)]


def test_only_what_differs_is_shown_and_the_best_is_marked(two: list[Path]):
    compared = compare_runs(two)
    assert [(one.mark, one.name) for one in compared.runs] == [("A", "first"), ("B", "second")]
    assert compared.settings == {
        "training.seed": ("42", "7"),
        "training.learning_rate": ("0.001", "0.0005"),
    }
    assert compared.remarks == ()
    assert compared.best == {
        "bits_per_byte": (1,),
        "held_out_loss": (1,),
        "perplexity": (1,),
        "lowest_loss": (1,),
        "training_loss": (0, 1),
    }
    second = compared.runs[1]
    assert second.perplexity == pytest.approx(33.115, abs=1e-3)
    # 3.5 nats a token, 1,980 tokens and 12 EOS in 12,000 bytes
    assert second.bits_per_byte == pytest.approx(3.5 / math.log(2) * 1_992 / 12_000)
    assert (second.held_out_before, second.lowest_loss, second.lowest_step) == (5.5, 3.5, 40)
    assert compared.samples == [
        {"prompt": "Мороз и солнце;", "continuations": [" после", " иначе"]}
    ]
    text = on_screen(compared).splitlines()
    assert "training.learning_rate\t0.001\t0.0005" in text
    assert "20\t4.600\t3.600" in text
    assert "B\t иначе" in text
    assert any(
        line.startswith("B second\tdone\t40\t1.000*\t5.500\t3.500*\t33.12*") for line in text
    )


@pytest.mark.parametrize(
    ("changes", "remarks", "best"),
    [
        ({"fingerprint": {"tokenizer": "u"}}, (DIFFERENT_TOKENIZERS, ESTIMATED), {"bits_per_byte"}),
        ({"data": {"ledger": {"bytes": 9_000}}}, (DIFFERENT_TEXTS,), set()),
        ({"config": {"data": {"seed": 1}}}, (DIFFERENT_TEXTS,), set()),
        ({"config": {"data": {"validation": 0.2}}}, (DIFFERENT_TEXTS,), set()),
        (
            {"fingerprint": {"tokenizer": "u"}, "data": {"ledger": {"documents": 3}}},
            (DIFFERENT_TOKENIZERS, ESTIMATED, DIFFERENT_TEXTS),
            set(),
        ),
        # another block size is another store of the same texts
        ({"data": {"store": "other", "ledger": {"block_size": 64, "num_blocks": 24}}}, (), None),
    ],
)
def test_losses_that_do_not_compare_are_not_compared(
    two: list[Path], make_run: MakeRun, changes: dict[str, Any], remarks: Any, best: Any
):
    facts = {"fingerprint": {"training.seed": 42, "tokenizer": "t"}}
    fingerprint = {**facts["fingerprint"], **changes.pop("fingerprint", {})}
    third = make_run("third", fingerprint=fingerprint, **changes)
    compared = compare_runs([two[0], third])
    assert compared.remarks == remarks
    if best is not None:
        assert {*compared.best} == best
    page = run_comparison_html(compared)
    assert all(one in Walker(page).text for one in remarks)


def test_bits_a_byte_are_those_that_were_measured_where_there_are(make_run: MakeRun):
    paths = []
    for name, bits, russian in (("a", 1.5, 0.9), ("b", 1.25, 1.1)):
        general = {"ru": {"loss_after": 3.0, "bits_per_byte_after": russian}}
        measured = {"bits_per_byte_after": bits}
        fingerprint = {"tokenizer": name}
        result = {"validation": measured, "general": general}
        paths.append(make_run(name, result=result, fingerprint=fingerprint))
    compared = compare_runs(paths)
    assert [one.bits_per_byte for one in compared.runs] == [1.5, 1.25]
    assert compared.best == {"general_russian": (0,), "bits_per_byte": (1,)}
    assert compared.remarks == (DIFFERENT_TOKENIZERS,)
    assert "general, Russian" in on_screen(compared)
    assert "general, English" not in on_screen(compared)


@pytest.mark.parametrize("width", [20, 60, 90, 120, 200])
def test_on_a_terminal_nothing_is_wider(two: list[Path], width: int):
    lines = on_screen(compare_runs(two), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("3.500*" in line for line in lines)


def test_the_page_has_all_runs_in_one_chart(two: list[Path], make_run: MakeRun):
    names = [f"x{n}" for n in range(8)]
    more = [make_run(name, config={"training": {"weight_decay": 0.1}}) for name in names]
    compared = compare_runs([*two, *more])
    page = Walker(run_comparison_html(compared))
    assert page.tags.count("svg") == 2
    classes = [value or "" for name, value in page.attributes if name == "class"]
    assert {f"line run{n}" for n in range(8)} <= {*classes}
    assert "step 40: B second 3.5" in page.text
    assert "training.weight_decay" in page.text
    assert page.tags.count("figure") == 10
    assert "<script" not in run_comparison_html(compared)


@pytest.mark.parametrize("facts", BROKEN_FACTS)
def test_a_damaged_or_empty_run_is_compared_as_far_as_it_can_be(
    two: list[Path], tmp_path: Path, facts: str
):
    folder = bare_run(tmp_path / "bad\x1b[2J<b>")
    (folder / "run.json").write_text(facts, encoding="utf-8")
    compared = compare_runs([*two, folder])
    for width in (None, 70):
        assert "\x1b[2J" not in on_screen(compared, width=width)
    page = run_comparison_html(compared)
    assert "<b>" not in page
    Walker(page)
    json.dumps(as_json(compared), allow_nan=False)


def test_a_folder_stands_for_the_runs_in_it_and_names_are_as_short_as_can_be(in_tmp: Path):
    for name in ("a/x", "b/x", "b/y"):
        bare_run(in_tmp / "runs" / name, state="stopped")
    compared = compare_runs([Path("runs")])
    assert [one.name for one in compared.runs] == ["a/x", "b/x", "b/y"]
    assert [str(one.path) for one in compare_runs([Path("runs/b")]).runs] == [
        "runs/b/x",
        "runs/b/y",
    ]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["runs/a"], ["runs/a is the only run. Name two or more, or a folder that holds them."]),
        (["runs/a", "runs/./a"], ["runs/a is the run runs/a again. Name each run once."]),
        (["runs/a", "link"], ["link is the run runs/a again. Name each run once."]),
        (
            ["a", "none", "empty"],
            [
                "a: no such run. Did you mean runs/a?",
                "none: no such run.",
                "empty is no run: there is no run.json in it.",
            ],
        ),
    ],
)
def test_what_cannot_be_compared_is_said_all_at_once(
    in_tmp: Path, named: list[str], said: list[str]
):
    bare_run(in_tmp / "runs" / "a", state="stopped")
    bare_run(in_tmp / "runs" / "b", state="stopped")
    (in_tmp / "link").symlink_to(in_tmp / "runs" / "a")
    (in_tmp / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        compare_runs([Path(name) for name in named])
    assert len(caught.value.problems) == len(said)
    for problem, words in zip(caught.value.problems, said, strict=True):
        assert problem.startswith(words)
