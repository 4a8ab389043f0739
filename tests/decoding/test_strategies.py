import subprocess
import sys
from dataclasses import fields

import pytest

from gptft.config.sections import GenerationConfig
from gptft.decoding.strategies import (
    STRATEGIES,
    Settings,
    choose_strategy,
    resolve_settings,
    why_not_streamed,
    with_seed,
)
from gptft.errors import ConfigError

NEUTRAL = {field.name: field.default for field in fields(Settings)}


def resolve(**given):
    return resolve_settings(GenerationConfig(**given))


def problems(**given):
    with pytest.raises(ConfigError) as caught:
        resolve_settings(GenerationConfig().model_copy(update=given))
    return caught.value.problems


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
class TestTable:
    def test_describes_itself_in_one_sentence_and_names_a_source(self, strategy):
        assert strategy.description.endswith(".")
        assert ". " not in strategy.description
        assert strategy.source

    def test_its_defaults_are_in_their_own_ranges(self, strategy):
        wrong = [p for row in strategy.parameters if (p := row.problem(row.default))]
        assert wrong == []

    def test_every_parameter_is_a_setting_and_listed_once(self, strategy):
        names = [row.name for row in strategy.parameters]
        assert len(names) == len(set(names))
        assert set(names) <= set(NEUTRAL)

    def test_uses_beams_and_temperature_just_where_it_says_so(self, strategy):
        assert ("num_beams" in strategy.defaults) is strategy.beams
        assert ("temperature" in strategy.defaults) is strategy.do_sample

    def test_resolves_by_name_alone(self, strategy):
        settings = resolve(strategy=strategy.name)
        assert settings.strategy == strategy.name
        assert settings.do_sample is strategy.do_sample
        shown = {**NEUTRAL, **strategy.defaults}
        assert all(getattr(settings, n) == shown[n] for n in strategy.defaults)


def test_every_setting_of_the_section_is_used_by_some_strategy():
    used = {name for row in STRATEGIES.values() for name in row.defaults}
    assert set(GenerationConfig.model_fields) - {"strategy", "seed"} == used


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "greedy"),
        ({"max_new_tokens": 5}, "greedy"),
        ({"num_beams": 1}, "greedy"),
        ({"num_beams": 4}, "beam"),
        ({"temperature": 1.0}, "temperature"),
        ({"temperature": 0.7}, "temperature"),
        ({"top_k": 20}, "top_k"),
        ({"top_k": 0}, "temperature"),
        ({"top_p": 0.8}, "nucleus"),
        ({"top_k": 20, "top_p": 0.8, "temperature": 0.5}, "nucleus"),
        ({"top_k": 20, "top_p": 1.0}, "top_k"),
        ({"num_beams": 4, "top_p": 0.8}, "beam_sampling"),
        ({"num_beams": 1, "top_p": 0.8}, "nucleus"),
    ],
)
def test_settings_alone_choose_the_strategy(given, name):
    assert choose_strategy(given) == name
    assert resolve(**given).strategy == name


def test_what_is_given_comes_before_the_strategys_default():
    assert resolve(strategy="top_k").top_k == 50
    settings = resolve(strategy="top_k", top_k=20, top_p=0.8, seed=7)
    assert (settings.top_k, settings.top_p, settings.temperature) == (20, 0.8, 1.0)
    assert settings.seed == 7


def test_what_a_strategy_does_not_use_stays_neutral():
    assert resolve().to_dict() == {
        "do_sample": False,
        "num_beams": 1,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "length_penalty": 1.0,
        "early_stopping": False,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "max_new_tokens": 60,
        "min_new_tokens": 0,
        "num_return_sequences": 1,
    }


def test_ignored_settings_are_errors_that_say_where_they_belong():
    first, second = problems(strategy="greedy", num_beams=3, top_p=0.8)
    assert first.startswith("num_beams is 3, and greedy doesn't use it. It is for beam and ")
    assert second.startswith("top_p is 0.8")
    assert "temperature, top_k, nucleus and beam_sampling" in second
    (chosen,) = problems(num_return_sequences=2)
    assert "greedy, which these settings amount to" in chosen


def test_a_neutral_value_contradicts_no_strategy():
    assert resolve(strategy="greedy", num_beams=1, temperature=1.0).strategy == "greedy"


def test_a_misspelt_strategy_is_guessed_and_a_strange_one_answered_with_the_list():
    assert problems(strategy="nuclues") == (
        "strategy: there is no 'nuclues'. Did you mean nucleus?",
    )
    assert "greedy, beam, temperature, top_k" in problems(strategy="x")[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 0.0}, "temperature must be at least 1e-06, not 0.0"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"temperature": float("inf")}, "temperature must be a finite number"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.01}, "top_p must be at most 1.0, not 1.01"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"strategy": "beam", "num_beams": 1}, "num_beams must be at least 2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"strategy": "beam", "length_penalty": float("inf")}, "length_penalty must be a finite"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "more than max_new_tokens, 3"),
        ({"num_beams": 3, "num_return_sequences": 4}, "more than num_beams, 3"),
        (
            {"strategy": "beam_sampling", "num_return_sequences": 6},
            "num_return_sequences is 6, more than num_beams, 5",
        ),
    ],
)
def test_impossible_values_are_refused(given, words):
    (problem,) = problems(**given)
    assert words in problem


def test_all_problems_come_at_once():
    assert len(problems(strategy="nucleus", top_p=2.0, num_beams=3, seed=-1)) == 3


def test_a_seed_is_drawn_only_where_tokens_are():
    assert with_seed(resolve()).seed is None
    assert with_seed(resolve(top_k=3, seed=0)).seed == 0
    drawn = {with_seed(resolve(top_k=3)).seed for _ in range(3)}
    assert len(drawn) > 1
    assert all(0 <= seed < 2**31 for seed in drawn)


def test_the_sentence_shows_every_setting_in_force():
    settings = resolve(strategy="beam_sampling", seed=3)
    for name in STRATEGIES["beam_sampling"].defaults:
        assert f" {name} " in settings.sentence()
    assert settings.sentence().startswith("beam_sampling: num_beams 5, ")
    assert "early_stopping false" in settings.sentence()
    assert settings.sentence().endswith("seed 3")
    assert "no seed is used" in resolve(seed=3).sentence()


def test_streaming_needs_one_text_without_beams():
    assert why_not_streamed(resolve(top_k=5), num_prompts=1) is None
    assert "beam" in why_not_streamed(resolve(num_beams=2), num_prompts=1)
    assert "num_return_sequences is 2" in why_not_streamed(
        resolve(top_k=5, num_return_sequences=2), num_prompts=1
    )
    assert "3 prompts" in why_not_streamed(resolve(), num_prompts=3)


def test_strategies_load_without_torch():
    code = (
        "import sys, gptft.decoding.strategies; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
