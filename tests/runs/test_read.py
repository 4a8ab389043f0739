import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from gptft.errors import RunError
from gptft.runs.read import read_run
from tests.report.conftest import MakeRun


def test_a_whole_run_is_read(make_run: MakeRun):
    run = read_run(make_run())
    assert (run.name, run.is_finished, run.steps) == ("poems", True, 40)
    assert run.curve("loss") == [(10, 4.0), (20, 3.0), (30, 2.0), (40, 1.0)]
    assert run.curve("eval_loss") == [(20, 4.6), (40, 4.5)]
    assert run.train.perplexity_after == 2.718
    assert run.validation.loss_before == 5.5
    assert run.ledger.num_blocks == 3
    assert run.section("training")["learning_rate"] == 1e-3
    assert [round_.step for round_ in run.rounds] == [0, 20, 40]
    assert run.samples[0].texts == ((0, " до"), (20, " между"), (40, " после"))
    assert run.unreadable == ()


def test_what_was_not_recorded_is_none_or_empty(make_run: MakeRun):
    run_dir = make_run(metrics=None, samples=None, state="running", result=..., data=...)
    run = read_run(run_dir)
    assert (run.is_finished, run.steps, run.train, run.validation) == (False, None, None, None)
    assert (run.ledger, run.store, run.rounds, run.metrics) == (None, None, (), ())
    assert run.curve("loss") == run.samples == []


def test_the_ledger_of_another_version_is_read(make_run: MakeRun):
    counts = {"eos_token_id": ..., "empty_documents": ..., "tail": ..., "a_new_count": 7}
    ledger = read_run(make_run(data={"ledger": counts})).ledger
    assert ledger is not None
    assert (ledger.tokens, ledger.empty_documents, ledger.tail) == (1_980, 0, "keep")


def test_a_ledger_that_can_not_add_up_is_none(make_run: MakeRun):
    run = read_run(make_run(data={"ledger": {"tail_tokens": ...}}))
    assert run.ledger is None
    assert run.store


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run of gptft: there is no run.json in it"),
        ("{", "run.json is not readable as JSON"),
        ("[]", "run.json is not gptft's"),
        ("{}", "run.json is not gptft's"),
        ('{"config": 1}', "run.json is not gptft's"),
    ],
)
def test_another_folder_is_refused_in_one_line(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_or_nothing_at_all_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(RunError, match="is not a run of gptft"):
            read_run(path)


def test_half_a_line_is_left_out_and_named(make_run: MakeRun):
    run_dir = make_run()
    with (run_dir / "metrics.jsonl").open("ab") as file:
        file.write(b'[1]\n\n{"step": 50, "loss": 0.5}\n' + '{"step": 60, "x": "ж'.encode()[:-1])
    run = read_run(run_dir)
    assert run.curve("loss")[-1] == (50, 0.5)
    assert run.unreadable == ("metrics.jsonl:7", "metrics.jsonl:10")


def test_line_separators_of_unicode_do_not_end_a_line(make_run: MakeRun):
    text = "a\u2028b\x85c\u2029"
    run = read_run(make_run(samples=[{"step": 0, "prompt": text, "continuation": text}]))
    assert run.samples[0].prompt == run.samples[0].texts[0][1] == text


def test_values_that_are_no_numbers_are_nan_in_a_curve(make_run: MakeRun):
    values = [math.nan, math.inf, None, "high", True, 10**400]
    run_dir = make_run(metrics=[{"step": i, "loss": v} for i, v in enumerate(values)])
    assert "NaN" in (run_dir / "metrics.jsonl").read_text(encoding="utf-8")
    found = [value for _, value in read_run(run_dir).curve("loss")]
    assert str(found) == "[nan, inf, nan, nan, nan, inf]"


def test_rows_without_a_step_are_passed_over(make_run: MakeRun):
    rows = [{"loss": 1.0}, {"step": None, "loss": 1.0}, {"step": -1, "loss": 1.0}, {"step": 2**99}]
    assert read_run(make_run(metrics=rows)).curve("loss") == []


def test_after_going_back_to_a_checkpoint_the_later_rows_count(make_run: MakeRun):
    steps = [10, 20, 30, 20, 30, 40]
    metrics = [{"step": step, "loss": float(i)} for i, step in enumerate(steps)]
    samples = [
        {"step": step, "prompt": "p", "continuation": str(i)}
        for i, step in enumerate([0, 9, 18, 9])
    ]
    run = read_run(make_run(metrics=metrics, samples=samples))
    assert run.curve("loss") == [(10, 0.0), (20, 3.0), (30, 4.0), (40, 5.0)]
    assert run.samples[0].texts == ((0, "0"), (9, "3"))


def test_a_step_sampled_again_counts_once(make_run: MakeRun):
    samples = [{"step": 9, "prompt": "p", "continuation": text} for text in "ab"]
    assert read_run(make_run(samples=samples)).samples[0].texts == ((9, "b"),)


def test_a_prompt_given_twice_is_two_samples(make_run: MakeRun):
    rows = [
        {"step": step, "prompt": "p", "continuation": f"{step}{letter}"}
        for step in (0, 5)
        for letter in "ab"
    ]
    run = read_run(make_run(samples=rows, config={"samples": {"prompts": ["p", "p"]}}))
    assert [sample.texts for sample in run.samples] == [
        ((0, "0a"), (5, "5a")),
        ((0, "0b"), (5, "5b")),
    ]


def test_without_samples_jsonl_those_of_run_json_count(make_run: MakeRun):
    samples = read_run(make_run(samples=None)).samples
    assert samples[0].texts == ((0, " до"), (40, " после"))


def test_a_name_that_is_not_unicode_is_still_text(make_run: MakeRun):
    run = read_run(make_run("run\udcff"))
    assert run.name == "run?"


def test_neither_torch_nor_transformers_is_loaded(make_run: MakeRun):
    script = (
        "import sys; from pathlib import Path; from gptft.report.html import write_report;"
        "from gptft.report.model_card import write_model_card;"
        "run = Path(sys.argv[1]); write_report(run); write_model_card(run);"
        "heavy = {'torch', 'transformers', 'numpy', 'tokenizers', 'pydantic', 'rich'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    run_dir = make_run()
    subprocess.run([sys.executable, "-c", script, str(run_dir)], check=True)
    assert json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["state"] == "done"
    assert (run_dir / "report.html").is_file()
    assert (run_dir / "model" / "README.md").is_file()
