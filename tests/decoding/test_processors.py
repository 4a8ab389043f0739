import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from gptft.decoding.batch import batch_context
from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import SpecialTokens, special_tokens
from gptft.errors import ConfigError

PROMPT = "Мороз и солнце"


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


@pytest.fixture
def unreadable(tokenizer):
    """Ids of tokens that are no whole characters; without them every token can be typed."""
    ids = range(1, tokenizer.vocab_size)
    return [i for i in ids if "\ufffd" in tokenizer.decode([i])]


def named(loaded, prompts=(PROMPT,), rows=1, **given):
    settings = resolve_settings({"max_new_tokens": 10, "seed": 1, **given})
    encoded = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
    return named_processors(settings, batch_context(loaded, encoded, rows=rows))


def ours(loaded, prompts=(PROMPT,), **given):
    """New ids of the texts, EOS left out."""
    settings = resolve_settings({"max_new_tokens": 10, "seed": 1, **given})
    return [list(text.new_ids) for text in generate(loaded, list(prompts), settings=settings)]


def stock(loaded, prompt=PROMPT, **given):
    """The same from plain transformers, whose own default cuts are turned off."""
    model = loaded.model
    own, model.generation_config = model.generation_config, GenerationConfig()
    inputs = loaded.tokenizer(prompt, return_tensors="pt")
    if given.get("do_sample"):
        given = {"top_k": 0, **given}
        torch.manual_seed(1)
    config = GenerationConfig(
        **{"max_new_tokens": 10, "eos_token_id": 0, "pad_token_id": 0, **given}
    )
    rows = model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
    model.generation_config = own
    return [row[: row.index(0)] if 0 in row else row for row in rows.tolist()]


class TestAgainstStock:
    """The same setting under its own name in transformers gives the same text, and another one
    than without it."""

    @pytest.mark.parametrize(
        ("given", "kind"),
        [
            ({"repetition_penalty": 1.7}, "RepetitionPenaltyLogitsProcessor"),
            ({"no_repeat_ngram_size": 1}, "NoRepeatNGramLogitsProcessor"),
            ({"no_repeat_ngram_size": 2}, "NoRepeatNGramLogitsProcessor"),
            ({"suppress_tokens": [94, 109, 246]}, "SuppressTokensLogitsProcessor"),
            ({"begin_suppress_tokens": [165, 109]}, "SuppressTokensAtBeginLogitsProcessor"),
            ({"exponential_decay_length_penalty": [3, 4.0]}, "ExponentialDecayLengthPenalty"),
            ({"forced_eos_token_id": 0}, "ForcedEOSTokenLogitsProcessor"),
        ],
        ids=str,
    )
    def test_without_a_draw(self, loaded, given, kind):
        (made,) = named(loaded, **given)
        assert type(made[1]).__name__ == kind
        assert made[0] == next(iter(given))
        native = {
            name: tuple(value) if name.startswith("expo") else value
            for name, value in given.items()
        }
        assert ours(loaded, **given) == stock(loaded, **native)
        assert ours(loaded, **given) != stock(loaded)

    @pytest.mark.parametrize(
        ("given", "kind"),
        [
            ({"encoder_repetition_penalty": 4.0}, "EncoderRepetitionPenaltyLogitsProcessor"),
            ({"encoder_repetition_penalty": 0.2}, "EncoderRepetitionPenaltyLogitsProcessor"),
            ({"encoder_no_repeat_ngram_size": 1}, "EncoderNoRepeatNGramLogitsProcessor"),
            ({"encoder_no_repeat_ngram_size": 2}, "EncoderNoRepeatNGramLogitsProcessor"),
        ],
        ids=str,
    )
    def test_settings_about_the_prompt(self, loaded, unreadable, given, kind):
        bans = {"suppress_tokens": unreadable}
        prompt = PROMPT + loaded.tokenizer.decode(stock(loaded, **bans)[0])
        (made,) = named(loaded, [prompt], **given)
        assert (made[0], type(made[1]).__name__) == (next(iter(given)), kind)
        found = ours(loaded, [prompt], **given, **bans)
        assert found == stock(loaded, prompt, **given, **bans)
        if given != {"encoder_no_repeat_ngram_size": 2}:
            assert found != stock(loaded, prompt, **bans)

    def test_min_new_tokens(self, loaded):
        (plain,) = stock(loaded)
        model = loaded.model
        model.generation_config.eos_token_id = [0, plain[2]]
        ended = LoadedModel(model, loaded.tokenizer, special_tokens(model, loaded.tokenizer))
        assert ours(ended) == [plain[:2]]
        (made,) = named(ended, min_new_tokens=5)
        assert type(made[1]).__name__ == "MinNewTokensLengthLogitsProcessor"
        expected = stock(loaded, min_new_tokens=5, eos_token_id=[0, plain[2]])[0]
        (found,) = ours(ended, min_new_tokens=5)
        assert len(found) >= 5
        assert found == expected[: len(found)]

    @pytest.mark.parametrize(
        ("given", "kind"),
        [
            ({"temperature": 2.0}, "TemperatureLogitsWarper"),
            ({"top_k": 4}, "function"),
            ({"top_p": 0.6}, "TopPLogitsWarper"),
            ({"min_p": 0.2}, "MinPLogitsWarper"),
            ({"typical_p": 0.4}, "TypicalLogitsWarper"),
            ({"epsilon_cutoff": 0.02}, "EpsilonLogitsWarper"),
            ({"eta_cutoff": 0.1}, "EtaLogitsWarper"),
        ],
        ids=str,
    )
    def test_with_draws_of_the_same_seed(self, loaded, given, kind):
        hot = {"temperature": 2.0, **given}
        made = dict(named(loaded, **hot))
        assert type(made[next(iter(given))]).__name__ == kind
        assert ours(loaded, **hot) == stock(loaded, do_sample=True, **hot)
        other = {"temperature": 1.0} if given == hot else {"temperature": 2.0}
        assert ours(loaded, **hot) != stock(loaded, do_sample=True, **other)

    def test_all_together(self, loaded):
        given = {
            "temperature": 2.0, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9,
            "epsilon_cutoff": 0.001, "eta_cutoff": 0.001, "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2, "min_new_tokens": 4,
            "encoder_repetition_penalty": 1.2, "encoder_no_repeat_ngram_size": 2,
            "suppress_tokens": [246], "begin_suppress_tokens": [109], "num_return_sequences": 4,
        }  # fmt: skip
        assert ours(loaded, **given) == stock(loaded, do_sample=True, **given)

    @pytest.mark.parametrize("given", [{"top_p": 0.05}, {"min_p": 0.9}, {"typical_p": 0.05},
                                       {"epsilon_cutoff": 0.9}, {"top_k": 1}], ids=str)  # fmt: skip
    def test_beams_are_left_something_to_go_on_with(self, loaded, given):
        drawn = {"num_beams": 3, "do_sample": True, "temperature": 2.0, **given}
        assert ours(loaded, **drawn) == stock(loaded, **drawn)

    def test_beams_without_eos_too(self, loaded, tokenizer):
        bare = LoadedModel(loaded.model, tokenizer, SpecialTokens((), 0, 0))
        ((_, top_k),) = named(bare, strategy="beam_sampling", top_k=1)
        assert (top_k(None, torch.randn(2, 9)) > -torch.inf).sum(-1).tolist() == [2, 2]


class TestWords:
    """Settings that name words by their text, where transformers wants ids."""

    def both(self, loaded, text):
        """The ids of a word at the beginning of a text and after a space."""
        spelled = {tuple(loaded.tokenizer(t)["input_ids"]) for t in (text, f" {text}")}
        return [list(ids) for ids in spelled]

    def word(self, loaded, unreadable):
        """What the model writes at its third step."""
        (plain,) = stock(loaded, suppress_tokens=unreadable)
        return loaded.tokenizer.decode(plain[2:3]).strip(), plain

    def test_bad_words_are_bad_words_ids(self, loaded, unreadable):
        word, plain = self.word(loaded, unreadable)
        given = {"suppress_tokens": unreadable}
        found = ours(loaded, bad_words=word, **given)
        assert found == stock(loaded, bad_words_ids=self.both(loaded, word), **given)
        assert found != [plain]
        assert word not in loaded.tokenizer.decode(found[0])

    def test_a_bad_word_of_several_tokens_is_kept_from_its_end_alone(self, loaded, unreadable):
        _, plain = self.word(loaded, unreadable)
        word = loaded.tokenizer.decode(plain[1:4])
        assert loaded.tokenizer(word)["input_ids"] == plain[1:4]
        (found,) = ours(loaded, bad_words=[word], suppress_tokens=unreadable)
        assert found[:3] == plain[:3]
        assert found[3] != plain[3]

    @pytest.mark.parametrize("weight", [-30.0, 8.0])
    def test_a_sequence_bias_is_one_of_stock(self, loaded, unreadable, weight):
        word, plain = self.word(loaded, unreadable)
        given = {"suppress_tokens": unreadable}
        biases = [[ids, weight] for ids in self.both(loaded, word)]
        found = ours(loaded, sequence_bias={word: weight}, **given)
        assert found == stock(loaded, sequence_bias=biases, **given)
        assert found != [plain]

    def test_a_logit_bias_is_for_one_token_by_id_or_text(self, loaded, unreadable):
        biases = [[[67], 50.0]]  # one token, always
        text = loaded.tokenizer.decode([67])
        expected = stock(loaded, sequence_bias=biases)
        assert ours(loaded, logit_bias={"67": 50.0}) == expected == [[67] * 10]
        assert ours(loaded, logit_bias={67: 50.0}) == expected
        assert ours(loaded, logit_bias={text: 50.0}) == expected
        with pytest.raises(ConfigError, match=r"logit_bias: 'zzz' is 3 tokens, .*sequence_bias"):
            ours(loaded, logit_bias={"zzz": 1.0})

    def test_allowed_words_leave_their_tokens_and_eos(self, loaded):
        allowed = {i for word in ("день", "снег") for ids in self.both(loaded, word) for i in ids}
        found = ours(
            loaded, allowed_words=["день", "снег"], temperature=5.0, num_return_sequences=9
        )
        assert {i for row in found for i in row} <= allowed
        assert len({i for row in found for i in row}) > 4
        banned = [i for i in range(1, 300) if i not in allowed]
        assert ours(loaded, allowed_words=["день", "снег"]) == stock(loaded, suppress_tokens=banned)

    @pytest.mark.parametrize(
        "name", ["suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"]
    )
    def test_ids_beyond_the_vocabulary_are_refused(self, loaded, name):
        assert ours(loaded, **{name: [299]}, max_new_tokens=1)
        with pytest.raises(
            ConfigError, match=f"{name}: there is no id 300; the model's go up to 2"
        ):
            ours(loaded, **{name: [5, 300]})

    @pytest.mark.parametrize(
        ("name", "of"),
        [
            ("bad_words", lambda word: [word]),
            ("allowed_words", lambda word: [word]),
            ("sequence_bias", lambda word: {word: 1.0}),
            ("logit_bias", lambda word: {word: 1.0}),
        ],
    )
    def test_words_beyond_the_vocabulary_are_refused(self, loaded, unreadable, name, of):
        last = max(i for i in range(300) if i not in unreadable)  # one token, always
        text = loaded.tokenizer.decode([last])
        assert ours(loaded, **{name: of(text)}, max_new_tokens=1)
        loaded.model.resize_token_embeddings(last)
        with pytest.raises(ConfigError, match=f"{name}: there is no id {last}; the model's go up"):
            ours(loaded, **{name: of(text)})

    def test_a_bias_for_an_id_beyond_the_vocabulary_is_refused(self, loaded):
        with pytest.raises(ConfigError, match="logit_bias: there is no id 1,000; the model's go"):
            ours(loaded, logit_bias={"1000": 2.0})


class TestBatchesAndBeams:
    PROMPTS = ("Мороз", PROMPT, "x", "Буря мглою небо кроет", "Буря")

    @pytest.mark.parametrize(
        "given",
        [
            {"encoder_repetition_penalty": 3.0},
            {"encoder_no_repeat_ngram_size": 1},
            {"repetition_penalty": 1.7},
            {"no_repeat_ngram_size": 1},
            {"dry_multiplier": 5.0, "dry_allowed_length": 1},
            {"frequency_penalty": 2.0, "presence_penalty": 2.0},
            {"sequence_bias": {"о": 5.0, "день": -5.0}},
            {"bad_words": ["о", "день"]},
            {"begin_suppress_tokens": [109, 246]},
            {"min_new_tokens": 5},
            {"exponential_decay_length_penalty": [2, 3.0]},
            {"forced_eos_token_id": 0},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("beams", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
    def test_prompts_together_give_what_each_gives_alone(self, loaded, given, beams):
        alone = [row for prompt in self.PROMPTS for row in ours(loaded, [prompt], **given, **beams)]
        assert ours(loaded, self.PROMPTS, **given, **beams) == alone

    def test_prompts_of_one_length_share_a_batch_under_a_penalty_on_prompts(self, loaded):
        """By hand: tokens of the row's own prompt count, and no other row's."""
        prompts = ("x", "y", "z")
        ids = [loaded.tokenizer(prompt)["input_ids"][0] for prompt in prompts]
        for name, beams in (("encoder_repetition_penalty", 1), ("encoder_repetition_penalty", 2)):
            ((_, made),) = named(loaded, prompts, rows=beams, **{name: 2.0})
            rows = torch.tensor([[i] for i in ids for _ in range(beams)])
            scores = torch.full((3 * beams, 300), -4.0)
            expected = scores.clone()
            for row, own in enumerate(rows[:, 0]):
                expected[row, own] = -2.0  # a negative logit is divided
            assert torch.equal(made(rows, scores.clone()), expected)

    @pytest.mark.parametrize("beams", [1, 2])
    def test_no_ngram_of_a_rows_own_prompt_comes_again(self, loaded, beams):
        prompts = ("xyz", "zyx", "yyy")
        encoded = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
        ((_, made),) = named(loaded, prompts, rows=beams, encoder_no_repeat_ngram_size=2)
        x, y, z = encoded[0]
        rows = torch.tensor([[*ids, y] for ids in encoded for _ in range(beams)])
        banned = torch.isinf(made(rows, torch.zeros(3 * beams, 300)))
        found = [torch.nonzero(row).flatten().tolist() for row in banned]
        assert found == [ids for ids in ([z], [x], [y]) for _ in range(beams)]


class TestOrder:
    EVERYTHING = {  # noqa: RUF012
        "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 3, "bad_words": ["zz"],
        "allowed_words": ["день", "снег", "x"], "suppress_tokens": [7],
        "begin_suppress_tokens": [8], "min_new_tokens": 2,
        "sequence_bias": {"о": 1.0}, "logit_bias": {"5": 1.0}, "encoder_repetition_penalty": 1.1,
        "repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1,
        "dry_multiplier": 0.8, "exponential_decay_length_penalty": [5, 1.1],
        "forced_eos_token_id": [0],
        "temperature": 1.5, "smoothing_factor": 0.1, "top_n_sigma": 5.0, "top_h": 0.9, "top_k": 50,
        "top_a": 0.01, "tfs_z": 0.99, "top_p": 0.99, "min_p": 0.001, "typical_p": 0.99,
        "epsilon_cutoff": 1e-5, "eta_cutoff": 1e-5, "xtc_probability": 0.1,
    }  # fmt: skip

    def test_bans_models_biases_penalties_length_cuts_and_marks(self, loaded):
        names = [*self.EVERYTHING]
        names.remove("presence_penalty")  # one processor with frequency_penalty
        given = {"do_sample": True, **dict(reversed(self.EVERYTHING.items()))}
        found = [name for name, _ in named(loaded, strategy="guidance", **given)]
        bans = names.index("sequence_bias")
        assert found == [*names[:bans], "guidance_scale", *names[bans:]]
        found = [name for name, _ in named(loaded, strategy="watermark", **given)]
        assert found == [*names, "watermark"]
        assert ours(loaded, strategy="watermark", **given)

    def test_mirostat_is_the_last_cut_and_temperature_before_it(self, loaded):
        for name in ("mirostat", "mirostat_v1"):
            found = named(loaded, strategy=name, temperature=0.7, bad_words="x")
            assert [n for n, _ in found] == ["bad_words", "temperature", "mirostat_tau"]

    def test_a_dynamic_temperature_takes_the_place_of_the_fixed_one(self, loaded):
        found = named(loaded, temperature=0.7, dynatemp_range=0.5)
        assert [n for n, _ in found] == ["dynatemp_range"]

    def test_the_temperature_may_come_behind_all_cuts(self, loaded):
        names = [*self.EVERYTHING]
        names.remove("presence_penalty")
        bends, cuts = ["temperature", "smoothing_factor"], names[names.index("top_n_sigma") :]
        given = {"do_sample": True, **self.EVERYTHING, "temperature_last": True}
        found = [name for name, _ in named(loaded, strategy="watermark", **given)]
        assert found == [*names[: names.index("temperature")], *cuts, *bends, "watermark"]
        found = named(loaded, strategy="adaptive_p", temperature=2.0, temperature_last=True)
        assert [n for n, _ in found] == ["min_p", "temperature", "adaptive_target"]
        found = named(loaded, strategy="min_p", dynatemp_range=0.5, temperature_last=True)
        assert [n for n, _ in found] == ["min_p", "dynatemp_range"]

    @pytest.mark.parametrize("kind", ["temperature", "dynatemp_range", "smoothing_factor"])
    def test_cuts_then_see_the_models_own_probabilities(self, loaded, kind):
        """As llama.cpp's samplers by default; by hand, of four tokens."""
        given = {"temperature": {"temperature": 2.0}, "smoothing_factor": {"smoothing_factor": 0.1},
                 "dynatemp_range": {"dynatemp_range": 0.5, "temperature": 1.5}}[kind]  # fmt: skip
        p = np.array([0.5, 0.3, 0.15, 0.05])
        kept = p[:3]  # 0.05 is a tenth of the likeliest, less than min_p 0.2
        logits = np.log(kept)
        if kind == "temperature":
            bent = logits / 2
        elif kind == "smoothing_factor":
            bent = logits.max() - 0.1 * (logits - logits.max()) ** 2
        else:
            q = kept / kept.sum()
            share = -(q * np.log(q)).sum() / np.log(3)  # of the most entropy that there may be
            bent = logits / (1.0 + (2.0 - 1.0) * share)
        expected = np.exp(bent) / np.exp(bent).sum()
        cut_first, cut_last = torch.tensor(np.log([p, p]), dtype=torch.float32)[:, None]
        for _, process in named(loaded, min_p=0.2, **given, temperature_last=True):
            cut_first = process(torch.tensor([[1]]), cut_first)
        np.testing.assert_allclose(cut_first[0].softmax(-1), [*expected, 0.0], rtol=1e-5)
        for _, process in named(loaded, min_p=0.2, **given):
            cut_last = process(torch.tensor([[1]]), cut_last)
        assert (cut_last > -torch.inf).all()  # flatter by then

    def test_what_is_neutral_is_not_there(self, loaded):
        assert named(loaded) == []
        assert named(loaded, strategy="temperature") == []
        neutral = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
        assert named(loaded, strategy="temperature", **neutral) == []

    def test_cuts_are_there_only_where_tokens_are_drawn(self, loaded):
        assert named(loaded, strategy="watermark", do_sample=False, top_p=1.0)[0][0] == "watermark"
        assert [n for n, _ in named(loaded, strategy="watermark")] == ["top_p", "watermark"]

    def test_none_is_left_to_transformers_which_would_put_it_last(self, loaded):
        """The list that `generate` builds around ours is one of ours, which holds them all."""
        seen: list[str] = []
        inner = loaded.model._get_logits_processor

        def spy(*args, **kwargs):
            made = inner(*args, **kwargs)
            assert isinstance(made, LogitsProcessorList)
            (all_of_them,) = made
            seen.extend(type(p).__name__ for p in all_of_them._processors)
            return made

        loaded.model._get_logits_processor = spy
        ours(loaded, strategy="nucleus", temperature=0.5, top_k=9, repetition_penalty=1.2)
        assert seen == [
            "RepetitionPenaltyLogitsProcessor", "TemperatureLogitsWarper", "function",
            "TopPLogitsWarper",
        ]  # fmt: skip


class TestWithoutEos:
    def test_what_is_about_the_end_does_nothing(self, loaded):
        bare = LoadedModel(loaded.model, loaded.tokenizer, SpecialTokens((), 0, 0))
        given = {"min_new_tokens": 5, "exponential_decay_length_penalty": [1, 50.0]}
        assert named(bare, **given) == []
        own = loaded.model.generation_config
        own.eos_token_id = None
        assert ours(bare, **given) == ours(bare)


class TestReproducible:
    @pytest.mark.parametrize(
        "given",
        [
            {"strategy": "mirostat"},
            {"strategy": "mirostat_v1"},
            {"strategy": "xtc"},
            {"strategy": "dynamic_temperature"},
            {"strategy": "quadratic_smoothing"},
            {"strategy": "top_n_sigma"},
            {"strategy": "top_a"},
            {"strategy": "tail_free"},
            {"strategy": "dry"},
            {"strategy": "watermark"},
            {"strategy": "synthid"},
        ],
        ids=str,
    )
    def test_a_seed_gives_the_text_again_and_another_another(self, loaded, given):
        hot = {"temperature": 2.0, **given}
        first = ours(loaded, seed=1, **hot)
        torch.rand(5)
        assert ours(loaded, seed=1, **hot) == first
        assert any(ours(loaded, seed=seed, **hot) != first for seed in (2, 3, 4))
