import math
from pathlib import Path

import pytest

from gptft.api import config_schema, load_config
from gptft.config.numbers import MAX_SEED
from gptft.config.settings import read_settings
from gptft.decoding.strategies import GENERATION, SETTINGS
from gptft.errors import ConfigError

NUMBERS = [row.name for row in SETTINGS.values() if row.kind.name in ("int", "float")]
# A value of each kind that changes something, for settings without a neutral value to write down.
SOME = {"int": 7, "float": 0.5, "text": "x", "decay": [3, 1.5]}


def read(name, value):
    return SETTINGS[name].read(value)


def problem(name, value):
    with pytest.raises(ValueError, match=r"^(must|can't)") as caught:
        SETTINGS[name].read(value)
    return str(caught.value)


class TestTable:
    def test_every_row_says_in_a_sentence_what_it_does(self):
        for row in SETTINGS.values():
            assert row.description.endswith(".")
            assert ". " not in row.description
            assert not row.hint or row.hint.endswith(".")

    def test_neutral_values_are_of_their_kind_and_in_range(self):
        # 0 of these is none at all, and none can be asked for.
        off_only_when_left_out = {"assistant_early_exit", "prompt_lookup_num_tokens"}
        for name, row in SETTINGS.items():
            if row.neutral is not None and name not in off_only_when_left_out:
                assert row.read(row.neutral) == row.neutral
                assert type(row.read(row.neutral)) is type(row.neutral)

    def test_the_class_of_transformers_knows_those_spelled_its_way(self):
        from transformers import GenerationConfig

        theirs = set(vars(GenerationConfig()))
        shared = {
            "max_new_tokens", "min_new_tokens", "stop_strings", "max_time", "do_sample",
            "num_beams", "length_penalty", "early_stopping", "temperature", "top_k", "top_p",
            "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty",
            "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
            "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id",
            "exponential_decay_length_penalty", "guidance_scale", "token_healing",
            "num_return_sequences", "num_assistant_tokens", "num_assistant_tokens_schedule",
            "assistant_confidence_threshold", "prompt_lookup_num_tokens", "assistant_early_exit",
            "max_matching_ngram_size",
        }  # fmt: skip
        assert shared <= theirs & set(SETTINGS)


class TestCoercion:
    @pytest.mark.parametrize(
        ("name", "value", "meant"),
        [
            ("temperature", 2, 2.0),
            ("temperature", "2", 2.0),
            ("eta_cutoff", "3e-4", 0.0003),
            ("top_k", 5.0, 5),
            ("top_k", "5.0", 5),
            ("top_k", "5", 5),
            ("max_new_tokens", 1e3, 1000),
            ("seed", 2**32 - 1, 4_294_967_295),
            ("stop_strings", "x", ["x"]),
            ("stop_strings", ("x", "y"), ["x", "y"]),
            ("suppress_tokens", 5, [5]),
            ("suppress_tokens", [5.0, "6"], [5, 6]),
            ("force_words", "x", ["x"]),
            ("force_words", ["x", ["y", "z"]], ["x", ["y", "z"]]),
            ("logit_bias", {7: "-1e2", "а": 3}, {"7": -100.0, "а": 3.0}),
            ("exponential_decay_length_penalty", [10.0, "1.5"], [10, 1.5]),
            ("dola_layers", "low", "low"),
            ("dola_layers", ["0", 2.0], [0, 2]),
            ("dola_layers", 1, [1]),
            ("early_stopping", "never", "never"),
            ("early_stopping", True, True),
            ("do_sample", False, False),
        ],
        ids=str,
    )
    def test_values_come_in_the_type_they_are_meant_in(self, name, value, meant):
        found = read(name, value)
        assert found == meant
        assert type(found) is type(meant)
        if isinstance(meant, list):
            assert [type(item) for item in found] == [type(item) for item in meant]

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("temperature", "hot", "must be a number, not the text 'hot'."),
            ("temperature", True, "must be a number, not true."),
            ("temperature", [1.0], "must be a number, not [1.0]."),
            ("top_k", 5.5, "must be a whole number, not 5.5."),
            ("top_k", "5.5", "must be a whole number, not the text '5.5'."),
            ("top_k", False, "must be a whole number, not false."),
            ("top_k", math.inf, "must be a whole number, not inf."),
            ("top_k", math.nan, "must be a whole number, not nan."),
            ("do_sample", 1, "must be true or false, not 1."),
            ("do_sample", "true", "must be true or false, not the text 'true'."),
            ("early_stopping", 1, "must be true, false or never, not 1."),
            ("regex", "", "must be text, not the text ''."),
            ("regex", 5, "must be text, not 5."),
            ("stop_strings", ["x", ""], "must be text or a list of texts, not ['x', '']."),
            ("stop_strings", [5], "must be text or a list of texts, not [5]."),
            ("suppress_tokens", [1.5], "must be a list of whole numbers, not [1.5]."),
            ("suppress_tokens", True, "must be a list of whole numbers, not true."),
            ("logit_bias", [1], "must be a mapping of texts to numbers, not [1]."),
            ("logit_bias", {"x": "y"}, "must be a mapping of texts to numbers, not a mapping."),
            ("logit_bias", {"x": math.inf}, "must be a finite number for 'x', not inf."),
            ("sequence_bias", {"": 1.0}, "must be a mapping of texts to numbers, not a mapping."),
            ("force_words", ["x", []], "must be a list of texts, a list in place of a text"),
            ("exponential_decay_length_penalty", [1], "must be a list of two numbers"),
            ("exponential_decay_length_penalty", [1.5, 2], "must be a list of two numbers"),
            ("dola_layers", "middle", "must be low, high or a list of layers"),
            ("num_assistant_tokens_schedule", "heurist", "Did you mean heuristic?"),
            ("seeding_scheme", "x", "can't be the text 'x'. Take one of lefthash, selfhash."),
        ],
        ids=str,
    )
    def test_what_is_not_of_the_type_is_refused(self, name, value, words):
        assert words in problem(name, value)

    @pytest.mark.parametrize("name", NUMBERS)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"], ids=str)
    def test_nothing_takes_what_is_no_finite_number(self, name, value):
        assert problem(name, value).startswith(
            ("must be a finite number", "must be a whole number")
        )

    @pytest.mark.parametrize(
        ("name", "way_out"),
        [
            ("top_k", "0 turns it off."),
            ("top_p", "1.0 turns it off."),
            ("min_p", "0.0 turns it off."),
            ("no_repeat_ngram_size", "0 turns it off."),
            ("repetition_penalty", "1.0 turns it off."),
            ("num_beams", "1 turns it off."),
            ("do_sample", "false turns it off."),
            ("max_time", "Leave it out to turn it off."),
            ("seed", "Leave it out to turn it off."),
            ("stop_strings", "Leave it out to turn it off."),
            ("logit_bias", "Leave it out to turn it off."),
            ("assistant_early_exit", "Leave it out to turn it off."),
            ("max_new_tokens", "Leave it out for 60."),
            ("mirostat_tau", "Leave it out for 5.0."),
            ("dola_layers", "Leave it out for the default."),
            ("num_assistant_tokens_schedule", "Leave it out for the default."),
            ("dry_sequence_breakers", "Leave it out for the default."),
            ("prompt_lookup_num_tokens", "Leave it out to turn it off."),
        ],
    )
    def test_null_is_refused_with_what_does_turn_it_off(self, name, way_out):
        message = problem(name, None)
        assert message.endswith(f", not null. {way_out}")

    def test_what_null_is_told_to_be_is_taken(self):
        for name, row in SETTINGS.items():
            with pytest.raises(ValueError, match="not null") as caught:
                row.read(None)
            if "Leave it out" not in str(caught.value):
                assert read(name, row.neutral) == row.neutral


# The lowest and highest values in range of every number, and what lies just outside.
EDGES = [
    ("max_new_tokens", [1], [0, -1]),
    ("min_new_tokens", [0], [-1]),
    ("max_time", [1e-9], [0, -1]),
    ("num_beams", [1, 10_000], [10_001, 0, -1]),
    ("num_beam_groups", [1, 10_000], [10_001, 0]),
    ("diversity_penalty", [0], [-0.1]),
    ("penalty_alpha", [0, 1], [-0.1, 1.1]),
    ("temperature", [1e-6, 100], [0, -1, 9e-7]),
    ("dynatemp_range", [0], [-0.1]),
    ("dynatemp_exponent", [1e-9], [0]),
    ("smoothing_factor", [0], [-0.1]),
    ("smoothing_curve", [1, 3], [0.9, 3.1]),
    ("top_n_sigma", [0], [-1]),
    ("top_h", [1e-9, 1], [0, 1.1]),
    ("top_k", [0], [-1]),
    ("top_a", [0, 1], [-0.1, 1.1]),
    ("tfs_z", [1e-9, 1], [0, 1.1]),
    ("top_p", [1e-9, 1], [0, -0.1, 1.000001, 7]),
    ("min_p", [0, 1], [-0.1, 1.1]),
    ("typical_p", [1e-9, 1], [0, 1.1]),
    ("epsilon_cutoff", [0, 0.999], [-0.1, 1, 1.5]),
    ("eta_cutoff", [0, 0.999], [-0.1, 1, 1.5]),
    ("xtc_probability", [0, 1], [-0.1, 1.1]),
    ("xtc_threshold", [1e-9, 1], [0, 1.1]),
    ("mirostat_tau", [1e-9], [0]),
    ("mirostat_eta", [1e-9, 1], [0, 1.1]),
    ("mirostat_m", [2], [1]),
    ("adaptive_target", [0, 1], [-0.1, 1.1]),
    ("adaptive_decay", [0, 0.99], [-0.1, 1.0]),
    ("seed", [0, 2**32 - 1], [-1, 2**32]),
    ("repetition_penalty", [1e-9, 9], [0, -1]),
    ("encoder_repetition_penalty", [1e-9, 9], [0, -1]),
    ("no_repeat_ngram_size", [0, 10_000], [10_001, -1]),
    ("encoder_no_repeat_ngram_size", [0, 10_000], [10_001, -1]),
    ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
    ("presence_penalty", [-2, 2], [-2.1, 2.1]),
    ("dry_multiplier", [0], [-0.1]),
    ("dry_base", [1], [0.9]),
    ("dry_allowed_length", [1], [0]),
    ("dry_penalty_last_n", [0], [-1]),
    ("guidance_scale", [0], [-0.1]),
    ("context_alpha", [0], [-0.1]),
    ("amateur_layers", [0], [-1]),
    ("amateur_temperature", [1e-9], [0]),
    ("cd_alpha", [1e-9, 1], [0, 1.1]),
    ("cd_beta", [0], [-0.1]),
    ("dexperts_alpha", [0], [-0.1]),
    ("assistant_early_exit", [1], [0]),
    ("num_assistant_tokens", [1], [0]),
    ("assistant_confidence_threshold", [0, 1], [-0.1, 1.1]),
    ("prompt_lookup_num_tokens", [1], [0]),
    ("max_matching_ngram_size", [1], [0]),
    ("lookahead_window", [1, 1000], [1001, 0]),
    ("lookahead_ngram_size", [2, 1000], [1001, 1]),
    ("lookahead_guesses", [1, 1000], [1001, 0]),
    ("greenlist_ratio", [1e-9, 0.999], [0, 1]),
    ("watermark_bias", [1e-9], [0]),
    ("hashing_key", [0, 2**31 - 1], [-1, 2**31]),
    ("context_width", [1], [0]),
    ("synthid_ngram_len", [2, 10_000], [10_001, 1]),
    ("length_penalty", [-10, 10], [-10.1, 10.1]),
    ("num_return_sequences", [1, 100_000], [100_001, 0]),
    ("num_candidates", [2, 100_000], [100_001, 1]),
]
IN_LISTS = [
    ("suppress_tokens", [0], [-1]),
    ("begin_suppress_tokens", [0], [-1]),
    ("forced_eos_token_id", [0], [-1]),
    ("synthid_keys", [0, 2**31 - 1], [-1, 2**31]),
    ("dola_layers", [0], [-1]),
]


class TestRanges:
    def test_every_number_has_its_edges_below(self):
        assert {name for name, _, _ in EDGES} == set(NUMBERS)

    @pytest.mark.parametrize(("name", "inside", "outside"), EDGES, ids=[e[0] for e in EDGES])
    def test_edges(self, name, inside, outside):
        for value in inside:
            assert read(name, value) == value
        for value in outside:
            message = problem(name, value)
            assert message.startswith(("must be at least", "must be above", "must be at most",
                                       "must be below"))  # fmt: skip
            assert f", not {read_number(name, value)}." in message

    @pytest.mark.parametrize(("name", "inside", "outside"), IN_LISTS, ids=[e[0] for e in IN_LISTS])
    def test_edges_in_lists(self, name, inside, outside):
        assert read(name, inside) == inside
        for value in outside:
            assert problem(name, [*inside, value]).startswith("must be at ")

    def test_a_decay_may_not_begin_before_the_text_and_must_be_a_number(self):
        for value in ([-1, 2.0], [1, -0.5]):
            assert "at least 0" in problem("exponential_decay_length_penalty", value)
        assert "a finite number" in problem("exponential_decay_length_penalty", [1, math.nan])

    def test_what_transformers_own_check_lets_through_is_refused(self):
        """Its strict check finds nothing wrong with any of these, our ranges with each."""
        from transformers import GenerationConfig

        missed = {
            "top_p": [1.5, 0.0], "typical_p": [1.5], "epsilon_cutoff": [1.5, -0.5],
            "eta_cutoff": [1.5, -0.5], "no_repeat_ngram_size": [-2], "num_beams": [0],
        }  # fmt: skip
        for name, values in missed.items():
            for value in values:
                theirs = GenerationConfig(**{"do_sample": name != "num_beams", name: value})
                theirs.validate(strict=True)
                assert "must be" in problem(name, value)

    def test_messages_say_the_range_the_value_and_the_way_out(self):
        assert problem("temperature", 0) == (
            "must be at least 1e-06, not 0.0. For the likeliest token each time take greedy."
        )
        assert problem("seed", 2**32) == "must be at most 4,294,967,295, not 4294967296."
        assert problem("no_repeat_ngram_size", -1).endswith("-1. 0 turns it off.")
        assert SETTINGS["seeding_scheme"].range == "lefthash, selfhash"
        assert SETTINGS["smoothing_curve"].range == "at least 1, at most 3"
        assert MAX_SEED == 2**32 - 1


def read_number(name, value):
    return value if SETTINGS[name].kind.name == "int" else float(value)


class TestRead:
    def test_gives_every_problem_and_the_rest_meant(self):
        meant, wrong = read_settings(
            {"strategy": "nucleus", "top_p": 2, "temperature": "1e0", "topk": 5}, table=GENERATION
        )
        assert meant == {"strategy": "nucleus", "temperature": 1.0}
        assert wrong == [
            ("top_p", "must be at most 1, not 2.0."),
            ("topk", "is not a setting. Did you mean top_k?"),
        ]

    @pytest.mark.parametrize("value", [None, 5, "", ["greedy"]], ids=str)
    def test_a_strategy_is_a_name(self, value):
        _, [(name, message)] = read_settings({"strategy": value}, table=GENERATION)
        assert name == "strategy"
        assert message.startswith("must be a strategy's name, not ")

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("max_length", "max_new_tokens"),
            ("max_tokens", "max_new_tokens"),
            ("n_predict", "max_new_tokens"),
            ("min_length", "min_new_tokens"),
            ("temp", "temperature"),
            ("typical", "typical_p"),
            ("tfs", "tfs_z"),
            ("top_nsigma", "top_n_sigma"),
            ("repeat_penalty", "repetition_penalty"),
            ("stop", "stop_strings"),
            ("n", "num_return_sequences"),
            ("best_of", "num_candidates"),
            ("bad_words_ids", "bad_words"),
            ("force_words_ids", "force_words"),
            ("xtc_prob", "xtc_probability"),
            ("penalty_last_n", "dry_penalty_last_n"),
            ("stategy", "strategy"),
            ("temprature", "temperature"),
        ],
    )
    def test_other_tools_names_and_slips_are_told_ours(self, name, meant):
        _, [(_, message)] = read_settings({name: 1}, table=GENERATION)
        assert message == f"is not a setting. Did you mean {meant}?"

    def test_what_is_like_nothing_is_not_guessed(self):
        for name in ("qqqqqqq", "5"):
            assert read_settings({name: 1}, table=GENERATION) == ({}, [(name, "is not a setting.")])


class TestConfigs:
    def load(self, tmp_path: Path, text: str, *overrides: str):
        path = tmp_path / "my.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides=overrides)

    def problems(self, tmp_path: Path, text: str, *overrides: str):
        with pytest.raises(ConfigError) as caught:
            self.load(tmp_path, text, *overrides)
        return [line.replace(f"{tmp_path}/", "") for line in caught.value.problems]

    def test_sections_hold_values_in_the_types_they_mean(self, tmp_path):
        config = self.load(
            tmp_path,
            "generation: {temperature: 2, top_k: 5.0, eta_cutoff: 3e-4}\n"
            "strategies: {mine: {strategy: beam, num_beams: '4'}}\n",
            "generation.stop_strings=x", "strategies.mine.length_penalty=2",
        )  # fmt: skip
        assert config.generation == {
            "temperature": 2.0, "top_k": 5, "eta_cutoff": 0.0003, "stop_strings": ["x"],
        }  # fmt: skip
        assert config.strategies == {
            "mine": {"strategy": "beam", "num_beams": 4, "length_penalty": 2.0}
        }
        assert isinstance(config.generation["temperature"], float)

    def test_neither_is_there_where_nothing_is_given(self, tmp_path):
        config = self.load(tmp_path, "generation:\n")
        assert (config.generation, config.strategies) == ({}, {})

    def test_problems_stand_at_their_line_all_at_once(self, tmp_path):
        found = self.problems(
            tmp_path,
            "generation:\n  top_p: 2\n  temprature: 1\nstrategies:\n  mine:\n    top_k: null\n",
            "generation.num_beams=0",
        )
        assert found == [
            "my.yaml:2:3  generation.top_p must be at most 1, not 2.0.",
            "my.yaml:3:3  generation.temprature is not a setting. Did you mean temperature?",
            "my.yaml:6:5  strategies.mine.top_k must be a whole number, not null. 0 turns it off.",
            "--set  generation.num_beams must be at least 1, not 0.",
        ]

    def test_a_setting_in_the_wrong_place_is_told_its_own(self, tmp_path):
        (message,) = self.problems(tmp_path, "top_k: 5\n")
        assert message.endswith("Did you mean generation.top_k?")

    @pytest.mark.parametrize("text", ["generation: 5\n", "strategies: 5\n", "strategies: {a: 5}\n"])
    def test_what_is_no_section_is_refused(self, tmp_path, text):
        assert len(self.problems(tmp_path, text)) == 1


class TestSchema:
    def test_sections_and_strategies_list_every_setting(self):
        schema = config_schema()["properties"]
        assert set(schema["generation"]["properties"]) == {"strategy", *SETTINGS}
        own = schema["strategies"]["additionalProperties"]
        assert own["properties"] == schema["generation"]["properties"]
        assert own["additionalProperties"] is schema["generation"]["additionalProperties"] is False

    @pytest.mark.parametrize("name", SETTINGS)
    def test_what_is_read_is_what_it_accepts(self, name):
        row, schema = SETTINGS[name], SETTINGS[name].schema()
        values = [row.neutral if row.neutral is not None else SOME[row.kind.name]]
        for other, inside, outside in [*EDGES, *IN_LISTS]:
            if other == name:
                listed = row.kind.name not in ("int", "float")
                values += [[v] if listed else v for v in (*inside, *outside)]
        values += [["x"], "x", [], {"x": 1.5}, {"x": "y"}, [1.5], "never", 1.5, True, [1, 2.5], ""]
        differing = []
        for value in values:
            try:
                row.read(value)
                is_read = True
            except ValueError:
                is_read = False
            if accepts(schema, value) is not is_read:
                differing.append(value)
        # We read more than a schema can say ("3e-4", a tuple), and never less.
        assert all(not accepts(schema, value) for value in differing)
        off_only_when_left_out = ("assistant_early_exit", "prompt_lookup_num_tokens")
        assert accepts(schema, values[0]) is (name not in off_only_when_left_out)
        assert schema["description"] == row.description

    def test_every_schema_is_one(self):
        jsonschema = pytest.importorskip("jsonschema")
        for name, inside, outside in EDGES:
            schema = SETTINGS[name].schema()
            jsonschema.Draft202012Validator.check_schema(schema)
            for value in inside:
                jsonschema.validate(value, schema)
            for value in outside:
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate(value, schema)


def accepts(schema, value):
    """Whether a value fits a schema, as JSON Schema 2020-12 has it; keywords we use alone."""
    if schema is True:
        return True
    known = {
        "description", "anyOf", "enum", "type", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "minLength", "minItems", "maxItems", "items", "additionalProperties",
    }  # fmt: skip
    assert set(schema) <= known
    if "anyOf" in schema and not any(accepts(part, value) for part in schema["anyOf"]):
        return False
    if "enum" in schema and not any(v == value and type(v) is type(value) for v in schema["enum"]):
        return False
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    of_type = {
        "integer": is_number and value == int(value), "number": is_number,
        "boolean": isinstance(value, bool), "string": isinstance(value, str),
        "array": isinstance(value, list), "object": isinstance(value, dict),
    }  # fmt: skip
    if not of_type.get(schema.get("type", ""), True):
        return False
    if is_number:
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and schema.get("exclusiveMinimum", -math.inf) < value
            and value < schema.get("exclusiveMaximum", math.inf)
        )
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0)
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(accepts(schema.get("items", {}), item) for item in value)
    if isinstance(value, dict):
        return all(accepts(schema.get("additionalProperties", {}), v) for v in value.values())
    return True
