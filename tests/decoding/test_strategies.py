import subprocess
import sys

import pytest

from gptft.decoding.strategies import (
    SETTINGS,
    SHARED,
    STRATEGIES,
    SWITCHES,
    WARPERS,
    choose_strategy,
    find_strategy,
    listed,
)
from gptft.errors import ConfigError


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
class TestTable:
    def test_describes_itself_in_one_sentence_and_names_a_source(self, strategy):
        assert strategy.description.endswith(".")
        assert ". " not in strategy.description
        assert strategy.source

    def test_its_values_are_in_their_own_ranges(self, strategy):
        for name, value in strategy.values.items():
            if value != SETTINGS[name].neutral:
                assert SETTINGS[name].read(value) == value

    def test_every_setting_it_takes_exists_and_is_listed_once(self, strategy):
        assert len(strategy.takes) == len(set(strategy.takes))
        assert set(strategy.takes) <= set(SETTINGS)

    def test_its_defaults_and_needs_are_settings_it_takes(self, strategy):
        assert set(strategy.defaults) | set(strategy.needs) <= set(strategy.takes)
        assert not set(strategy.defaults) & set(strategy.needs)

    def test_beams_and_temperature_are_there_just_where_it_uses_them(self, strategy):
        assert ("num_beams" in strategy.takes) is strategy.beams is ("beam" in strategy.name)
        assert ("temperature" in strategy.takes) is (strategy.draws != "never")
        assert ("do_sample" in strategy.takes) is (strategy.draws == "asked")

    def test_a_setting_that_needs_another_comes_with_it(self, strategy):
        for name, switches in SWITCHES.items():
            if name in strategy.takes:
                assert set(switches) <= set(strategy.takes)

    def test_every_one_can_be_held_to_a_length_and_kept_from_words(self, strategy):
        assert {"max_new_tokens", "stop_strings", "bad_words"} <= set(strategy.takes)

    def test_its_own_settings_are_all_it_changes_or_shares_with_few(self, strategy):
        assert set(strategy.defaults) <= set(strategy.own)
        assert set(strategy.takes) - SHARED <= set(strategy.own)
        if strategy.name not in ("greedy", "temperature"):
            assert strategy.own

    def test_its_dict_has_every_setting_with_its_default(self, strategy):
        row = strategy.to_dict()
        found = {setting["name"]: setting["default"] for setting in row["settings"]}
        assert found == strategy.values
        assert row["needs"] == list(strategy.needs)

    def test_only_one_text_at_a_time_is_said_why(self, strategy):
        drafts = {"assisted", "early_exit", "prompt_lookup", "lookahead"}
        assert bool(strategy.single) is (strategy.name in drafts)


def test_every_setting_is_used_by_some_strategy():
    used = {name for row in STRATEGIES.values() for name in row.takes}
    assert used == set(SETTINGS) - {"seed"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "greedy"),
        ({"max_new_tokens": 5}, "greedy"),
        ({"bad_words": ["x"], "stop_strings": ["."]}, "greedy"),
        ({"dry_multiplier": 0.8, "frequency_penalty": 0.5, "presence_penalty": 0.5}, "greedy"),
        ({"num_beams": 1}, "greedy"),
        ({"num_beams": 4}, "beam"),
        ({"temperature": 1.0}, "temperature"),
        ({"temperature": 0.7}, "temperature"),
        ({"do_sample": True}, "temperature"),
        ({"do_sample": False}, "greedy"),
        ({"top_k": 20}, "top_k"),
        ({"top_k": 0}, "temperature"),
        ({"top_p": 0.8}, "nucleus"),
        ({"top_k": 20, "top_p": 0.8, "temperature": 0.5}, "nucleus"),
        ({"top_k": 20, "top_p": 1.0}, "top_k"),
        ({"num_beams": 4, "top_p": 0.8}, "beam_sampling"),
        ({"num_beams": 4, "do_sample": True}, "beam_sampling"),
        ({"num_beams": 1, "top_p": 0.8}, "nucleus"),
        ({"min_p": 0.1}, "min_p"),
        ({"min_p": 0.1, "top_p": 0.9}, "min_p"),
        ({"top_h": 0.4}, "top_h"),
        ({"typical_p": 0.9}, "typical"),
        ({"epsilon_cutoff": 1e-3}, "epsilon"),
        ({"eta_cutoff": 1e-3}, "eta"),
        ({"top_n_sigma": 1.0}, "top_n_sigma"),
        ({"top_a": 0.2}, "top_a"),
        ({"tfs_z": 0.9}, "tail_free"),
        ({"dynatemp_range": 0.5}, "dynamic_temperature"),
        ({"smoothing_factor": 0.3}, "quadratic_smoothing"),
        ({"xtc_probability": 0.5, "min_p": 0.02}, "xtc"),
        ({"mirostat_tau": 3.0}, "mirostat"),
        ({"mirostat_m": 50}, "mirostat_v1"),
        ({"num_beams": 4, "num_beam_groups": 2}, "diverse_beam"),
        ({"num_beams": 4, "force_words": ["x"]}, "constrained_beam"),
        ({"choices": ["a", "b"]}, "choices"),
        ({"regex": "a+"}, "regex"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive"),
        ({"penalty_alpha": 0.0, "top_k": 4}, "top_k"),
        ({"dola_layers": "high"}, "dola"),
        ({"amateur_layers": 1}, "contrastive_decoding"),
        ({"antiexpert_model": "x", "do_sample": True}, "dexperts"),
        ({"guidance_scale": 2.0}, "guidance"),
        ({"negative_prompt": "x"}, "guidance"),
        ({"context": "x"}, "context_aware"),
        ({"assistant_model": "x"}, "assisted"),
        ({"assistant_early_exit": 1}, "early_exit"),
        ({"prompt_lookup_num_tokens": 3, "top_p": 0.9}, "prompt_lookup"),
        ({"lookahead_window": 3}, "lookahead"),
        ({"watermark_bias": 3.0}, "watermark"),
        ({"synthid_keys": [1]}, "synthid"),
        ({"num_candidates": 4}, "best_of_n"),
        ({"answer_pattern": "x", "num_candidates": 4}, "self_consistency"),
    ],
    ids=str,
)
def test_settings_alone_choose_the_strategy(given, name):
    assert choose_strategy(given) == name


def test_a_misspelt_strategy_is_guessed_and_a_strange_one_answered_with_the_list():
    with pytest.raises(ConfigError) as caught:
        find_strategy("nuclues")
    assert caught.value.problems == ("strategy: there is no 'nuclues'. Did you mean nucleus?",)
    with pytest.raises(ConfigError) as caught:
        find_strategy("x")
    assert str(caught.value).endswith(f"There are {listed(STRATEGIES)}.")
    assert find_strategy("mbr") is STRATEGIES["mbr"]


def test_what_cuts_a_distribution_is_what_sampling_takes():
    assert set(STRATEGIES["temperature"].takes) >= WARPERS
    assert not set(STRATEGIES["greedy"].takes) & WARPERS


def test_strategies_load_without_torch():
    code = (
        "import sys, gptft.decoding.strategies, gptft.decoding.settings; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
