"""What docs/decoding.md says must be so.

`python -m tests.test_decoding_docs` writes its tables anew, from what `gptft strategies --json`
prints.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gptft.api import load_config
from gptft.cli.app import app
from gptft.decoding import define
from gptft.decoding.prompts.templates import TEMPLATES
from gptft.decoding.settings import check_strategies, resolve_settings
from gptft.decoding.strategies import PROCESSORS, STRATEGIES, WARPERS
from tests.decoding.test_settings import NEEDED

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "decoding.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for _, block in BLOCKS
    for line in re.findall(r"^gptft .*$", block, flags=re.MULTILINE)
]

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "texts": "texts",
    "ints": "whole numbers",
    "weights": "texts with a number each",
    "decay": "where it starts and the factor",
}


def printed() -> list[dict[str, Any]]:
    """What `gptft strategies --json` prints."""
    done = CliRunner().invoke(app, ["strategies", "--json"])
    assert done.exit_code == 0
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def shown(value: Any) -> str:
    """A default as YAML has it; nothing where there is none."""
    if value in (None, [], {}):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return text[1:-1] if isinstance(value, str) else text


def in_cell(text: str) -> str:
    return text.replace("|", "\\|")


def own_settings(row: Mapping[str, Any]) -> Iterator[str]:
    """The settings that make a strategy what it is, those of which one is needed in bold."""
    if row["needs"]:
        yield " or ".join(f"**`{name}`**" for name in row["needs"])
    for setting in row["settings"]:
        name, default = setting["name"], shown(setting["default"])
        if name in STRATEGIES[row["name"]].own and name not in row["needs"]:
            yield f"`{name}: {default}`" if default else f"`{name}`"


def strategy_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| strategy | | its own settings | draws | source |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name = row["name"]
        link = f"[{name}](../configs/generate/{name}.yaml)"
        draws = {"asked": "`do_sample`"}.get(row["draws"], row["draws"])
        cells = [link, row["description"], ", ".join(own_settings(row)), draws, row["source"]]
        lines.append(f"| {' | '.join(map(in_cell, cells))} |")
    return "\n".join(lines)


def setting_table(rows: list[dict[str, Any]], *, names: list[str]) -> str:
    """Settings by name with their types; of the strategy `temperature`, which changes none."""
    lines = ["| setting | values | default | |", "| --- | --- | --- | --- |"]
    [plain] = [row for row in rows if row["name"] == "temperature"]
    for setting in plain["settings"]:
        if setting["name"] in names:
            values = ", ".join(filter(None, [TYPES[setting["type"]], setting["range"]]))
            default = shown(setting["default"])
            cells = [f"`{setting['name']}`", values, default, setting["description"]]
            lines.append(f"| {' | '.join(map(in_cell, cells))} |")
    return "\n".join(lines)


STAGES = {
    define.BAN: "bans",
    define.OTHER_MODEL: "other models",
    define.BIAS: "biases",
    define.PENALTY: "repetition",
    define.FORM: "length and form",
    define.TEMPERATURE: "before a draw",
    define.MARK: "marks",
}


def order_of_processors() -> str:
    """Every processor by its stage, in the order in which they act."""
    own = [one for row in STRATEGIES.values() for one in row.processors]
    lines: dict[str, list[str]] = {title: [] for title in STAGES.values()}
    for one in sorted([*PROCESSORS, *own], key=lambda one: one.order):
        stage = max(start for start in STAGES if start <= one.order)
        lines[STAGES[stage]].append(f"`{one.name}`")
    items = ((title, ", ".join(dict.fromkeys(names))) for title, names in lines.items())
    return "\n".join(f"{n}. {title}: {names}" for n, (title, names) in enumerate(items, start=1))


def tables() -> dict[str, str]:
    """The page's generated parts, by the name in their markers."""
    rows = printed()
    by_row = [[setting["name"] for setting in row["settings"]] for row in rows]
    everywhere = [name for name in by_row[0] if all(name in names for names in by_row)]
    return {
        "strategies": strategy_table(rows),
        "everywhere": setting_table(rows, names=everywhere),
        "sampling": setting_table(rows, names=sorted(WARPERS)),
        "order": order_of_processors(),
    }


def part(name: str, *, text: str = TEXT) -> str:
    """What stands between two markers."""
    found = re.search(rf"<!-- begin {name}\b.*?-->\n(.*?)<!-- end {name} -->", text, re.DOTALL)
    assert found, name
    return found[1].rstrip("\n")


@pytest.mark.parametrize("name", ["strategies", "everywhere", "sampling", "order"])
def test_the_tables_are_those_of_the_command(name: str):
    assert part(name) == tables()[name], "python -m tests.test_decoding_docs writes it anew"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_parses(command: str):
    group = get_command(app)
    words = shlex.split(command)[1:]
    context = group.make_context("gptft", words, resilient_parsing=False)
    name, found, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
    assert found is not None, name
    parsed = found.make_context(found.name, rest, parent=context)
    config = parsed.params.get("config_file")
    assert config is None or (ROOT / config).is_file()


def test_the_configs_in_it_are_right(tmp_path: Path):
    blocks = [block for kind, block in BLOCKS if kind == "yaml"]
    assert blocks
    for block in blocks:
        path = tmp_path / "my.yaml"
        path.write_text(block, encoding="utf-8")
        config = load_config(path)
        check_strategies(config.strategies)
        resolve_settings(config.generation)


def test_the_python_in_it_runs(capsys: pytest.CaptureFixture[str]):
    [block] = [block for kind, block in BLOCKS if kind == "python"]
    exec(block, {})
    said = capsys.readouterr().out
    assert said.startswith("Мороз и солнце")
    assert "\nБуря мглою" in said


def test_what_it_names_in_code_is_there():
    for name in re.findall(r"\| `(\w+)` \| `", TEXT):
        assert name in TEMPLATES
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link


def test_settings_act_in_the_order_it_says(tiny_model_dir: Path):
    from gptft.decoding.batch import batch_context
    from gptft.decoding.engine import load_model
    from gptft.decoding.processors import named_processors

    said = re.findall(r"`(\w+)`", part("order"))
    common = {
        "sequence_bias": {"fox": 1.0}, "logit_bias": {"5": 1.0},
        "encoder_repetition_penalty": 1.1, "repetition_penalty": 1.1, "frequency_penalty": 0.1,
        "dry_multiplier": 0.5, "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 3,
        "bad_words": ["dog"], "allowed_words": ["fox"], "suppress_tokens": [7],
        "begin_suppress_tokens": [8], "min_new_tokens": 1,
        "exponential_decay_length_penalty": [2, 1.1], "forced_eos_token_id": [0],
    }  # fmt: skip
    asking = {name: row for row in STRATEGIES.values() for name in row.asked_by}
    switches = (one.name for one in PROCESSORS if one.is_cut and one.name in asking)
    cuts = {"temperature": 1.1, **{name: asking[name].defaults[name] for name in switches}}
    del cuts["dynatemp_range"]  # takes the place of temperature
    asked = [
        {"strategy": "temperature", **common, **cuts},
        {"strategy": "dynamic_temperature", "top_p": 0.9, "presence_penalty": 0.1},
        {"strategy": "contrastive_decoding", "amateur_layers": 1, **common},
        {"strategy": "dexperts", "antiexpert_model": str(tiny_model_dir), **common},
        {"strategy": "guidance", **common},
        {"strategy": "context_aware", "context": "fox", **common},
        {"strategy": "choices", "choices": [" fox"], **common, **cuts, "do_sample": True},
        {"strategy": "regex", "regex": "[a-z]+", **common},
        {"strategy": "mirostat", "temperature": 1.1, **common},
        {"strategy": "watermark", **common, **cuts},
        {"strategy": "synthid", **common, **cuts},
    ]
    named = {given["strategy"] for given in asked}
    asked += [
        {"strategy": row.name, **NEEDED.get(row.name, {})}
        for row in STRATEGIES.values()
        if row.processors and row.name not in named
    ]
    seen = set()
    for given in asked:
        settings = resolve_settings(given)
        loaded = load_model(str(tiny_model_dir), settings=settings, use_cpu=True)
        batch = batch_context(loaded, [[5, 6, 7]], rows=1)
        names = [name for name, _ in named_processors(settings, batch)]
        assert names == [name for name in said if name in names]
        seen.update(names)
    assert seen == set(said)


def main() -> None:
    """Write the page's tables anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        marked = rf"(<!-- begin {name}\b.*?-->\n).*?(<!-- end {name} -->)"
        text, count = re.subn(
            marked, lambda m, table=table: m[1] + table + "\n" + m[2], text, flags=re.DOTALL
        )
        assert count == 1, name
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
