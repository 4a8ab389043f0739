"""Bits a byte and the general texts in the report and on the card; runs that know none."""

from gptft.report.model_card import write_model_card
from tests.report.conftest import FACTS, MakeRun
from tests.report.test_html import walk


def figures(before: float, after: float | None) -> dict[str, object]:
    return {
        "loss_before": before, "loss_after": after, "perplexity_before": 9.0,
        "perplexity_after": 10.0, "num_tokens": 300, "bits_per_byte_before": before / 4,
        "bits_per_byte_after": None if after is None else after / 4, "num_bytes": 1_971,
    }  # fmt: skip


def test_the_report_shows_what_tuning_cost(make_run: MakeRun) -> None:
    general = {"ru": figures(3.2, 3.6), "en": figures(4.0, 12.0)}
    page = walk(make_run(result={"general": general}))
    at = page.cells.index("general text, Russian")
    assert page.cells[at : at + 4] == [
        "general text, Russian", "3.200 → 3.600", "9.00 → 10.00", "0.800 → 0.900"
    ]  # fmt: skip
    at = page.cells.index("general text, English")
    assert page.cells[at + 3] == "1.000 → 3.000"
    assert "bits a byte" in page.cells
    assert "that is what tuning cost the model elsewhere" in page.text
    assert "general text, Russian measured on 300 tokens" in page.text


def test_the_card_shows_it(make_run: MakeRun) -> None:
    general = {"ru": figures(3.2, 3.6)}
    validation = {**FACTS["result"]["validation"], **figures(5.5, 4.5)}
    run_dir = make_run(result={"general": general, "validation": validation})
    write_model_card(run_dir)
    card = (run_dir / "model" / "README.md").read_text(encoding="utf-8")
    lines = card.split("\n")
    head = next(line for line in lines if "loss before" in line)
    rows = lines[lines.index(head) + 1 : lines.index(head) + 5]
    assert {line.count("|") for line in (head, *rows)} == {9}
    assert "| general text, Russian | 3.200 | 3.600 | 9.00 | 10.00 | 0.800 | 0.900 | 300 |" in rows
    assert rows[1].startswith("| training text |")
    assert "what tuning cost the model elsewhere" in card


def test_a_run_that_knows_no_bytes_has_no_such_column(make_run: MakeRun) -> None:
    run_dir = make_run()
    page = walk(run_dir)
    assert "bits a byte" not in page.text
    write_model_card(run_dir)
    card = (run_dir / "model" / "README.md").read_text(encoding="utf-8")
    assert "| training text | 5.000 | 1.000 | 148.41 | 2.72 | 1,732 |" in card
    assert "bits a byte" not in card


def test_what_isnt_a_figure_is_left_out(make_run: MakeRun) -> None:
    general = {"ru": None, "en": {"loss_before": "x"}, "<b>": figures(1.0, None)}
    page = walk(make_run(result={"general": general}))
    names = [cell for cell in page.cells if cell.startswith("general text")]
    assert names == ["general text, <b>"]
    at = page.cells.index(names[0])
    assert page.cells[at + 1].startswith("1.000 →")
