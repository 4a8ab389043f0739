import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gptft.errors import RunError
from gptft.report.html import write_report
from tests.report.conftest import METRICS, MakeRun

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Walker(HTMLParser):
    """Checks that tags are balanced, and keeps the tags, the attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
            if {"td", "th"} & set(self.open):
                self.cells[-1] += data


def walk(run_dir: Path) -> Walker:
    return Walker(write_report(run_dir).read_text(encoding="utf-8"))


def test_the_report_shows_the_run(make_run: MakeRun):
    run_dir = make_run()
    assert write_report(run_dir) == run_dir / "report.html"
    page = walk(run_dir)
    for said in (
        "On held-out text its perplexity fell from 244.69 to 90.02.",
        "5.000 → 1.000",
        "244.69 → 90.02",
        "step 20: held-out loss 4.6",
        "step 40: training loss 1",
        "Мороз и солнце; до",
        "before training",
        "step 40, the last",
        "Decoding: strategy greedy, max_new_tokens 40.",
        "training.learning_rate",
        "2.8.0+cpu",
    ):
        assert said in page.text
    assert page.tags.count("svg") == 2
    assert page.tags.count("mark") == page.tags.count("figure") == 3


def test_the_account_adds_up(make_run: MakeRun):
    cells = walk(make_run()).cells
    start = cells.index("From the text")
    assert cells[start : start + 16] == [
        "From the text",
        "tokens of 12 documents",
        "1,980",
        "EOS, one after each document",
        "12",
        "tokens in all",
        "1,992",
        "Into",
        "3 blocks × 512",
        "1,536",
        "a last, shorter block",
        "200",
        "held out: 2 documents",
        "256",
        "tokens in all",
        "1,992",
    ]


def test_bos_is_part_of_the_account(make_run: MakeRun):
    page = walk(make_run(data={"ledger": {"tokens": 1_968, "num_bos": 12}}))
    start = page.cells.index("BOS, before documents")
    assert page.cells[start + 1 : start + 4] == ["12", "tokens in all", "1,992"]
    assert "+ 12 EOS, one after each document, + 12 BOS, one before each." in page.text
    assert "differ by" not in page.text


def test_padding_is_part_of_the_account(make_run: MakeRun):
    ledger = {"packing": "best_fit", "tokens": 1_950, "padding_tokens": 20}
    page = walk(make_run(data={"ledger": {**ledger, "validation_padding_tokens": 10}}))
    start = page.cells.index("padding")
    assert page.cells[start + 1 : start + 4] == ["30", "tokens in all", "1,992"]
    assert "98.8% full, 20 tokens of padding." in page.text
    assert "differ by" not in page.text


def test_an_account_that_does_not_add_up_says_so(make_run: MakeRun):
    page = walk(make_run(data={"ledger": {"dropped_tokens": 7}}))
    assert "The two sums differ by -7." in page.text


def test_held_out_loss_is_drawn_from_before_to_after(make_run: MakeRun):
    page = walk(make_run(metrics=[row for row in METRICS if "loss" in row]))
    assert re.findall(r"step (\d+): held-out loss (\d\.\d)", page.text) == [
        ("0", "5.5"),
        ("40", "4.5"),
    ]


def test_with_the_best_model_kept_the_last_measurement_has_no_step(make_run: MakeRun):
    best = {"training": {"load_best_model_at_end": True}}
    page = walk(make_run(metrics=METRICS[:3], config=best))
    assert re.findall(r"step (\d+): held-out", page.text) == ["0", "20"]


def test_held_out_loss_that_turns_upwards_is_told(make_run: MakeRun):
    rising = [*METRICS, {"step": 50, "eval_loss": 5.0}]
    page = walk(make_run("rising", metrics=rising))
    assert "Held-out loss was lowest at step 40, 4.500, and ended at 5.000" in page.text
    assert "Held-out loss was lowest" not in walk(make_run("falling")).text


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "</div></main><img src=x onerror=alert(1)>",
        '" onmouseover="x" \'',
        "&lt;b&gt; & &#0; \0\x1b",
        "]]> --> <!-- <![CDATA[ </style>",
        "Мороз\n---\n```\n|",
    ],
)
def test_any_text_is_shown_and_never_markup(make_run: MakeRun, text: str):
    name = text.replace("/", "∕").replace("\0", "")
    rows = [{"step": step, "prompt": text, "continuation": text} for step in (0, 40)]
    page = walk(
        make_run(
            name,
            samples=rows,
            state=text,
            config={"training": {text: text}, "generation": {text: text}, "model": {"name": text}},
            versions={text: text},
            data={"store": text},
        )
    )
    shown = text.replace("\0", "␀").replace("\x1b", "␛")
    assert shown + shown in page.text
    assert {"script", "img", "b", "body"} & set(page.tags) == {"body"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_nothing_is_loaded_and_no_secret_is_shown(make_run: MakeRun):
    rows = [{"step": 0, "prompt": "https://a.example/b.js", "continuation": "url(http://c)"}]
    run_dir = make_run(samples=rows)
    html = write_report(run_dir).read_text(encoding="utf-8")
    page = Walker(html)
    assert not {"src", "href", "srcset", "data", "action"} & {name for name, _ in page.attributes}
    assert not {"link", "script", "iframe", "img", "object"} & set(page.tags)
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html
    assert "https://a.example/b.js" in page.text
    assert "hf_secret" not in html
    assert "(set, not shown)" in page.text


def test_a_loss_that_is_not_a_number_is_told_and_breaks_nothing(make_run: MakeRun):
    losses = [2.0, math.nan, None, math.inf, 1.0]
    page = walk(make_run(metrics=[{"step": i + 1, "loss": v} for i, v in enumerate(losses)]))
    assert "At 3 of 5 log steps the loss was not a finite number, first at step 2." in page.text
    paths = [value for name, value in page.attributes if name == "d"]
    assert not [path for path in paths if re.search("nan|inf", str(path))]


@pytest.mark.parametrize("rows", [None, [], [{"step": 1}], [{"step": 1, "loss": math.nan}]])
def test_without_a_loss_there_is_no_chart(make_run: MakeRun, rows: list[dict[str, float]] | None):
    page = walk(make_run(metrics=rows, samples=None, result={"validation": None, "samples": []}))
    assert "No loss was logged." in page.text
    assert "svg" not in page.tags
    assert "Samples" not in page.text


def test_one_point_is_enough_for_a_chart(make_run: MakeRun):
    page = walk(make_run(metrics=METRICS[:1], result={"validation": None}))
    assert "step 10: training loss 4" in page.text


def test_a_run_in_progress_has_a_report(make_run: MakeRun):
    page = walk(make_run(state="running", result=..., finished=..., samples=None))
    assert "The run is not finished: the last step logged is 40." in page.text
    assert "Before and after" not in page.text
    bare = make_run("bare", metrics=None, samples=None)
    (bare / "run.json").write_text('{"config": {}}', encoding="utf-8")
    assert "A model was trained. The run is not finished." in walk(bare).text


def test_skipped_lines_are_named(make_run: MakeRun):
    run_dir = make_run()
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5')
    said = "Skipped 1 line that could not be read: metrics.jsonl:7."
    assert said in walk(run_dir).text


def test_of_many_samples_some_are_shown(make_run: MakeRun):
    prompts = [f"prompt {number}" for number in range(25)]
    rows = [
        {"step": step, "prompt": prompt, "continuation": "."}
        for step in range(0, 100, 10)
        for prompt in prompts
    ]
    page = walk(make_run(samples=rows, config={"samples": {"prompts": prompts}}))
    assert page.tags.count("figure") == 20 * 4
    assert re.findall(r"(before training|step \d+(?:, the last)?)prompt 7\.", page.text) == [
        "before training",
        "step 30",
        "step 60",
        "step 90, the last",
    ]
    assert "5 more prompts are in samples.jsonl." in page.text
    assert "More are in samples.jsonl: 6 between these." in page.text


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun):
    run_dir = make_run()
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first
    assert not [path for path in run_dir.iterdir() if path.name.startswith(".")]


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="is not a run of gptft"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


RECITAL = {
    "recital": {
        "texts": [
            {"prompt": "Буря <b>|", "num_lines": 3, "lines_before": 0, "lines_after": 2,
             "before": "\nдо", "after": "\nмглою\nнебо"},
            {"prompt": "То", "num_lines": 1, "lines_before": 0, "lines_after": 1,
             "before": "", "after": "\nкак"},
        ]
    },
    "steps": 12, "planned_steps": 40, "is_memorized": True,
}  # fmt: skip


def test_what_is_known_by_heart_is_shown_beside_what_was(make_run: MakeRun):
    run_dir = make_run(result=RECITAL)
    page = walk(run_dir)
    assert (
        "Given the first lines of 2 texts, the model recites 3 of 4 lines that follow, word for "
        "word; before training it recited 0."
    ) in page.text
    assert "before training: 0 of 3 lines" in page.text
    assert "step 12: 2 of 3 lines" in page.text
    assert "step 12: 1 of 1 line" in page.text
    assert "Буря <b>|\nмглою\nнебо" in page.text
    assert "b" not in page.tags
    steps = page.cells.index("steps")
    assert page.cells[steps + 1].startswith("12 of 40: every token of the text had p >= 0.9")


def test_a_run_that_recites_nothing_has_no_such_section(make_run: MakeRun):
    assert "By heart" not in walk(make_run()).text
