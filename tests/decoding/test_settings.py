import pytest

from gptft.decoding.settings import (
    Settings,
    check_strategies,
    choose_settings,
    resolve_settings,
    users_of,
    why_not_streamed,
    with_seed,
)
from gptft.decoding.strategies import SETTINGS, STRATEGIES
from gptft.errors import ConfigError
from gptft.terminal.words import short_value

# What a strategy asks for before it can be had at all.
NEEDED = {
    "constrained_beam": {"force_words": ["x"]},
    "choices": {"choices": ["x", "y"]},
    "regex": {"regex": "x+"},
    "json_schema": {"json_schema": '{"type": "boolean"}'},
    "grammar": {"grammar": 'root ::= "x"'},
    "contrastive_decoding": {"amateur_layers": 1},
    "dexperts": {"expert_model": "x"},
    "context_aware": {"context": "x"},
    "assisted": {"assistant_model": "x"},
}


def resolve(**given):
    return resolve_settings(given)


def problems(**given):
    with pytest.raises(ConfigError) as caught:
        resolve_settings(given)
    return caught.value.problems


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
class TestEveryStrategy:
    def test_resolves_by_name_and_what_it_needs_alone(self, strategy):
        needed = NEEDED.get(strategy.name, {})
        settings = resolve(strategy=strategy.name, **needed)
        assert settings.strategy == strategy.name
        assert settings.do_sample is (strategy.draws == "always" or strategy.name == "watermark")
        in_force = {name: strategy.defaults.get(name, SETTINGS[name].neutral)
                    for name in strategy.takes}  # fmt: skip
        assert dict(settings.values) == {**in_force, **needed}

    def test_says_what_it_needs(self, strategy):
        if strategy.name not in NEEDED:
            assert strategy.needs == ()
            return
        (problem,) = problems(strategy=strategy.name)
        assert problem.startswith(f"{strategy.name} needs {strategy.needs[0]} (")

    def test_what_it_does_not_take_stays_neutral(self, strategy):
        settings = resolve(strategy=strategy.name, **NEEDED.get(strategy.name, {}))
        for name, row in SETTINGS.items():
            if name not in strategy.takes:
                assert settings[name] == row.neutral

    def test_refuses_every_setting_it_has_no_use_for(self, strategy):
        """Each of a value that would change something, all of them told at once."""
        other = {
            "do_sample": None, "seed": None,  # seen below
            "top_k": 7, "top_p": 0.7, "num_beams": 3, "penalty_alpha": 0.3, "force_words": ["z"],
            "choices": ["z"], "regex": "z", "num_return_sequences": 2, "mirostat_tau": 2.0,
            "guidance_scale": 3.0, "context": "z", "amateur_layers": 2, "num_assistant_tokens": 9,
            "lookahead_window": 9, "greenlist_ratio": 0.7, "synthid_ngram_len": 9,
            "num_candidates": 9, "dola_layers": "high", "num_beam_groups": 3,
        }  # fmt: skip
        wrong = {n: v for n, v in other.items() if v is not None and n not in strategy.takes}
        found = problems(strategy=strategy.name, **wrong, **NEEDED.get(strategy.name, {}))
        assert [problem.split(" is ")[0] for problem in found] == list(wrong)
        assert all(f"{strategy.name} doesn't use it." in problem for problem in found)


def test_what_is_given_comes_before_the_strategys_default():
    assert resolve(strategy="top_k")["top_k"] == 50
    settings = resolve(strategy="top_k", top_k=20, top_p=0.8, seed=7)
    assert (settings["top_k"], settings["top_p"], settings["temperature"]) == (20, 0.8, 1.0)
    assert settings.seed == 7


def test_what_a_strategy_does_not_use_stays_neutral():
    settings = resolve()
    neutral = {
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
    assert {name: settings[name] for name in neutral} == neutral
    used = {name: row.neutral for name, row in SETTINGS.items() if name in settings.row.takes}
    assert settings.to_dict() == {**used, "do_sample": False}


def test_ignored_settings_are_errors_that_say_where_they_belong():
    first, second = problems(strategy="greedy", num_beams=3, top_p=0.8)
    assert first.startswith("num_beams is 3, and greedy doesn't use it. It is for beam, beam_samp")
    assert second.startswith("top_p is 0.8")
    assert "temperature, top_k, nucleus, min_p, top_h, typical and " in second
    (chosen,) = problems(num_return_sequences=2)
    assert "greedy, which these settings amount to" in chosen


def test_what_can_not_be_combined_is_said():
    (problem,) = problems(strategy="mirostat", num_beams=3)
    assert "can't be combined with beams and other cuts: mirostat's is the last" in problem


def test_the_strategies_named_for_a_setting_all_take_it():
    for name in SETTINGS:
        users = [row.name for row in STRATEGIES.values() if name in row.takes]
        assert all(user in users_of(name, at_most=100) for user in users)
    assert users_of("max_new_tokens").endswith(f" and {len(STRATEGIES) - 6} more")


def test_a_neutral_value_contradicts_no_strategy():
    assert resolve(strategy="greedy", num_beams=1, temperature=1.0).strategy == "greedy"
    for name, strategy in STRATEGIES.items():
        given = {row.name: row.neutral for row in SETTINGS.values() if row.group == "sampling"}
        given = {n: v for n, v in given.items() if v is not None and n not in strategy.takes}
        assert resolve(strategy=name, **given, **NEEDED.get(name, {})).strategy == name


class TestDrawing:
    def test_do_sample_turns_drawing_on_where_a_strategy_leaves_it_open(self):
        assert resolve(strategy="dola").do_sample is False
        assert resolve(strategy="dola", do_sample=True, top_p=0.5).do_sample is True
        assert resolve(strategy="watermark", do_sample=False, top_p=1.0).do_sample is False

    def test_do_sample_true_says_nothing_new_to_a_strategy_that_draws(self):
        assert resolve(strategy="nucleus", do_sample=True).values == (
            resolve(strategy="nucleus").values
        )

    def test_do_sample_contradicts_greedy_and_its_absence_sampling(self):
        (problem,) = problems(strategy="greedy", do_sample=True)
        assert problem.startswith("do_sample is true, and greedy doesn't use it")
        (problem,) = problems(strategy="nucleus", do_sample=False)
        assert problem.startswith("do_sample is false, and nucleus always draws")

    def test_cuts_without_draws_are_refused(self):
        first, second = problems(strategy="dola", top_p=0.8, num_return_sequences=2)
        assert "top_p is 0.8 and has no effect while dola draws nothing" in first
        assert "without do_sample: true all texts would be the same" in second


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 0.0}, "temperature must be at least 1e-06, not 0.0"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"temperature": float("inf")}, "temperature must be a finite number"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.01}, "top_p must be at most 1, not 1.01"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"strategy": "beam", "num_beams": 1}, "num_beams is 1: one beam is no beam search"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"strategy": "beam", "length_penalty": float("inf")}, "length_penalty must be a finite"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**32}, "seed must be at most 4,294,967,295"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "more than max_new_tokens, 3"),
        ({"num_beams": 3, "num_return_sequences": 4}, "more than num_beams, 3"),
        (
            {"strategy": "beam_sampling", "num_return_sequences": 6},
            "num_return_sequences is 6, more than num_beams, 5",
        ),
        ({"num_beams": 4, "num_beam_groups": 3}, "which 3 groups can't share evenly"),
        ({"num_candidates": 2, "num_return_sequences": 3}, "more than num_candidates, 2"),
        ({"amateur_layers": 1, "amateur_model": "x"}, "there is one amateur"),
        ({"strategy": "contrastive", "top_k": 0}, "top_k is 0, and contrastive chooses among"),
        ({"strategy": "synthid", "synthid_keys": []}, "synthid_keys is empty"),
        ({"dynatemp_range": 1.5}, "the lowest temperature would be below 0"),
        (
            {"max_new_tokens": 5, "exponential_decay_length_penalty": [5, 2]},
            "starts after 5 tokens, and max_new_tokens is 5",
        ),
        (
            {"suppress_tokens": [1, 2], "begin_suppress_tokens": [2]},
            "begin_suppress_tokens are all in suppress_tokens already",
        ),
        ({"logit_bias": {"5": 1e39}}, "logit_bias must be at most 1,000,000,000,000"),
        ({"sequence_bias": {"а": -1e39}}, "sequence_bias must be at least -1,000,000,000,000"),
        ({"xtc_threshold": 0.2, "top_p": 0.9}, "while xtc_probability is 0.0. Set xtc_prob"),
        ({"dynatemp_exponent": 2.0, "top_p": 0.9}, "while dynatemp_range is 0.0"),
        ({"smoothing_curve": 2.0, "top_p": 0.9}, "while smoothing_factor is 0.0"),
        ({"dry_base": 2.0}, "while dry_multiplier is 0.0"),
        ({"dry_allowed_length": 3}, "while dry_multiplier is 0.0"),
        ({"dry_penalty_last_n": 3}, "while dry_multiplier is 0.0"),
        ({"dry_sequence_breakers": ["x"]}, "while dry_multiplier is 0.0"),
        ({"top_q": 0.5}, "top_q is not a setting. Did you mean top_p?"),
        ({"max_time": None}, "max_time must be a number, not null. Leave it out to turn it off."),
    ],
    ids=str,
)
def test_impossible_values_are_refused(given, words):
    (problem,) = problems(**given)
    assert words in problem


def test_all_problems_come_at_once():
    assert len(problems(strategy="nucleus", top_p=2.0, num_beams=3, seed=-1)) == 3
    assert len(problems(strategy="nuclear", top_p=2.0)) == 2


def test_a_seed_is_drawn_only_where_tokens_are():
    assert with_seed(resolve()).seed is None
    assert with_seed(resolve(top_k=3, seed=0)).seed == 0
    drawn = {with_seed(resolve(top_k=3)).seed for _ in range(3)}
    assert len(drawn) > 1
    assert all(0 <= seed < 2**31 for seed in drawn)


class TestSentence:
    def test_shows_the_strategys_own_settings_and_those_that_change_something(self):
        settings = resolve(strategy="diverse_beam", no_repeat_ngram_size=2)
        assert settings.sentence() == (
            "diverse_beam: num_beam_groups 3, diversity_penalty 0.5, num_beams 6, "
            "length_penalty 1.0, early_stopping false, max_new_tokens 60, no_repeat_ngram_size 2"
        )

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_names_every_setting_that_is_on(self, name):
        settings = resolve(strategy=name, seed=3, bad_words=["да", "нет"], **NEEDED.get(name, {}))
        sentence = settings.sentence()
        for setting in settings.values:
            if settings.is_on(setting) or setting in STRATEGIES[name].defaults:
                assert f" {setting} " in sentence
        assert sentence.startswith(f"{name}: ")
        assert " max_new_tokens 60" in sentence
        assert " bad_words [да, нет]" in sentence
        assert sentence.endswith("seed 3" if settings.do_sample else "no seed is used)")

    def test_leaves_out_what_changes_nothing(self):
        assert resolve(strategy="nucleus", top_k=0, temperature=1, seed=3).sentence() == (
            "nucleus: top_p 0.9, max_new_tokens 60, seed 3"
        )

    def test_a_seed_that_is_not_used_is_said(self):
        assert "no seed is used" in resolve(seed=3).sentence()

    def test_line_breaks_do_not_break_it(self):
        assert short_value(["\n", "a\nb", " "]) == "['\\n', 'a\\nb', ' ']"
        assert short_value({"a": 1.5, "b": True}) == "{a: 1.5, b: true}"


class TestConfigsOwn:
    OWN = {"calm": {"strategy": "nucleus", "top_p": 0.5}, "wild": {"temperature": 2.0}}  # noqa: RUF012

    def test_a_name_takes_the_place_of_the_section_and_flags_come_over_it(self):
        section = {"top_k": 3, "max_new_tokens": 9}
        settings = choose_settings(section, self.OWN, given={"strategy": "calm", "seed": 4})
        assert (settings.strategy, settings["top_p"], settings.seed) == ("nucleus", 0.5, 4)
        assert (settings["top_k"], settings["max_new_tokens"]) == (0, 60)
        settings = choose_settings(section, self.OWN, given={"strategy": "wild", "top_p": 0.9})
        assert (settings.strategy, settings["temperature"]) == ("nucleus", 2.0)

    def test_without_one_the_section_counts_and_flags_come_over_it(self):
        settings = choose_settings({"top_k": 3, "seed": 1}, self.OWN, given={"top_k": 5})
        assert (settings.strategy, settings["top_k"], settings.seed) == ("top_k", 5, 1)

    def test_they_are_checked_all_at_once(self):
        check_strategies(self.OWN)
        with pytest.raises(ConfigError) as caught:
            check_strategies({
                "greedy": {"strategy": "beam"},
                "mine": {"strategy": "greedy", "top_k": 3, "num_beams": 2},
            })  # fmt: skip
        first, second, third = caught.value.problems
        assert first == "strategies.greedy: there is a strategy of that name. Take another."
        assert second.startswith("strategies.mine: top_k is 3, and greedy doesn't use it.")
        assert third.startswith("strategies.mine: num_beams is 2")


class TestStreaming:
    def test_needs_one_text_without_beams(self):
        assert why_not_streamed(resolve(top_k=5), num_prompts=1) is None
        assert "beam" in why_not_streamed(resolve(num_beams=2), num_prompts=1)
        assert "num_return_sequences is 2" in why_not_streamed(
            resolve(top_k=5, num_return_sequences=2), num_prompts=1
        )
        assert "3 prompts" in why_not_streamed(resolve(), num_prompts=3)

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_is_had_just_where_tokens_come_one_by_one(self, name):
        settings = resolve(strategy=name, **NEEDED.get(name, {}))
        whole = {
            "beam", "beam_sampling", "diverse_beam", "constrained_beam", "stochastic_beam",
            "dola", "lookahead", "best_of_n", "self_consistency", "mbr",
        }  # fmt: skip
        assert (why_not_streamed(settings, num_prompts=1) is not None) is (name in whole)

    def test_what_changes_a_text_at_its_ends_is_in_the_way(self):
        assert "stop string" in why_not_streamed(resolve(stop_strings=["x"]), num_prompts=1)
        assert "token_healing" in why_not_streamed(resolve(token_healing=True), num_prompts=1)


class TestSettings:
    def test_a_number_of_texts_is_drawn_for_the_choice_among_them(self):
        assert resolve(top_k=2, num_return_sequences=3).num_drawn == 3
        assert resolve(strategy="mbr", num_candidates=5, num_return_sequences=2).num_drawn == 5

    def test_other_values_leave_the_first_settings_alone(self):
        settings = resolve(top_k=5, seed=2)
        other = settings.changed(top_k=6)
        assert (settings["top_k"], other["top_k"], other.seed) == (5, 6, 2)
        assert other == Settings("top_k", {**settings.values, "top_k": 6}, seed=2)
