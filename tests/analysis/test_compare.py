import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import gptft
from gptft.analysis.compare.entries import comparison_entries
from gptft.analysis.compare.results import (
    METRICS,
    MeasuredText,
    StrategyEntry,
    StrategyResult,
    equal_earlier,
)
from gptft.analysis.compare.run import compare
from gptft.analysis.compare.view import comparison_table, stand_ins_in_words
from gptft.decoding import auxiliary_models as others
from gptft.decoding.settings import resolve_settings
from gptft.decoding.strategies import STRATEGIES
from gptft.errors import ConfigError, ModelError
from gptft.files import as_json
from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe

PROMPT = "frost and sun"


def entries(names=None, *, own=None, base_model=None, prompt=PROMPT, **shared):
    shared = {"max_new_tokens": 8, "seed": 3, **shared}
    shared = {name: value for name, value in shared.items() if value is not None}
    return comparison_entries(
        names, own=own or {}, shared=shared, base_model=base_model, prompt=prompt
    )


def rows_of(model_dir, names, *, prompt=PROMPT, **given):
    training_text = given.pop("training_text", None)
    return compare(
        str(model_dir), prompt, entries(names, prompt=prompt, **given), training_text=training_text
    )


def printed(rows, *, width, terminal=True):
    console = Console(
        width=width or 100_000,
        force_terminal=terminal,
        color_system=None,
        soft_wrap=not terminal,
    )
    with console.capture() as capture:
        console.print(comparison_table(rows))
    return capture.get()


@pytest.fixture(scope="module")
def all_rows(model_dir):
    """Every strategy, on a model that was tuned from itself, with one of a config's own."""
    found = entries(own={"mine": {"top_p": 0.5}}, base_model=str(model_dir))
    return compare(str(model_dir), PROMPT, found)


class TestEntries:
    def test_all_of_ours_in_order_then_the_configs_own(self):
        found = entries(own={"mine": {"top_p": 0.5}}, base_model="some/base")
        assert [entry.label for entry in found] == [*STRATEGIES, "mine"]
        assert found[-1].strategy == "nucleus"
        assert all(entry.settings for entry in found)

    def test_only_those_named_each_once_in_the_order_given(self):
        own = {"mine": {"strategy": "beam", "num_beams": 3}}
        found = entries(["mine", "greedy", "mine"], own=own)
        assert [entry.label for entry in found] == ["mine", "greedy"]
        assert found[0].settings["num_beams"] == 3

    def test_shared_settings_reach_those_that_take_them(self):
        names = ["greedy", "nucleus", "dola", "contrastive", "xtc", "top_k"]
        found = entries(names, temperature=0.5, xtc_threshold=0.2, top_k=7)
        by_name = {entry.label: entry.settings for entry in found}
        assert {settings["max_new_tokens"] for settings in by_name.values()} == {8}
        assert [by_name[n]["temperature"] for n in ("nucleus", "dola")] == [0.5, 1.0]
        assert [by_name[n]["top_k"] for n in ("nucleus", "contrastive", "top_k")] == [7, 7, 7]
        assert [by_name[n]["xtc_threshold"] for n in ("nucleus", "xtc")] == [0.1, 0.2]

    def test_what_draws_when_asked_draws_when_asked(self):
        (dola,) = entries(["dola"], do_sample=True, temperature=0.5)
        assert dola.settings.do_sample
        assert dola.settings["temperature"] == 0.5

    def test_a_flag_wins_over_a_configs_own_value(self):
        (mine,) = entries(["mine"], own={"mine": {"top_p": 0.5, "seed": 9}}, top_p=0.7)
        assert (mine.settings["top_p"], mine.settings.seed) == (0.7, 3)

    def test_one_text_a_strategy(self):
        own = {"mine": {"top_p": 0.5, "num_return_sequences": 4}}
        (mine,) = entries(["mine"], own=own)
        assert mine.settings["num_return_sequences"] == 1
        with pytest.raises(ConfigError, match="num_return_sequences is 4, and a comparison"):
            entries(num_return_sequences=4)

    @pytest.mark.parametrize(
        ("names", "shared", "message"),
        [
            (["nukleus"], {}, "no strategy 'nukleus' to compare. Did you mean nucleus?"),
            ([], {}, "no strategy to compare"),
            (["greedy", "beam"], {"top_p": 0.8}, "top_p is 0.8, and none of the strategies"),
            (["greedy"], {"top_p": 2}, "top_p must be at most 1, not 2"),
            (["greedy"], {"top_q": 2}, "top_q is not a setting"),
            (["greedy"], {"strategy": "beam"}, "strategy is beam"),
        ],
    )
    def test_wrong_ones_are_refused(self, names, shared, message):
        with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
            entries(names, **shared)

    def test_neutral_flags_are_no_mistake(self):
        assert entries(["greedy"], top_p=1.0, num_return_sequences=1)[0].settings

    def test_settings_that_cant_be_had_leave_a_strategy_out(self):
        diverse, beam = entries(["diverse_beam", "beam"], num_beams=4)
        assert "3 groups can't share evenly" in diverse.left_out
        assert beam.settings["num_beams"] == 4


class TestStandIns:
    @pytest.mark.parametrize(
        ("prompt", "name", "expected"),
        [
            ("«Мороз» и", "constrained_beam", {"force_words": ["Мороз"]}),
            ("Мороз", "choices", {"choices": [" да", " нет"]}),
            ("Is it? ", "choices", {"choices": ["yes", "no"]}),
            ("a b c d e", "context_aware", {"context": "a b"}),
            ("a", "context_aware", {"context": "a\n"}),
        ],
    )
    def test_they_come_from_the_prompt(self, prompt, name, expected):
        (entry,) = entries([name], prompt=prompt)
        assert entry.stand_ins == expected
        assert {n: entry.settings[n] for n in expected} == expected

    def test_context_and_prompt_together_are_the_whole_prompt(self):
        (half,) = entries(["context_aware"], prompt="a b c d e")
        assert (half.stand_ins["context"], half.prompt) == ("a b", " c d e")
        (whole,) = entries(["context_aware"], prompt="a")
        assert whole.prompt == "a"

    def test_models_are_the_base(self):
        names = ["contrastive_decoding", "dexperts", "assisted"]
        assert [entry.stand_ins for entry in entries(names, base_model="b")] == [
            {"amateur_model": "b"},
            {"antiexpert_model": "b"},
            {"assistant_model": "b"},
        ]

    def test_without_a_base_there_are_layers_or_a_reason(self):
        layers, dexperts, assisted = entries(["contrastive_decoding", "dexperts", "assisted"])
        assert layers.stand_ins == {"amateur_layers": 1}
        assert "needs expert_model or antiexpert_model" in dexperts.left_out
        assert "needs assistant_model" in assisted.left_out

    def test_an_empty_prompt_has_no_words(self):
        words, context, regex = entries(["constrained_beam", "context_aware", "regex"], prompt="")
        assert "needs force_words, and the prompt has no word" in words.left_out
        assert "needs context" in context.left_out
        assert regex.settings

    def test_what_is_given_is_no_stand_in(self):
        own = {"mine": {"strategy": "regex", "regex": "[0-9]+"}}
        names = ["mine", "constrained_beam", "dexperts", "context_aware"]
        given = {"force_words": ["sun"], "expert_model": "x", "context": "c"}
        for entry in entries(names, own=own, base_model="b", **given):
            assert not entry.stand_ins
            assert entry.prompt is None
            assert entry.settings


class Trained:
    """A training text of which half of each text is a copy."""

    def copies(self, token_id_lists):
        return [type("Copied", (), {"longest": len(ids) // 2}) for ids in token_id_lists]


class TestRows:
    def test_a_rows_figures_are_those_counted_by_hand(self, model_dir, model, tokenizer):
        (row,) = rows_of(model_dir, ["greedy"], max_new_tokens=12, training_text=Trained())
        ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
        length, logprobs = ids.shape[1], []
        with torch.no_grad():
            for _ in range(12):
                scores = model(ids).logits[0, -1].double()
                token = scores.argmax()
                logprobs.append(float(scores[token] - scores.exp().sum().log()))
                ids = torch.cat([ids, token.view(1, 1)], dim=1)
        new = ids[0, length:].tolist()
        assert 0 not in new
        assert len(set(new)) < len(new)
        whole = tokenizer.decode(ids[0]).rstrip("\ufffd")
        grams = {n: Counter(zip(*(new[i:] for i in range(n)), strict=False)) for n in range(1, 5)}
        expected = {
            "text": whole,
            "continuation": whole.removeprefix(PROMPT),
            "num_new_tokens": 12,
            "stopped": "length",
            "model_calls": 12,
            "mean_logprob": pytest.approx(sum(logprobs) / 12, abs=1e-4),
            "distinct_1": len(grams[1]) / 12,
            "distinct_2": len(grams[2]) / 11,
            "distinct_3": len(grams[3]) / 10,
            "repetition": pytest.approx(sum(n - 1 for n in grams[4].values()) / 9),
            "longest_copy": 6,
            "left_out": None,
            "seed": None,
        }
        found = as_json(row)
        assert {name: found[name] for name in expected} == expected
        assert found["tokens_per_s"] == pytest.approx(12 / found["seconds"])

    def test_every_strategy_writes_a_text(self, all_rows):
        assert [row.label for row in all_rows] == [*STRATEGIES, "mine"]
        assert {row.label: row.left_out for row in all_rows if row.measured is None} == {}
        assert all(row.measured.num_new_tokens for row in all_rows)
        assert {row.seed for row in all_rows} == {3, None}
        json.dumps([as_json(row) for row in all_rows], allow_nan=False)

    def test_exact_strategies_write_what_greedy_writes(self, all_rows):
        texts = {row.label: row.measured.continuation for row in all_rows}
        same = ("assisted", "early_exit", "prompt_lookup", "lookahead", "dexperts")
        assert {texts[name] for name in same} == {texts["greedy"]}
        assert texts["choices"] in (" yes", " no")

    def test_a_context_is_part_of_the_text_shown(self, all_rows):
        (row,) = [row for row in all_rows if row.label == "context_aware"]
        assert as_json(row)["text"].startswith(PROMPT)
        assert row.entry.settings["context"] == "frost"

    def test_drawing_strategies_share_a_seed(self, model_dir):
        rows = rows_of(model_dir, ["temperature", "greedy", "typical"], seed=None)
        assert rows[0].seed == rows[2].seed is not None
        assert rows[1].seed is None

    def test_a_seed_gives_the_same_text(self, model_dir):
        first, second = (rows_of(model_dir, ["temperature"])[0] for _ in range(2))
        assert first.measured.continuation == second.measured.continuation

    def test_a_text_that_ends_at_once_has_no_figures(self, model_dir):
        (row,) = rows_of(model_dir, ["greedy"], logit_bias={"0": 1000.0})
        written = row.measured
        assert (written.num_new_tokens, written.stopped) == (0, "eos")
        assert (written.mean_logprob, written.repetition) == (None, None)
        assert set(written.distinct.values()) == {None}
        assert "0 tokens" in printed([row], width=None, terminal=False)


class TestFailures:
    @pytest.fixture
    def one_layer(self, tokenizer, tmp_path):
        torch.manual_seed(0)
        sizes = {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": 48}
        GPT2LMHeadModel(GPT2Config(vocab_size=300, **sizes)).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    def test_one_that_fails_becomes_a_row(self, one_layer):
        early, greedy = rows_of(one_layer, ["early_exit", "greedy"])
        assert "one layer" in early.left_out
        assert early.measured is None
        assert greedy.measured is not None
        found = as_json(early)
        assert found["left_out"] == early.left_out
        assert found["text"] is found["tokens_per_s"] is found["mean_logprob"] is None
        assert found.keys() == as_json(greedy).keys()

    def test_a_model_that_isnt_there_becomes_a_row(self, model_dir):
        own = {"draft": {"strategy": "assisted", "assistant_model": "./not-here"}}
        draft, greedy = rows_of(model_dir, ["draft", "greedy"], own=own)
        assert "not-here" in draft.left_out
        assert greedy.measured

    def test_nothing_to_compare_is_an_error_before_a_model_is_loaded(self):
        found = entries(["assisted", "dexperts"])
        with pytest.raises(ConfigError, match="needs assistant_model") as caught:
            compare("./no-such-model", PROMPT, found)
        assert len(caught.value.problems) == 2

    def test_all_failing_is_an_error(self, one_layer):
        with pytest.raises(ConfigError, match="one layer"):
            rows_of(one_layer, ["early_exit"])

    def test_a_model_that_isnt_there_is_an_error(self):
        with pytest.raises(ModelError, match="no-such-model"):
            compare("./no-such-model", PROMPT, entries(["greedy"]))

    def test_a_prompt_that_doesnt_fit_is_an_error_said_once(self, model_dir):
        with pytest.raises(ConfigError, match="doesn't fit") as caught:
            rows_of(model_dir, ["greedy", "nucleus"], prompt="x" * 45)
        assert len(caught.value.problems) == 1


class TestModels:
    def test_each_is_loaded_once(self, model_dir, monkeypatch):
        loaded = []
        load = others.load_for_inference
        monkeypatch.setattr(
            others,
            "load_for_inference",
            lambda files, **given: loaded.append(files.name) or load(files, **given),
        )
        names = ["contrastive_decoding", "dexperts", "assisted"]
        assert all(row.measured for row in rows_of(model_dir, names, base_model=str(model_dir)))
        assert loaded == [str(model_dir)]

    def test_one_that_drafts_in_other_tokens_is_still_no_amateur(self, model_dir, tmp_path):
        letters = train_bpe(iter(["frost"]), vocab_size=257, min_frequency=2)
        save_tokenizer(letters, tmp_path, model_max_length=48)
        tiny = AutoModelForCausalLM.from_pretrained(model_dir)
        tiny.resize_token_embeddings(257)
        tiny.save_pretrained(tmp_path)
        draft, amateur = rows_of(
            model_dir, ["assisted", "contrastive_decoding"], base_model=str(tmp_path)
        )
        assert draft.measured
        assert "another tokenizer" in amateur.left_out


class TestTable:
    def test_a_wide_window_has_a_line_a_strategy(self, all_rows):
        table = printed(all_rows, width=140)
        lines = [line.split() for line in table.splitlines()]
        for row in all_rows:
            (line,) = [words for words in lines if words[:1] == [row.label]]
            assert line[1] == str(row.measured.num_new_tokens)
            assert line[3] == f"{row.measured.mean_logprob:.2f}"
        assert max(map(cell_len, table.splitlines())) <= 140
        assert "copy" not in table

    def test_stand_ins_are_shown(self, all_rows):
        shown = ('regex "[^.!?]{1,80}[.!?]"', 'force_words "frost"', 'choices " yes", " no"')
        for text in (printed(all_rows, width=200), printed(all_rows, width=None, terminal=False)):
            assert all(f"stand-in: {words}" in text for words in shown)
        greedy = all_rows[0]
        assert stand_ins_in_words(greedy) == ""

    def test_drafts_are_told(self, all_rows):
        assert "of drafted tokens kept" in printed(all_rows, width=140)

    @pytest.mark.parametrize("width", [99, 40])
    def test_a_narrow_window_has_whole_texts(self, all_rows, width):
        text = printed(all_rows, width=width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert all(f"{row.label}" in text for row in all_rows)

    def test_off_a_terminal_lines_stay_whole(self, model_dir):
        prompt = "Мороз и солнце;\nдень"
        rows = rows_of(model_dir, ["greedy", "assisted"], prompt=prompt)
        text = printed(rows, width=None, terminal=False)
        assert text.startswith(f"greedy\n{prompt}")
        assert "left out: It needs assistant_model." in text
        assert "\x1b" not in text

    def test_a_long_text_is_cut_to_its_column(self, all_rows):
        long = replace(
            all_rows[0], measured=replace(all_rows[0].measured, continuation="слово " * 90)
        )
        table = printed([long], width=120)
        assert "…" in table
        assert max(map(cell_len, table.splitlines())) <= 120

    def test_nothing_in_a_text_acts_on_the_terminal(self, all_rows):
        evil = "\x1b[2J\r\u202e[red]x[/red]\n\n"
        row = replace(all_rows[0], measured=replace(all_rows[0].measured, continuation=evil))
        for width in (120, 60, None):
            text = printed([row], width=width, terminal=width is not None)
            assert "\\x1b[2J\\r\\u202e[red]x[/red]" in text
            assert not {"\x1b", "\r", "\u202e"} & set(text)

    def test_why_one_is_left_out_stands_below(self):
        entry = StrategyEntry("draft", "assisted", None, left_out="no reason [at] all")
        written = StrategyEntry("greedy", "greedy", resolve_settings({"strategy": "greedy"}))
        rows = [
            StrategyResult(entry, PROMPT, left_out=entry.left_out),
            StrategyResult(written, PROMPT),
        ]
        assert "draft: no reason [at] all\n" in printed(rows, width=100).replace("  ", "")


class TestBest:
    def row(self, **values):
        settings = resolve_settings({"strategy": "greedy"})
        given = {"mean_logprob": None, "distinct": {}, "repetition": None, **values}
        self.number = getattr(self, "number", 0) + 1
        written = MeasuredText(f"text {self.number}", 1, "eos", speed=None, **given)
        return StrategyResult(StrategyEntry("greedy", "greedy", settings), PROMPT, written)

    def best(self, name, rows):
        (metric,) = [metric for metric in METRICS if metric.name == name]
        return metric.best_of(rows)

    def test_the_highest_or_the_lowest_as_it_is_shown(self):
        rows = [self.row(mean_logprob=value, repetition=-value) for value in (-2, -1.001, -1.004)]
        assert self.best("mean_logprob", rows) == {1, 2}
        assert self.best("repetition", rows) == {1, 2}

    def test_what_isnt_known_is_never_the_best(self):
        rows = [self.row(longest_copy=value) for value in (None, 4, 3)]
        assert self.best("longest_copy", rows) == {2}

    def test_a_text_that_an_earlier_result_has_as_well_is_never_the_best(self):
        first, second, third = (self.row(mean_logprob=value) for value in (-1, -2, -3))
        again = replace(first, entry=replace(first.entry, label="beam"))
        assert self.best("mean_logprob", [first, again, second, third]) == {0}
        assert equal_earlier([first, second, again, third, again]) == {2: 0, 4: 0}

    def test_where_all_are_alike_none_is_the_best(self):
        assert self.best("repetition", [self.row(repetition=0.0)] * 2) == frozenset()


def test_a_stop_string_alone_stays_one_beside_those_of_a_template(model_dir):
    given = {"stop_strings": "END", "max_new_tokens": 2}
    (row,) = gptft.compare(str(model_dir), ["x"], ["greedy"], given=given, template="qa")
    assert row.entry.settings["stop_strings"] == ["END", "\nQ:"]


def test_choosing_what_to_compare_needs_no_torch():
    code = (
        "import sys; from gptft.analysis.compare.entries import comparison_entries; "
        "import gptft.analysis.compare.run, gptft.analysis.compare.view; "
        "import gptft.report.comparison; "
        "comparison_entries(None, own={}, shared={}, base_model=None, prompt='x'); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
