import shlex
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from gptft.errors import GptftError, RunError
from gptft.report.model_card import write_model_card
from tests.report.conftest import MakeRun
from tests.report.test_html import RECITAL


def card(run_dir: Path) -> tuple[dict[str, Any], str]:
    """The front matter and the body of a run's card."""
    text = write_model_card(run_dir).read_text(encoding="utf-8")
    start, front, body = text.split("---\n", 2)
    assert start == ""
    return YAML(typ="safe", pure=True).load(front), body


def fences(body: str) -> list[str]:
    return [token.content for token in MarkdownIt().parse(body) if token.type == "fence"]


def test_the_card_lies_in_the_model_folder_and_says_what_the_run_did(make_run: MakeRun):
    run_dir = make_run()
    assert write_model_card(run_dir) == run_dir / "model" / "README.md"
    front, body = card(run_dir)
    assert front == {
        "library_name": "transformers",
        "model_name": "poems",
        "pipeline_tag": "text-generation",
        "tags": ["gptft"],
    }
    for said in (
        "pico, a model of 4.4 million parameters, was fine-tuned in 40 steps on 69,440 tokens, "
        "4,000% of a text of 10 documents (1,736 tokens), which took 1 min 2 s. "
        "On held-out text its perplexity fell from 244.69 to 90.02.",
        "- Base model: `pico`, bundled with gptft.",
        "- Parameters: 4,439,040.",
        "- Context: 1,024 tokens.",
        "- tokens seen: 69,440: 4,000% of the text, 40.0 epochs",
        "- machine: 2 CPU threads",
        "- seed: 42",
        "- `learning_rate`: `0.001`",
        "| training text | 5.000 | 1.000 | 148.41 | 2.72 | 1,732 |",
        "| held-out text | 5.500 | 4.500 | 244.69 | 90.02 | 255 |",
        "Block store: `0123456789abcdef0123456789abcdef`.",
        "1,980 tokens + 12 EOS = 3 blocks of 512 + 200 in the last block + 0 dropped + "
        "256 held out.",
        "Continued after step 40:",
        "Training saw 4,000% of the text, 40.0 epochs.",
        "The held-out part is small, 255 tokens",
        "- torch: 2.8.0+cpu",
    ):
        assert said in body
    assert {"Мороз и солнце;\n", " до\n", " после\n"} < set(fences(body))


@pytest.mark.parametrize(
    ("name", "base", "on_hub", "said"),
    [
        ("/home/somebody/lora", "/home/somebody/gpt", None, "`lora`, an adapter (DoRA) of `gpt`"),
        ("/home/somebody/lora", "who/gpt", "who/gpt", "`lora`, an adapter (DoRA) of `who/gpt`"),
        (
            "who/lora", "who/gpt", "who/lora",
            "[who/lora](https://huggingface.co/who/lora), an adapter (DoRA) of `who/gpt`",
        ),
    ],
)  # fmt: skip
def test_an_adapter_is_named_with_its_base(
    make_run: MakeRun, name: str, base: str, on_hub: str | None, said: str
):
    run_dir = make_run(config={"model": {"name": name}}, adapter={"kind": "DoRA", "base": base})
    write_model_card(run_dir)
    front, body = card(run_dir)
    assert front.get("base_model") == on_hub
    assert f"- Base model: {said}, merged into it." in body
    assert "somebody" not in body


def test_no_path_and_no_secret_is_published(make_run: MakeRun):
    run_dir = make_run(
        config={
            "model": {"name": "/home/somebody/models/gpt/model"},
            "training": {"accelerator_config": "/home/somebody/accelerator.json"},
            "generation": {"assistant_model": "/home/somebody/runs/draft/model", "regex": "/a+"},
        }
    )
    text = write_model_card(run_dir).read_text(encoding="utf-8")
    assert "somebody" not in text
    assert "hf_secret" not in text
    assert "Base model: `gpt`, a model folder." in text
    assert "- `accelerator_config`: `accelerator.json`" in text
    assert "assistant_model draft, regex /a+" in text
    assert "base_model" not in text


def test_a_hub_model_is_named_in_the_front_matter(make_run: MakeRun):
    model = {"name": "openai-community/gpt2", "revision": "v`1`", "config_overrides": {"p": 0.0}}
    front, body = card(make_run(config={"model": model}))
    assert front["base_model"] == "openai-community/gpt2"
    link = "[openai-community/gpt2](https://huggingface.co/openai-community/gpt2)"
    assert f"{link}, revision `` v`1` ``; changed in its config: `p` `0.0`." in body


def test_a_revision_or_a_file_in_a_hub_models_name_is_none_of_its_repository(make_run: MakeRun):
    front, body = card(make_run(config={"model": {"name": "owner/name@v1/small.gguf"}}))
    assert front["base_model"] == "owner/name"
    assert "[owner/name](https://huggingface.co/owner/name), revision `v1`" in body


def test_averaged_models_are_named_without_their_paths(make_run: MakeRun):
    third = {"name": "./runs/third", "weight": 2.5}
    others = ["/home/somebody/runs/second/model", third, "openai-community/gpt2"]
    _, body = card(make_run(config={"model": {"name": "pico", "average_with": others}}))
    assert (
        "Base model: `pico`, bundled with gptft; training began at the mean of its weights and "
        "those of `second`, `third` (weight 2.5), `openai-community/gpt2`." in body
    )
    assert "somebody" not in body


def test_a_model_from_scratch_has_no_base(make_run: MakeRun):
    front, body = card(make_run(config={"model": {"from_scratch": {"model_type": "llama"}}}))
    assert "base_model" not in front
    assert "Base model: none, a new `llama` trained from scratch." in body
    assert "A new llama model of 4.4 million parameters was trained from scratch" in body
    assert "inherits" not in body


def test_weights_saved_in_another_dtype_are_told(make_run: MakeRun):
    _, body = card(make_run(dtype="bfloat16"))
    assert "Weights: float32; trained and measured in bfloat16." in body


@pytest.mark.parametrize(
    "name",
    [
        "Мой `бег` | 1",
        "---",
        "a\n---\nbase_model: x\n# b",
        ': {"<script>',
        "\x85\u2028\x1b",
        "- [x](y)",
        "*&!%@",
        "🎉\udcff",
    ],
)
def test_any_name_and_any_text_stay_what_they_are(make_run: MakeRun, name: str):
    prompts = ["```\n---\n| a |\n<b>`", "~~~~\n# x\n", "Мороз\r\n\0"]
    rows = [
        {"step": step, "prompt": prompt, "continuation": f"````\n{prompt}\n---\n{name}"}
        for step in (0, 1)
        for prompt in prompts
    ]
    front, body = card(make_run(name, samples=rows, config={"samples": {"prompts": prompts}}))
    assert front["model_name"] == name.replace("\udcff", "?")
    assert "base_model" not in front
    found = MarkdownIt().parse(body)
    assert [
        found[i + 1].content for i, t in enumerate(found) if (t.tag, t.nesting) == ("h2", 1)
    ] == [
        "Model",
        "How to use it",
        "Data",
        "Training",
        "Results",
        "Samples",
        "Limits",
        "Versions",
    ]
    kinds = {token.type for token in found}
    kinds |= {child.type for token in found for child in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "hr", "blockquote_open", "link_open"}
    assert fences(body)[2] == "```\n---\n| a |\n<b>`\n"
    assert len(fences(body)) == 2 + 3 * len(prompts)


def test_examples_use_a_short_prompt_of_the_run_and_quote_it(make_run: MakeRun):
    prompt = 'it\'s "so" $HOME `x`'
    rows = [
        {"step": 0, "prompt": text, "continuation": ""}
        for text in ("two\nlines", "x" * 101, prompt)
    ]
    _, body = card(make_run(samples=rows, config={"samples": {"prompts": ["a", "b", "c"]}}))
    shell, python, *_ = fences(body)
    assert shlex.split(shell) == ["gptft", "generate", "path/to/model", "--prompt", prompt]
    assert f"tokenizer({prompt!r}, return_tensors=" in python
    compile(python, "card", "exec")
    assert "(Nothing: the model ended the text at once.)" in body


def test_bos_and_padding_are_in_the_account(make_run: MakeRun):
    ledger = {"packing": "best_fit", "tokens": 1_938, "num_bos": 12, "padding_tokens": 30}
    _, body = card(make_run(data={"ledger": ledger}))
    assert (
        "1,938 tokens + 12 EOS + 12 BOS + 30 of padding = 3 blocks of 512 + 200 in the last block "
        "+ 0 dropped + 256 held out."
    ) in body


def test_a_run_without_samples_or_validation(make_run: MakeRun):
    ledger = {
        "validation_documents": 0,
        "validation_tail_tokens": 0,
        "tail_tokens": 456,
    }
    run_dir = make_run(
        samples=None,
        metrics=None,
        data={"ledger": ledger},
        result={"validation": None, "samples": []},
    )
    _, body = card(run_dir)
    assert "On its training text its perplexity fell from 148.41 to 2.72." in body
    assert "## Samples" not in body
    assert "held-out text" not in body
    assert "No text was held out" in body


def test_figures_that_are_not_finite_are_told(make_run: MakeRun):
    figures = {"loss_after": float("nan"), "perplexity_after": float("inf"), "num_tokens": None}
    _, body = card(make_run(result={"validation": figures}))
    assert "| held-out text | 5.500 | not a number | 244.69 | infinite | – |" in body
    assert "On held-out text its perplexity is not a finite number" in body


def test_little_is_enough_for_a_card(make_run: MakeRun):
    run_dir = make_run(metrics=None, samples=None, state="running", result=..., data=..., seed=...)
    (run_dir / "model" / "config.json").unlink()
    _, body = card(run_dir)
    assert "The run is not finished." in body
    (run_dir / "run.json").write_text('{"config": {}}', encoding="utf-8")
    _, body = card(run_dir)
    assert "A model was trained. The run is not finished." in body


def test_the_same_run_gives_the_same_card(make_run: MakeRun):
    run_dir = make_run()
    first = write_model_card(run_dir).read_bytes()
    assert write_model_card(run_dir).read_bytes() == first
    assert sorted(path.name for path in (run_dir / "model").iterdir()) == [
        "README.md",
        "config.json",
    ]


def test_a_run_without_a_model_is_refused(make_run: MakeRun):
    run_dir = make_run()
    (run_dir / "model" / "config.json").unlink()
    (run_dir / "model").rmdir()
    with pytest.raises(RunError, match="has no finished model"):
        write_model_card(run_dir)
    with pytest.raises(GptftError):
        write_model_card(run_dir / "absent")


@pytest.mark.parametrize(
    ("result", "metrics", "said"),
    [
        # 434 of the 3 x 512 + 200 tokens of the training part.
        (
            {"steps": 12, "num_tokens": 434},
            [],
            "in 12 steps on 434 tokens, 25.0% of a text of 10 documents (1,736 tokens), which",
        ),
        (
            {"num_tokens": 1_736},
            [],
            "in 40 steps on 1,736 tokens, 100% of a text of 10 documents (1,736 tokens), which",
        ),
        ({"num_tokens": ...}, [], "in 40 steps on a text of 10 documents (1,736 tokens), which"),
        (
            ...,
            [{"step": 6, "epoch": 0.5, "loss": 4.0}],
            "was fine-tuned on 50.0% of a text of 10 documents (1,736 tokens). The run is not",
        ),
    ],
)
def test_the_card_says_how_much_of_the_text_was_seen(
    make_run: MakeRun, result: Any, metrics: list[dict[str, Any]], said: str
):
    run_dir = make_run(metrics=metrics, result=result, state="done" if metrics == [] else "stopped")
    write_model_card(run_dir)
    assert said in card(run_dir)[1]


def test_the_card_says_what_the_model_knows_by_heart(make_run: MakeRun):
    _, body = card(make_run(result=RECITAL))
    assert "the model recites 3 of 4 lines that follow" in body
    rows = [
        line for line in body.split("## By heart")[1].split("\n## ")[0].split("\n") if "|" in line
    ]
    assert rows[0] == "| given | lines that follow | recited before | after |"
    assert rows[2:] == ["| Буря \\<b\\>\\| | 3 | 0 | 2 |", "| То | 1 | 0 | 1 |"]
    assert "- steps: 12 of 40: every token" in body
    _, body = card(make_run("recites", samples=None, result={**RECITAL, "samples": []}))
    assert "gptft generate path/to/model --prompt 'Буря <b>|'" in body
