"""Ways in which `generate` of transformers goes wrong in silence; none can be fallen into here."""

import json
import logging
import threading
from copy import deepcopy

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging
from typer.testing import CliRunner

from gptft.api import load_config
from gptft.cli.app import app
from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.batch import generation_config
from gptft.decoding.engine import generate, load_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import SpecialTokens, special_tokens
from gptft.decoding.strategies import STRATEGIES
from gptft.errors import ConfigError, ModelError
from tests.decoding.test_settings import NEEDED

PROMPT = "Мороз и солнце"


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


@pytest.fixture
def run(model_dir):
    def run(*args, model=model_dir):
        arguments = ["generate", str(model), "--cpu", "-p", PROMPT, *args]
        return CliRunner().invoke(app, arguments)

    return run


def write(loaded, prompts=(PROMPT,), *, on_text=None, **given):
    settings = resolve_settings({"max_new_tokens": 12, "seed": 1, **given})
    return generate(loaded, list(prompts), settings=settings, on_text=on_text)


def ids_of(loaded, prompts=(PROMPT,), **given):
    return [list(text.new_ids) for text in write(loaded, prompts, **given)]


def refusal(**given):
    with pytest.raises(ConfigError) as caught:
        resolve_settings(given)
    return str(caught.value)


@torch.no_grad()
def argmax_loop(model, tokenizer, prompt, *, num_tokens):
    """Greedy without cache, batch or padding; EOS never comes."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(num_tokens):
        token = model(ids).logits[0, -1].argmax()
        assert token != 0
        ids = torch.cat([ids, token.view(1, 1)], dim=1)
    return ids[0, -num_tokens:].tolist()


class TestGuidanceWithBeamsOrDrafts:
    """The text without the prompt has a memory of its own, which beams and drafts would spoil."""

    @pytest.mark.parametrize("name", ["guidance", "context_aware"])
    @pytest.mark.parametrize(
        "other",
        [
            {"num_beams": 3},
            {"assistant_model": "x"},
            {"assistant_early_exit": 1},
            {"prompt_lookup_num_tokens": 3},
            {"lookahead_window": 3},
        ],
        ids=str,
    )
    def test_is_refused(self, name, other):
        message = refusal(strategy=name, context="x", **other)
        (setting,) = other
        assert f"{setting} is " in message
        assert "It can't be combined with beams and drafts" in message

    @pytest.mark.parametrize("name", ["beam", "beam_sampling", "diverse_beam", "assisted",
                                      "early_exit", "prompt_lookup", "lookahead"])  # fmt: skip
    def test_is_refused_the_other_way_round(self, name):
        needed = NEEDED.get(name, {})
        assert f"{name} doesn't use it" in refusal(strategy=name, guidance_scale=2.0, **needed)
        assert f"{name} doesn't use it" in refusal(strategy=name, context="x", **needed)

    def test_is_refused_where_no_strategy_is_named(self, run):
        result = run("--guidance-scale", "2", "--num-beams", "3")
        assert "num_beams is 3, and guidance, which" in str(result.exception)


class TestDraftSettings:
    """They are read from the draft's own generation config, wherever else they are put."""

    def calls(self, model, tokenizer, **given):
        """Forward passes of the writer and its draft, which is as good as the writer."""
        draft = deepcopy(model)
        own = draft.generation_config
        counts = {"writer": 0, "draft": 0}

        def count(name):
            def hook(*args):
                counts[name] += 1

            return hook

        hooks = [
            model.register_forward_hook(count("writer")),
            draft.register_forward_hook(count("draft")),
        ]
        others = AuxiliaryModels({"assistant_model": draft})
        loaded = LoadedModel(model, tokenizer, special_tokens(model, tokenizer), others)
        given = {"assistant_model": "draft", "assistant_confidence_threshold": 0.0, **given}
        (ids,) = ids_of(loaded, **given)
        for hook in hooks:
            hook.remove()
        assert draft.generation_config is own
        assert ids == argmax_loop(model, tokenizer, PROMPT, num_tokens=12)
        return counts["writer"], counts["draft"]

    def test_the_number_of_tokens_drafted_at_once_reaches_the_draft(self, model, tokenizer):
        # all are accepted, and one more is written each time
        for number in (1, 2, 3, 5, 11):
            model_calls, draft_calls = self.calls(model, tokenizer, num_assistant_tokens=number)
            assert model_calls == -(-12 // (number + 1))
            assert draft_calls <= 12
        assert self.calls(model, tokenizer, num_assistant_tokens=5)[0] == 2

    def test_the_threshold_of_confidence_reaches_the_draft(self, model, tokenizer):
        given = {"num_assistant_tokens": 11}
        assert self.calls(model, tokenizer, **given)[0] == 1
        sure = self.calls(model, tokenizer, assistant_confidence_threshold=1.0, **given)[0]
        assert sure >= 5

    def test_the_schedule_reaches_the_draft(self, model, tokenizer):
        """After a draft that was accepted whole, heuristic drafts two tokens more."""
        given = {"num_assistant_tokens": 1}
        heuristic = {"num_assistant_tokens_schedule": "heuristic_transient"}
        assert self.calls(model, tokenizer, **given)[0] == 6  # 2 + 2 + ...
        assert self.calls(model, tokenizer, **given, **heuristic)[0] == 3  # 2 + 4 + 6

    def test_so_they_do_for_early_exit(self, loaded, model, tokenizer):
        """Its first layer runs for each token drafted, too; most of them are refused here."""
        calls = []
        for number in (1, 8):
            seen: list[int] = []
            hook = model.transformer.h[0].register_forward_hook(lambda *a, s=seen: s.append(1))
            given = {"num_assistant_tokens": number, "assistant_confidence_threshold": 0.0}
            (ids,) = ids_of(loaded, strategy="early_exit", **given)
            hook.remove()
            assert ids == argmax_loop(model, tokenizer, PROMPT, num_tokens=12)
            calls.append(len(seen))
        assert calls[1] > 2 * calls[0]


class TestEarlyExit:
    """On GPT-2 it raises IndexError there, and leaves the config changed."""

    def test_gpt2_writes_what_it_would_have_and_keeps_its_config(self, loaded, model, tokenizer):
        before = (model.config.to_dict(), model.generation_config, len(model.transformer.h))
        (ids,) = ids_of(loaded, strategy="early_exit")
        assert ids == argmax_loop(model, tokenizer, PROMPT, num_tokens=12)
        assert before == (model.config.to_dict(), model.generation_config, 2)

    def test_llama_too(self, tokenizer):
        torch.manual_seed(3)
        config = LlamaConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64,
            num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
            initializer_range=0.25, eos_token_id=0, bos_token_id=0,
        )  # fmt: skip
        llama = LlamaForCausalLM(config).eval()
        loaded = LoadedModel(llama, tokenizer, special_tokens(llama, tokenizer))
        (plain,) = ids_of(loaded)
        for layers in (1, 2):
            assert ids_of(loaded, assistant_early_exit=layers) == [plain]
        assert llama.config.num_hidden_layers == len(llama.model.layers) == 3

    def test_the_config_is_as_it_was_after_an_error_too(self, loaded, model):
        before = model.config.to_dict()
        with pytest.raises(ConfigError, match="the model has 2, and it takes 1 to 1 of them"):
            write(loaded, assistant_early_exit=2)
        model.lm_head.weight.data.fill_(float("nan"))
        with pytest.raises(ModelError):
            write(loaded, assistant_early_exit=1)
        assert model.config.to_dict() == before


class TestTypes:
    """An int for a float, a float for an int and 3e-4, which YAML takes for text."""

    GIVEN = "{temperature: 2, top_k: 5.0, eta_cutoff: 3e-4, min_new_tokens: 3.0}"

    def test_values_reach_generate_in_the_type_it_wants(self, loaded, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_text(f"generation: {self.GIVEN}\n", encoding="utf-8")
        given = load_config(path).generation
        meant = {"temperature": 2.0, "top_k": 5, "eta_cutoff": 0.0003, "min_new_tokens": 3}
        assert given == meant
        assert [type(value) for value in given.values()] == [float, int, float, int]
        assert ids_of(loaded, **given) == ids_of(loaded, **meant)

    def test_plain_transformers_takes_none_of_them(self, model, tokenizer):
        inputs = tokenizer("x", return_tensors="pt")
        for name, value in (("temperature", 2), ("top_k", 5.0), ("eta_cutoff", "3e-4")):
            model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
            with pytest.raises((ValueError, TypeError)):
                model.generate(**inputs, do_sample=True, max_new_tokens=1, **{name: value})

    def test_top_k_is_never_50_unless_it_was_asked_for(self):
        for name, row in STRATEGIES.items():
            settings = resolve_settings({"strategy": name, **NEEDED.get(name, {})})
            made = generation_config(settings, SpecialTokens((0,), 0, 0))
            if row.draws == "always" and row.loop == "native":
                assert made.top_k == 0  # ours is a processor
            assert settings["top_k"] == {"top_k": 50, "contrastive": 4}.get(name, 0)

    def test_null_is_refused_with_what_turns_it_off(self, run):
        result = run("--set", "generation.top_k=null")
        assert "top_k must be a whole number, not null. 0 turns it off." in str(result.exception)


class TestSuggestionsOfTheModel:
    """Unset fields are taken from the model's own generation_config.json without a word."""

    @pytest.fixture
    def suggesting(self, model, tokenizer, tmp_path):
        folder = tmp_path / "suggesting"
        model.generation_config = GenerationConfig(
            do_sample=True, temperature=1.9, top_p=0.5, repetition_penalty=4.0, eos_token_id=0
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        saved = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        assert saved["do_sample"] is True
        return folder

    def test_are_not_in_force(self, suggesting, model, tokenizer):
        settings = resolve_settings({"max_new_tokens": 12})
        loaded = load_model(str(suggesting), settings=settings, use_cpu=True)
        (ids,) = ids_of(loaded)
        assert ids == argmax_loop(model, tokenizer, PROMPT, num_tokens=12)
        hot = {"strategy": "temperature", "temperature": 3.0}
        plain = LoadedModel(model, tokenizer, loaded.special)
        model.generation_config = GenerationConfig(eos_token_id=0)
        assert ids_of(loaded, **hot) == ids_of(plain, **hot)

    def test_are_told(self, suggesting, run):
        result = run("--max-new-tokens", "5", model=suggesting)
        assert result.exit_code == 0
        first, second = result.stderr.splitlines()
        assert first.endswith("greedy: max_new_tokens 5")
        assert second == (
            "The model's own generation_config.json suggests do_sample true, temperature 1.9, "
            "top_p 0.5, repetition_penalty 4.0. It is not in force; give these settings to have "
            "them."
        )


class TestStopStringsWithBeamsAndWithoutEos:
    """There rows are filled up with -1, which no tokenizer can decode."""

    def test_every_text_ends_before_the_stop_string(self, model, tokenizer):
        bare = deepcopy(tokenizer)
        bare.eos_token = bare.bos_token = bare.pad_token = None
        model.generation_config = GenerationConfig()
        loaded = LoadedModel(model, bare, special_tokens(model, bare))
        assert loaded.special.eos == ()
        unreadable = [i for i in range(1, 300) if "\ufffd" in bare.decode([i])]
        given = {"num_beams": 4, "num_return_sequences": 4, "suppress_tokens": unreadable}
        stops = [text.continuation[3:5] for text in write(loaded, **given)]
        for stop in stops:
            found = write(loaded, [PROMPT, "x"], stop_strings=stop, **given)
            assert any(text.stopped == "stop_string" for text in found)
            for text in found:
                assert stop not in text.continuation
                assert min(text.new_ids) >= 0
                length = text.num_new_tokens
                assert (length < 12) if text.stopped == "stop_string" else (length == 12)

    def test_plain_transformers_fills_up_with_minus_1(self, model, tokenizer):
        model.generation_config = GenerationConfig(pad_token_id=0)
        inputs = tokenizer(PROMPT, return_tensors="pt")
        asked = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 12}
        plain = model.generate(**inputs, **asked)
        shown = tokenizer.decode(plain[0, inputs["input_ids"].shape[1] :])
        cut = model.generate(**inputs, **asked, stop_strings=[shown[1:2]], tokenizer=tokenizer)
        assert cut.min() == -1 or cut.shape[1] < plain.shape[1]


class TestStrictCheck:
    """The lax one says once and vaguely that flags may be ignored."""

    def test_every_text_passes_it(self, loaded, monkeypatch):
        strict: list[bool] = []
        validate = GenerationConfig.validate

        def spy(self, strict_=False, **kwargs):
            strict.append(kwargs.get("strict", strict_))
            return validate(self, **kwargs)

        monkeypatch.setattr(GenerationConfig, "validate", spy)
        write(loaded, max_new_tokens=1)
        assert True in strict

    @pytest.mark.parametrize(
        "given",
        [
            {"strategy": "greedy", "temperature": 0.5},
            {"strategy": "greedy", "length_penalty": 2.0},
            {"strategy": "nucleus", "length_penalty": 2.0},
            {"strategy": "beam", "top_p": 0.5},
            {"strategy": "greedy", "num_return_sequences": 2},
        ],
        ids=str,
    )
    def test_what_would_be_ignored_is_an_error(self, given):
        *_, last = given
        assert f"{last} is {given[last]}, and {given['strategy']} doesn't use it" in refusal(
            **given
        )

    @pytest.mark.parametrize(
        "given",
        [
            {"top_p": 1.5}, {"top_p": 0}, {"typical_p": 1.5}, {"epsilon_cutoff": 1.5},
            {"eta_cutoff": -0.5}, {"no_repeat_ngram_size": -1}, {"num_beams": 0},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_it_lets_through_is_an_error_too(self, given):
        (name,) = given
        assert refusal(**given).startswith(f"{name} must be ")

    def test_so_are_ids_beyond_the_vocabulary(self, loaded):
        with pytest.raises(ConfigError, match="there is no id 300"):
            write(loaded, suppress_tokens=300)


class TestWarnings:
    """A config and loose arguments together are deprecated; only a config is given."""

    def given(self, name, model_dir):
        needed = NEEDED.get(name, {})
        return {k: str(model_dir) if k.endswith("_model") else v for k, v in needed.items()}

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_no_strategy_causes_one(self, name, model_dir, caplog, monkeypatch):
        """Neither as a warning, which is an error in these tests, nor in the log."""
        settings = resolve_settings(
            {"strategy": name, "max_new_tokens": 3, **self.given(name, model_dir)}
        )
        loaded = load_model(str(model_dir), settings=settings, use_cpu=True)
        transformers_logging.set_verbosity_warning()
        transformers_logging.enable_propagation()
        try:
            with caplog.at_level(logging.WARNING):
                generate(loaded, [PROMPT], settings=settings)
        finally:
            transformers_logging.disable_propagation()
            transformers_logging.set_verbosity_error()
        assert [record.getMessage() for record in caplog.records] == []

    def test_no_setting_is_given_beside_the_config(self, loaded, model):
        seen: list[set[str]] = []
        inner = model.generate

        def spy(*args, **kwargs):
            seen.append(set(kwargs))
            return inner(*args, **kwargs)

        model.generate = spy
        write(loaded)
        write(loaded, num_beams=2, stop_strings="x")
        write(loaded, temperature=0.5, max_time=9.0)
        fields = set(vars(GenerationConfig()))
        assert len(seen) == 3
        assert not set.union(*seen) & fields


class TestContextLimit:
    """Beyond it GPT-2 raises IndexError in the middle of a text."""

    def test_is_said_up_front(self, loaded, model):
        model.generate = None
        with pytest.raises(ConfigError) as caught:
            write(loaded, ["x" * 40], max_new_tokens=10)
        message = str(caught.value)
        assert "has 40 tokens, and with max_new_tokens 10 it doesn't fit" in message
        assert "Set max_new_tokens to 9 or less" in message

    def test_its_last_place_is_used(self, loaded, model):
        for given in ({}, {"num_beams": 2}, {"strategy": "contrastive"}, {"strategy": "lookahead"},
                      {"strategy": "early_exit"}, {"strategy": "prompt_lookup"},
                      {"strategy": "dola"}, {"strategy": "guidance"}):  # fmt: skip
            full = {"max_new_tokens": 9, "min_new_tokens": 9, **given}
            (text,) = write(loaded, ["x" * 40], **full)
            assert text.num_new_tokens == 9

    def test_a_window_slides_where_it_is_asked_to(self, run):
        refused = run("--max-new-tokens", "80")
        assert "let --window forget its beginning" in str(refused.exception)
        result = run("--max-new-tokens", "80", "--min-new-tokens", "80", "--window", "--json")
        (text,) = json.loads(result.stdout)
        assert text["num_new_tokens"] == 80


class TestLengthAndEmptyPrompts:
    """20 new tokens where nothing is said, and a RuntimeError for an empty prompt."""

    def test_the_length_in_force_is_shown(self, run):
        result = run("--min-new-tokens", "60", "--window", "--json")
        assert "greedy: max_new_tokens 60, min_new_tokens 60" in result.stderr
        assert json.loads(result.stdout)[0]["num_new_tokens"] == 60

    def test_an_empty_prompt_begins_with_bos_or_eos(self, loaded, model, tokenizer):
        first = int(model(torch.tensor([[0]])).logits[0, -1].argmax())
        (text,) = write(loaded, [""])
        assert text.new_ids[0] == first
        assert text.prompt_ids == (0,)
        found = write(loaded, ["", PROMPT])
        assert found[0].new_ids == text.new_ids


class TestPadding:
    """Right padding, or none of the mask, gives other texts; drawn rows share random numbers."""

    PROMPTS = (PROMPT, "x", "Буря мглою небо кроет", "Мороз")

    def test_rows_are_padded_on_the_left_under_an_explicit_mask(self, loaded, model):
        seen = []
        inner = model.generate

        def spy(input_ids, **kwargs):
            seen.append((input_ids, kwargs["attention_mask"]))
            return inner(input_ids, **kwargs)

        model.generate = spy
        write(loaded, self.PROMPTS)
        write(loaded, ["x"])
        (ids, mask), (one, one_mask) = seen
        assert one_mask.tolist() == [[1] * one.shape[1]]
        lengths = sorted(len(loaded.tokenizer(p)["input_ids"]) for p in self.PROMPTS)
        width = lengths[-1]
        assert mask.tolist() == [[0] * (width - n) + [1] * n for n in lengths]
        assert ids[:, -1].ne(0).all()

    def test_a_row_is_the_prompts_own_text(self, loaded, model, tokenizer):
        expected = [argmax_loop(model, tokenizer, p, num_tokens=12) for p in self.PROMPTS]
        assert ids_of(loaded, self.PROMPTS) == expected

    def test_padding_on_the_right_would_have_given_another(self, loaded, model, tokenizer):
        plain = ids_of(loaded, self.PROMPTS)
        model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
        inputs = tokenizer(list(self.PROMPTS))["input_ids"]
        width = max(map(len, inputs))
        rows = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in inputs])
        mask = torch.tensor([[*[1] * len(ids), *[0] * (width - len(ids))] for ids in inputs])
        wrong = model.generate(rows, attention_mask=mask, max_new_tokens=12)[:, width:]
        assert wrong.tolist() != plain

    @pytest.mark.parametrize(
        "given",
        [
            {"temperature": 2.0},
            {"strategy": "mirostat"},
            {"strategy": "beam_sampling", "temperature": 2.0},
            {"strategy": "mbr", "num_return_sequences": 2},
        ],
        ids=str,
    )
    def test_a_seed_gives_a_prompt_its_text_whatever_else_is_asked(self, loaded, given):
        alone = [row for p in self.PROMPTS for row in ids_of(loaded, [p], **given)]
        assert ids_of(loaded, self.PROMPTS, **given) == alone
        backwards = ids_of(loaded, self.PROMPTS[::-1], **given)
        each = len(alone) // len(self.PROMPTS)
        groups = [alone[i : i + each] for i in range(0, len(alone), each)]
        assert backwards == [row for group in groups[::-1] for row in group]


class TestStreaming:
    """For one text without beams; elsewhere a consumer would wait for ever."""

    def test_what_can_not_be_is_refused_with_its_reason(self, loaded, run):
        pieces: list[str] = []
        for given, reason in (
            ({"num_beams": 2}, "beam knows its text only when the last beam has ended"),
            ({"temperature": 1.0, "num_return_sequences": 2}, "num_return_sequences is 2"),
            ({"strategy": "mbr"}, "mbr chooses among texts that are whole"),
            ({"strategy": "dola"}, "dola hands its text over when it is whole"),
        ):
            with pytest.raises(ConfigError, match=f"This can't be streamed: {reason}"):
                write(loaded, on_text=pieces.append, **given)
        with pytest.raises(ConfigError, match="there are 2 prompts"):
            write(loaded, ["x", "y"], on_text=pieces.append)
        assert pieces == []
        result = run("--stream", "--num-beams", "2")
        assert "--stream is impossible here: beam knows" in str(result.exception)

    def test_an_error_of_the_model_ends_it(self, loaded, model):
        calls, pieces = [], []

        def fail(*args):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("broken")

        model.register_forward_hook(fail)
        before = threading.active_count()
        unreadable = [i for i in range(1, 300) if "\ufffd" in loaded.tokenizer.decode([i])]
        with pytest.raises(RuntimeError, match="broken"):
            write(loaded, on_text=pieces.append, suppress_tokens=unreadable)
        assert pieces[0] == PROMPT
        assert len(pieces) == 4  # and what was written before the error
        assert threading.active_count() <= before  # others of the process may have ended

    def test_an_error_of_the_reader_ends_it(self, loaded):
        def closed(piece):
            raise BrokenPipeError

        before = threading.active_count()
        with pytest.raises(BrokenPipeError):
            write(loaded, on_text=closed)
        assert threading.active_count() <= before  # others of the process may have ended


class TestCacheImplementation:
    """A paged cache ignores the mask."""

    def test_it_can_not_be_asked_for(self, run):
        assert "cache_implementation is not a setting" in refusal(cache_implementation="paged")
        result = run("--set", "generation.cache_implementation=paged")
        assert "generation.cache_implementation is not a setting" in str(result.exception)
        assert run("--cache-implementation", "paged").exit_code == 2

    def test_a_model_can_not_ask_for_it_either(self, loaded, model):
        plain = ids_of(loaded, [PROMPT, "x"])
        model.generation_config.cache_implementation = "paged"
        assert ids_of(loaded, [PROMPT, "x"]) == plain
