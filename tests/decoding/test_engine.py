from copy import deepcopy

import pytest
import torch
from transformers import GenerationConfig as TransformersConfig

from gptft.decoding import engine
from gptft.decoding.batch import generation_config
from gptft.decoding.engine import generate, make_sampler, unused_suggestions
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import Settings, resolve_settings, why_not_streamed
from gptft.decoding.special_tokens import SpecialTokens, special_tokens
from gptft.decoding.strategies import STRATEGIES
from gptft.errors import ConfigError, ModelError
from gptft.files import as_json
from tests.decoding.test_settings import NEEDED

PROMPTS = ("Мороз", "Буря мглою небо", "день чудесный! Ещё", "x", "вихри снежные")


def settings_of(**given):
    return resolve_settings({"max_new_tokens": 12, **given})


def loaded_of(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def texts(model, tokenizer, prompts, *, seed=5, **given):
    settings = settings_of(seed=seed, **given)
    return generate(loaded_of(model, tokenizer), prompts, settings=settings)


def stock(model, tokenizer, prompt, **given):
    """The prompt and what plain transformers makes of it, with its own defaults cleared."""
    model.generation_config = TransformersConfig(eos_token_id=0, pad_token_id=0)
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=12, **given)
    return [tokenizer.decode(row, skip_special_tokens=True).rstrip("\ufffd") for row in output]


@torch.no_grad()
def argmax_loop(model, tokenizer, prompt, *, num_tokens):
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(num_tokens):
        token = model(ids).logits[0, -1].argmax()
        if token == 0:
            break
        ids = torch.cat([ids, token.view(1, 1)], dim=1)
    return tokenizer.decode(ids[0]).rstrip("\ufffd")


def rows_of_calls(model):
    """A list that grows by the rows of each call of `model.generate`."""
    sizes = []
    generate = model.generate

    def spy(input_ids, **kwargs):
        sizes.append(len(input_ids))
        return generate(input_ids, **kwargs)

    model.generate = spy
    return sizes


class TestAgainstOutsideReferences:
    def test_greedy_is_an_argmax_loop_over_the_logits(self, model, tokenizer):
        for prompt in PROMPTS:
            (text,) = texts(model, tokenizer, [prompt])
            assert text.text == argmax_loop(model, tokenizer, prompt, num_tokens=12)

    def test_wide_enough_beams_find_the_likeliest_of_all_texts(self, model, tokenizer):
        ids = tokenizer("Мороз", return_tensors="pt")["input_ids"]
        num_ids = model.config.vocab_size
        with torch.no_grad():
            first = model(ids).logits[0, -1].log_softmax(-1)
            every = torch.cat([ids.repeat(num_ids, 1), torch.arange(num_ids)[:, None]], dim=1)
            second = model(every).logits[:, -1].log_softmax(-1)
        scores = (first[:, None] + second)[1:, 1:]  # two tokens, neither of them EOS
        a, b = divmod(int(scores.argmax()), num_ids - 1)
        best = tokenizer.decode([*ids[0], a + 1, b + 1]).rstrip("\ufffd")
        (text,) = texts(
            model, tokenizer, ["Мороз"], num_beams=num_ids, max_new_tokens=2, min_new_tokens=2
        )
        assert text.text == best

    @pytest.mark.parametrize(
        "given",
        [
            {"num_beams": 5},
            {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
            {"num_beams": 4, "num_return_sequences": 3, "no_repeat_ngram_size": 2},
        ],
    )
    def test_beam_is_stock_beam_search(self, model, tokenizer, given):
        expected = stock(model, tokenizer, "Мороз", do_sample=False, **given)
        assert [t.text for t in texts(model, tokenizer, ["Мороз"], **given)] == expected

    @pytest.mark.parametrize(
        "given",
        [
            {"strategy": "temperature", "temperature": 1.3, "top_k": 0},
            {"strategy": "top_k", "top_k": 20, "top_p": 0.8},
            {"strategy": "top_k", "top_k": 7, "num_return_sequences": 3},
            {"strategy": "nucleus", "top_p": 0.7, "top_k": 0, "repetition_penalty": 1.4},
            {"strategy": "beam_sampling", "num_beams": 3, "top_k": 9},
        ],
        ids=lambda given: given["strategy"],
    )
    def test_what_is_drawn_is_what_stock_sampling_draws(self, model, tokenizer, given):
        plain = {name: value for name, value in given.items() if name != "strategy"}
        torch.manual_seed(11)
        expected = stock(model, tokenizer, "Мороз", do_sample=True, **plain)
        drawn = texts(model, tokenizer, ["Мороз"], seed=11, **given)
        assert [t.text for t in drawn] == expected

    def test_the_default_top_k_of_transformers_is_not_in_force(self, model, tokenizer):
        torch.manual_seed(11)
        (expected,) = stock(model, tokenizer, "Мороз", do_sample=True, top_k=0, temperature=2.0)
        torch.manual_seed(11)
        (cut,) = stock(model, tokenizer, "Мороз", do_sample=True, temperature=2.0)
        (text,) = texts(model, tokenizer, ["Мороз"], seed=11, temperature=2.0)
        assert text.text == expected != cut

    def test_one_token_to_draw_from_is_greedy(self, model, tokenizer):
        (greedy,) = texts(model, tokenizer, ["Мороз"])
        (drawn,) = texts(model, tokenizer, ["Мороз"], strategy="top_k", top_k=1)
        assert drawn.continuation == greedy.continuation


class TestBatches:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"num_beams": 3},
            {"num_beams": 3, "num_return_sequences": 2},
            {"repetition_penalty": 1.5},
            {"no_repeat_ngram_size": 1},
        ],
        ids=str,
    )
    def test_prompts_together_give_what_each_gives_alone(self, model, tokenizer, given):
        alone = [t for p in PROMPTS for t in texts(model, tokenizer, [p], **given)]
        assert texts(model, tokenizer, PROMPTS, **given) == alone

    def test_more_prompts_than_a_batch_holds_keep_their_order(self, model, tokenizer):
        prompts = [PROMPTS[i % 5] + "," * (i % 3) for i in range(20)]
        given = {"max_new_tokens": 2}
        assert [t.prompt for t in texts(model, tokenizer, prompts, **given)] == prompts
        alone = [t for p in prompts for t in texts(model, tokenizer, [p], **given)]
        assert texts(model, tokenizer, prompts, **given) == alone

    def test_prompts_run_together_only_where_it_changes_nothing(self, model, tokenizer):
        sizes = rows_of_calls(model)
        loop = {"strategy": "dola", "do_sample": True}
        for given in ({}, {"top_k": 3}, {"repetition_penalty": 2.0}, {"num_beams": 2}, loop):
            texts(model, tokenizer, ["x", "y", "Мороз"], max_new_tokens=1, **given)
        assert sizes == [3, 3, 2, 1, 3, 1, 1, 1]

    @pytest.mark.parametrize(
        ("given", "batch_size", "expected"),
        [
            ({}, 16, [16, 4]),
            ({"top_k": 3}, 16, [16, 4]),
            ({"top_k": 3}, 1, [1] * 20),
            ({}, 7, [7, 7, 6]),
            ({}, 10**40, [20]),
            ({"top_k": 3, "num_return_sequences": 4}, 60, [60, 20]),
            ({"top_k": 3, "num_return_sequences": 5}, 16, [15] * 6 + [10]),
            ({"strategy": "best_of_n", "num_candidates": 40}, 16, [40] * 20),
        ],
        ids=str,
    )
    def test_so_many_texts_are_drawn_at_once(self, model, tokenizer, given, batch_size, expected):
        sizes = rows_of_calls(model)
        settings = settings_of(seed=1, **{"max_new_tokens": 1, **given})
        loaded = loaded_of(model, tokenizer)
        generate(loaded, PROMPTS * 4, settings=settings, batch_size=batch_size)
        assert sizes == expected

    @pytest.mark.parametrize(
        "given",
        [
            {"num_return_sequences": 3},
            {"temperature": 2.0, "stop_strings": ["а", "о"]},
            {"top_p": 0.9, "min_new_tokens": 3},
            {"strategy": "xtc", "xtc_probability": 0.5, "num_return_sequences": 2},
            {"strategy": "mirostat", "mirostat_tau": 2.0},
            {"strategy": "adaptive_p", "num_return_sequences": 2},
            {"strategy": "best_of_n", "num_candidates": 3},
            {"strategy": "self_consistency", "num_candidates": 4, "answer_pattern": "[а-я]"},
            {"strategy": "regex", "regex": "[а-я ]{3,9}", "do_sample": True},
            {"strategy": "contrastive_decoding", "amateur_layers": 1, "do_sample": True},
            {"strategy": "guidance", "negative_prompt": "Буря", "do_sample": True},
            {"strategy": "synthid"},
            {"top_k": 9, "token_healing": True},
        ],
        ids=str,
    )
    def test_drawn_prompts_together_give_what_each_gives_alone(self, model, tokenizer, given):
        given = {"temperature": 1.5, "max_new_tokens": 10, **given}
        prompts = [f"{prompt}{end}" for prompt in PROMPTS for end in ("", ".", ", и")]
        alone = [t for p in prompts for t in texts(model, tokenizer, [p], **given)]
        sizes = rows_of_calls(model)
        assert texts(model, tokenizer, prompts, **given) == alone
        assert len({t.continuation for t in alone}) > len(prompts) / 2
        assert len(sizes) < len(prompts) / 2  # of which each would be a call

    def test_the_same_seed_gives_the_same_text_whatever_else_is_asked(self, model, tokenizer):
        given = {"top_p": 0.9, "temperature": 2.0}
        (alone,) = texts(model, tokenizer, ["Мороз"], **given)
        together = texts(model, tokenizer, ["Буря", "Мороз", "x"], **given)
        assert together[1] == alone
        (other,) = texts(model, tokenizer, ["Мороз"], seed=6, **given)
        assert other.continuation != alone.continuation


class TestPrompts:
    def test_too_long_ones_are_refused_together_and_before_any_text(self, model, tokenizer):
        model.generate = None
        with pytest.raises(ConfigError) as caught:
            texts(model, tokenizer, ["x", "x" * 40, "x" * 60], max_new_tokens=20)
        long, longer = caught.value.problems
        assert "«xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…» has 40 tokens" in long
        assert "max_new_tokens 20 it doesn't fit the model's context of 48" in long
        assert "Set max_new_tokens to 9 or less, shorten the prompt, or let --window forget" in long
        assert longer.endswith(
            "context of 48. Shorten the prompt, or let --window forget its beginning."
        )

    def test_the_last_new_token_needs_no_position(self, model, tokenizer):
        (text,) = texts(model, tokenizer, ["x" * 40], max_new_tokens=9, min_new_tokens=9)
        assert text.num_new_tokens == 9

    def test_an_empty_one_begins_with_bos_or_eos(self, model, tokenizer):
        (text,) = texts(model, tokenizer, [""])
        assert text.prompt == ""
        ids = torch.tensor([[0]])
        with torch.no_grad():
            first = int(model(ids).logits[0, -1].argmax())
        assert text.text.startswith(tokenizer.decode([first]).rstrip("\ufffd"))

    def test_an_empty_one_with_nothing_to_begin_with_is_refused(self, model, tokenizer):
        bare = without_special_tokens(model, tokenizer)
        with pytest.raises(ConfigError, match="neither BOS nor EOS"):
            texts(model, bare, [""])

    def test_special_tokens_typed_in_a_prompt_stay_text(self, model, tokenizer):
        (text,) = texts(model, tokenizer, ["да<|endoftext|>"], max_new_tokens=2)
        assert text.text == "да<|endoftext|>" + text.continuation

    def test_a_tokenizer_of_another_model_is_refused(self, model, tokenizer):
        model.resize_token_embeddings(200)
        with pytest.raises(ModelError, match="belongs to another model"):
            texts(model, tokenizer, ["Мороз и солнце"])


class TestEnds:
    def test_a_text_ends_at_eos_or_at_its_length(self, model, tokenizer):
        with torch.no_grad():
            first = int(model(**tokenizer("x", return_tensors="pt")).logits[0, -1].argmax())
        (cut,) = texts(model, tokenizer, ["x"], max_new_tokens=3)
        assert (cut.stopped, cut.num_new_tokens) == ("length", 3)
        model.generation_config.eos_token_id = [0, first]
        (ended,) = texts(model, tokenizer, ["x"], max_new_tokens=3)
        assert (ended.stopped, ended.num_new_tokens, ended.continuation) == ("eos", 0, "")
        (forced,) = texts(model, tokenizer, ["x"], max_new_tokens=3, min_new_tokens=3)
        assert forced.num_new_tokens == 3

    def test_the_end_tokens_of_tokenizer_and_model_count_alike(self, model, tokenizer):
        model.generation_config.eos_token_id = [7, 0, 5_000]
        model.generation_config.bos_token_id = 9
        special = special_tokens(model, tokenizer)
        assert special.eos == (0, 7)
        assert special.start == 9
        assert special.pad == tokenizer.eos_token_id

    @pytest.mark.parametrize("given", [{}, {"num_beams": 3}, {"top_k": 5}], ids=str)
    def test_a_model_without_any_end_writes_to_the_length(self, model, tokenizer, given):
        bare = without_special_tokens(model, tokenizer)
        found = texts(model, bare, ["Мороз", "x"], **given)
        assert [(t.stopped, t.num_new_tokens) for t in found] == [("length", 12)] * 2


class TestTheModelIsLeftAlone:
    def test_its_own_generation_config_has_no_say_and_comes_back(self, model, tokenizer):
        expected = texts(model, tokenizer, ["Мороз"])
        with torch.no_grad():
            likeliest = model(**tokenizer("Мороз", return_tensors="pt")).logits[0, -1].argmax()
        own = TransformersConfig(
            do_sample=True,
            temperature=9.0,
            repetition_penalty=5.0,
            suppress_tokens=[int(likeliest)],
            eos_token_id=0,
        )
        model.generation_config = own
        assert texts(model, tokenizer, ["Мороз"]) == expected
        assert model.generation_config is own

    def test_it_comes_back_after_an_error_too(self, model, tokenizer):
        own = model.generation_config
        model.lm_head.weight.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="logits are not numbers"):
            texts(model, tokenizer, ["Мороз"], top_k=3)
        assert model.generation_config is own

    def test_a_model_trained_without_a_cache_writes_with_one(self, model, tokenizer):
        expected = texts(model, tokenizer, ["Мороз"])
        model.config.use_cache = model.generation_config.use_cache = False
        assert texts(model, tokenizer, ["Мороз"]) == expected


def test_lack_of_memory_is_one_line(model, tokenizer):
    def generate(input_ids, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    model.generate = generate
    with pytest.raises(ModelError, match="Out of memory on cpu"):
        texts(model, tokenizer, ["x"])


def test_what_transformers_refuses_is_a_config_error():
    # `resolve_settings` lets none of this through
    settings = Settings("beam", {"num_beams": 1, "length_penalty": 2.0})
    with pytest.raises(ConfigError, match=r"(?s)transformers refuses these settings: .*num_beams"):
        generation_config(settings, SpecialTokens((0,), 0, 0))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_passes_the_strict_check(name):
    settings = resolve_settings({"strategy": name, **NEEDED.get(name, {})})
    config = generation_config(settings, SpecialTokens((0,), 0, 0))
    assert (config.eos_token_id, config.pad_token_id) == ([0], 0)
    assert config.use_cache is None  # as the model can, which a batch knows


class TestSampler:
    def test_continues_each_prompt_once_and_always_alike(self, model, tokenizer):
        settings = settings_of(top_p=0.9, num_return_sequences=3)
        sample = make_sampler(settings)
        found = sample(model, tokenizer, PROMPTS)
        assert len(found) == len(PROMPTS)
        torch.rand(3)
        assert sample(model, tokenizer, PROMPTS) == found

    def test_draws_from_seed_0_where_none_was_given(self, model, tokenizer):
        given = {"top_p": 0.9, "temperature": 2.0}
        unseeded = make_sampler(settings_of(**given))(model, tokenizer, ["x"])
        assert make_sampler(settings_of(seed=0, **given))(model, tokenizer, ["x"]) == unseeded
        assert make_sampler(settings_of(seed=1, **given))(model, tokenizer, ["x"]) != unseeded

    def test_no_prompts_are_no_work(self, model, tokenizer):
        assert make_sampler(settings_of())(model, tokenizer, []) == []


class TestFromAFolder:
    def from_folder(self, folder, prompts, *, settings, **more):
        loaded = engine.load_model(str(folder), settings=settings, use_cpu=True)
        return generate(loaded, prompts, settings=settings, **more)

    def test_streamed_pieces_are_the_whole_text(self, model_dir):
        for given in ({}, {"top_k": 30, "temperature": 1.5, "seed": 2}):
            pieces: list[str] = []
            settings = settings_of(max_new_tokens=30, **given)
            (text,) = self.from_folder(
                model_dir, ["Мороз"], settings=settings, on_text=pieces.append
            )
            assert "".join(pieces) == text.text
            assert pieces[0] == "Мороз"
            assert len(pieces) > 3

    def test_a_drawn_seed_gives_the_text_again(self, model_dir):
        settings = settings_of(top_p=0.9)
        (text,) = self.from_folder(model_dir, ["Мороз"], settings=settings)
        again = settings_of(top_p=0.9, seed=text.settings.seed)
        assert self.from_folder(model_dir, ["Мороз"], settings=again) == [text]

    def test_what_can_not_be_streamed_is_refused(self, model_dir):
        with pytest.raises(ConfigError, match="can't be streamed: beam"):
            self.from_folder(model_dir, ["x"], settings=settings_of(num_beams=2), on_text=print)

    def test_an_error_of_the_listener_ends_it(self, model_dir):
        def closed(piece):
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            self.from_folder(model_dir, ["x"], settings=settings_of(), on_text=closed)

    def test_its_dict_has_every_field_a_script_needs(self, model_dir):
        settings = settings_of(max_new_tokens=2)
        (text,) = self.from_folder(model_dir, ["x"], settings=settings)
        assert as_json(text) == {
            "prompt": "x",
            "text": text.text,
            "continuation": text.text[1:],
            "strategy": "greedy",
            "settings": settings.to_dict(),
            "seed": None,
            "num_new_tokens": 2,
            "stopped": "length",
        }


class TestEveryStrategy:
    """All of them on one tiny model, alone and together with other prompts."""

    def given(self, name, model_dir):
        needed = dict(NEEDED.get(name, {}))
        needed = {k: str(model_dir) if k.endswith("_model") else v for k, v in needed.items()}
        if name == "context_aware":
            needed["context"] = "Буря мглою небо"
        if name == "choices":
            needed["choices"] = [" солнце", " день", "х снег"]
        if name == "regex":
            needed["regex"] = "( [а-я]{2,5}){2}[.;]"
        return {"strategy": name, "max_new_tokens": 10, "seed": 3, **needed}

    def load(self, name, model_dir):
        settings = resolve_settings(self.given(name, model_dir))
        return settings, engine.load_model(str(model_dir), settings=settings, use_cpu=True)

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_a_prompt_goes_on_alike_alone_and_beside_others(self, name, model_dir):
        settings, loaded = self.load(name, model_dir)
        alone = [generate(loaded, [prompt], settings=settings)[0] for prompt in PROMPTS[:3]]
        together = generate(loaded, PROMPTS[:3], settings=settings)
        assert [(t.prompt, t.new_ids, t.continuation) for t in together] == [
            (t.prompt, t.new_ids, t.continuation) for t in alone
        ]
        assert all(t.text == t.prompt + t.continuation for t in alone)
        assert all(0 <= t.num_new_tokens <= 10 for t in alone)

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_it_is_streamed_as_it_is_written_or_refused(self, name, model_dir):
        settings, loaded = self.load(name, model_dir)
        pieces: list[str] = []
        if why_not_streamed(settings, num_prompts=1):
            with pytest.raises(ConfigError, match="can't be streamed"):
                generate(loaded, ["Мороз"], settings=settings, on_text=pieces.append)
            assert pieces == []
            return
        (text,) = generate(loaded, ["Мороз"], settings=settings, on_text=pieces.append)
        assert "".join(pieces) == text.text


class TestStopStrings:
    def unreadable(self, tokenizer):
        """Ids of tokens that are no whole characters, which a text is to do without."""
        ids = range(1, tokenizer.vocab_size)
        return [i for i in ids if "\ufffd" in tokenizer.decode([i])]

    @pytest.mark.parametrize("pad", [None, 5])
    def test_new_ids_end_with_the_stop_string_whatever_else_was_asked(self, model, tokenizer, pad):
        tokenizer = deepcopy(tokenizer)
        if pad is not None:
            tokenizer.add_special_tokens({"pad_token": tokenizer.convert_ids_to_tokens(pad)})
        given = {"suppress_tokens": self.unreadable(tokenizer)}
        (whole,) = texts(model, tokenizer, ["Мороз"], **given)
        stop = whole.continuation[2:4]
        end = whole.continuation.index(stop)
        (alone,) = texts(model, tokenizer, ["Мороз"], stop_strings=stop, **given)
        assert alone.continuation == whole.continuation[:end]
        assert alone.stopped == "stop_string"
        assert alone.new_ids == whole.new_ids[: alone.num_new_tokens]
        shown = tokenizer.decode(alone.new_ids)
        assert stop in shown
        assert stop not in tokenizer.decode(alone.new_ids[:-1])
        beside = texts(model, tokenizer, ["Мороз", "x", "Буря"], stop_strings=stop, **given)
        assert beside[0] == alone

    def test_one_that_never_comes_changes_nothing(self, model, tokenizer):
        (plain,) = texts(model, tokenizer, ["Мороз"])
        (other,) = texts(model, tokenizer, ["Мороз"], stop_strings=["zzz"])
        assert (other.new_ids, other.stopped) == (plain.new_ids, "length")


class TestChoosing:
    GIVEN = {"num_candidates": 6, "temperature": 1.5, "max_new_tokens": 6}  # noqa: RUF012

    def drawn(self, model, tokenizer):
        """The same texts as each of the strategies draws before it chooses."""
        given = {**self.GIVEN, "num_return_sequences": 6}
        del given["num_candidates"]
        return texts(model, tokenizer, ["Мороз"], **given)

    def test_best_of_n_returns_those_of_the_highest_mean_log_probability(self, model, tokenizer):
        means = []
        for text in self.drawn(model, tokenizer):
            ids = torch.tensor([[*text.prompt_ids, *text.new_ids]])
            with torch.no_grad():
                logprobs = model(ids).logits[0].double().log_softmax(-1)
            start = len(text.prompt_ids)
            each = [logprobs[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])]
            means.append((sum(each) / len(each), text.new_ids))
        best, second = sorted(means, reverse=True)[:2]
        found = texts(
            model, tokenizer, ["Мороз"], strategy="best_of_n", top_p=1.0,
            num_return_sequences=2, **self.GIVEN,
        )  # fmt: skip
        assert [text.new_ids for text in found] == [best[1], second[1]]
        assert found[0].details["mean_logprob"] == pytest.approx(best[0], abs=1e-4)
        assert as_json(found[0])["mean_logprob"] == found[0].details["mean_logprob"]

    def test_mbr_returns_one_of_those_drawn(self, model, tokenizer):
        (text,) = texts(model, tokenizer, ["Мороз"], strategy="mbr", **self.GIVEN)
        assert text.new_ids in [t.new_ids for t in self.drawn(model, tokenizer)]

    def test_self_consistency_returns_a_text_with_the_commonest_answer(self, model, tokenizer):
        pattern = "[а-я]"
        (text,) = texts(
            model, tokenizer, ["Мороз"], strategy="self_consistency", answer_pattern=pattern,
            **self.GIVEN,
        )  # fmt: skip
        assert text.new_ids in [t.new_ids for t in self.drawn(model, tokenizer)]
        votes = text.details["votes"]
        assert text.details["answer"] in votes
        assert votes[text.details["answer"]] == max(votes.values())


class TestChat:
    TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<bot>"

    def test_prompts_are_put_into_the_models_own_template(self, model, tokenizer):
        chatty = deepcopy(tokenizer)
        chatty.chat_template = self.TEMPLATE
        settings = settings_of()
        (text,) = generate(loaded_of(model, chatty), ["Мороз"], settings=settings, chat=True)
        (plain,) = texts(model, tokenizer, ["<user>Мороз<bot>"])
        assert (text.prompt, text.new_ids) == ("Мороз", plain.new_ids)
        assert text.continuation == plain.continuation

    def test_without_a_template_it_is_refused(self, model, tokenizer):
        with pytest.raises(ConfigError, match="has no chat template"):
            generate(loaded_of(model, tokenizer), ["x"], settings=settings_of(), chat=True)

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("{{ raise_exception('Begin with a system prompt.') }}", "Begin with a system prompt."),
            ("{% for x in messages %}", "Unexpected end of template"),
            ({"rag": "x", "tools": "y"}, "multiple chat templates with no default"),
        ],
    )
    def test_a_template_that_refuses_a_prompt_is_quoted(self, model, tokenizer, template, said):
        chatty = deepcopy(tokenizer)
        chatty.chat_template = template
        with pytest.raises(ConfigError, match=f"chat template can't .*: .*{said}"):
            generate(loaded_of(model, chatty), ["x"], settings=settings_of(), chat=True)

    def test_a_context_does_not_go_with_it(self, model, tokenizer):
        chatty = deepcopy(tokenizer)
        chatty.chat_template = self.TEMPLATE
        settings = settings_of(context="Буря")
        with pytest.raises(ConfigError, match="context doesn't go with a chat template"):
            generate(loaded_of(model, chatty), ["x"], settings=settings, chat=True)


class TestSuggestions:
    def test_those_of_the_model_are_told_and_only_where_there_are_any(self, model, tokenizer):
        loaded = loaded_of(model, tokenizer)
        assert unused_suggestions(loaded) is None
        model.generation_config = TransformersConfig(do_sample=True, top_p=0.8, eos_token_id=0)
        assert unused_suggestions(loaded) == (
            "The model's own generation_config.json suggests do_sample true, top_p 0.8. It is not "
            "in force; give these settings to have them."
        )


def without_special_tokens(model, tokenizer):
    """Take every special id from the model; returns the tokenizer without its own."""
    model.generation_config = TransformersConfig()
    bare = deepcopy(tokenizer)
    bare.eos_token = bare.bos_token = bare.pad_token = None
    return bare
