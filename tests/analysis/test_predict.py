"""Next tokens: probabilities, what each processor keeps, and the walk along the likeliest."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
)
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gptft.analysis.predict import PredictedStep, predict, predict_steps
from gptft.decoding.settings import resolve_settings
from gptft.errors import ConfigError, ModelError
from gptft.files import as_json
from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe

GREEDY = resolve_settings({"strategy": "greedy"})


@pytest.fixture
def prompt_ids(tokenizer):
    return tokenizer("Мороз и")["input_ids"]


@pytest.fixture
def other_dir(tmp_path, tokenizer):
    """Other weights, the same tokenizer."""
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=300, n_layer=1, n_head=2, n_embd=32, n_positions=48, initializer_range=0.25,
        eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    return tmp_path


def softmax(logits):
    exact = np.asarray(logits, dtype=np.float64)
    powers = np.exp(exact - exact.max())
    return powers / powers.sum()


def logits_after(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].numpy()


def next_tokens(*args, **kwargs) -> PredictedStep:
    (step,) = predict_steps(*args, steps=1, **kwargs)
    return step


class TestNextTokens:
    def test_likeliest_first_with_the_tokenizer_s_pieces(self, model, tokenizer, prompt_ids):
        step = next_tokens(model, tokenizer, prompt_ids, top=7)
        probabilities = softmax(logits_after(model, prompt_ids))
        best = np.argsort(-probabilities)[:7].tolist()
        assert [row.token_id for row in step.rows] == best
        np.testing.assert_allclose(
            [row.probability for row in step.rows], probabilities[best], rtol=1e-5
        )
        assert [row.final_probability for row in step.rows] == pytest.approx(
            [row.probability for row in step.rows]
        )
        assert {row.cut_by for row in step.rows} == {None}
        assert (step.kept, step.chosen, step.text) == ((), best[0], "Мороз и")
        entropy = -(probabilities * np.log2(probabilities)).sum()
        assert step.entropy_bits == pytest.approx(entropy, rel=1e-5)

    def test_pieces_are_shown_as_tokenize_does(self, model, tokenizer, prompt_ids):
        step = next_tokens(model, tokenizer, prompt_ids, top=300)
        pieces = {row.token_id: row.text for row in step.rows}
        assert len(pieces) == 300
        by_token = tokenizer.get_vocab()
        assert pieces[by_token["Ġ"]] == "·"
        assert pieces[by_token["Ċ"]] == "↵"
        assert pieces[by_token["Ð"]] == "⟨d0⟩"
        assert pieces[0] == "<|endoftext|>"

    def test_what_each_processor_keeps(self, model, tokenizer, prompt_ids):
        processors = [
            ("temperature", TemperatureLogitsWarper(2.0)),
            ("top_k", TopKLogitsWarper(20)),
            ("top_p", TopPLogitsWarper(0.6)),
        ]
        step = next_tokens(model, tokenizer, prompt_ids, processors=processors, top=30)
        warm = softmax(logits_after(model, prompt_ids) / 2.0)
        order = np.argsort(-warm)
        twenty = warm[order[:20]] / warm[order[:20]].sum()
        nucleus = int(np.searchsorted(np.cumsum(twenty), 0.6)) + 1
        assert 1 < nucleus < 20
        temperature, top_k, top_p = step.kept
        assert (temperature.num_before, temperature.num_after) == (300, 300)
        assert temperature.probability == pytest.approx(1.0)
        assert (top_k.num_before, top_k.num_after) == (300, 20)
        assert top_k.probability == pytest.approx(warm[order[:20]].sum(), rel=1e-5)
        assert (top_p.num_before, top_p.num_after) == (20, nucleus)
        assert top_p.probability == pytest.approx(twenty[:nucleus].sum(), rel=1e-5)
        cuts = [row.cut_by for row in step.rows]
        assert cuts == [None] * nucleus + ["top_p"] * (20 - nucleus) + ["top_k"] * 10
        finals = [row.final_probability for row in step.rows]
        expected = twenty[:nucleus] / twenty[:nucleus].sum()
        np.testing.assert_allclose(finals[:nucleus], expected, rtol=1e-5)
        assert {*finals[nucleus:]} == {0.0}

    def test_the_one_chosen_is_shown_though_it_is_unlikely(self, model, tokenizer, prompt_ids):
        order = np.argsort(-logits_after(model, prompt_ids)).tolist()
        processors = [("suppress_tokens", SuppressTokensLogitsProcessor(order[:5]))]
        step = next_tokens(model, tokenizer, prompt_ids, processors=processors, top=3)
        assert step.chosen == order[5]
        assert [row.token_id for row in step.rows] == [*order[:3], order[5]]
        assert [row.cut_by for row in step.rows] == ["suppress_tokens"] * 3 + [None]

    def test_a_token_brought_back_was_not_cut(self, model, tokenizer, prompt_ids):
        class Force(LogitsProcessor):
            def __call__(self, input_ids, scores):
                forced = torch.full_like(scores, -math.inf)
                forced[:, 0] = 0.0
                return forced

        processors = [("top_k", TopKLogitsWarper(1)), ("force", Force())]
        step = next_tokens(model, tokenizer, prompt_ids, processors=processors, top=300)
        cut_by = {row.token_id: row.cut_by for row in step.rows}
        assert step.chosen == 0
        assert cut_by.pop(0) is None
        likeliest = step.rows[0].token_id
        assert cut_by.pop(likeliest) == "force"
        assert {*cut_by.values()} == {"top_k"}

    def test_no_token_left(self, model, tokenizer, prompt_ids):
        processors = [("bad_words", SuppressTokensLogitsProcessor([*range(300)]))]
        with pytest.raises(ConfigError, match=r"bad_words leaves no token .* each of the 300"):
            next_tokens(model, tokenizer, prompt_ids, processors=processors)

    def test_logits_that_are_no_numbers(self, model, tokenizer, prompt_ids):
        model.transformer.ln_f.weight.data[0] = math.nan
        with pytest.raises(ModelError, match="not numbers"):
            next_tokens(model, tokenizer, prompt_ids)

    def test_an_id_that_only_the_model_knows(self, tokenizer, prompt_ids):
        torch.manual_seed(0)
        wide = GPT2LMHeadModel(GPT2Config(vocab_size=310, n_layer=1, n_head=2, n_embd=32)).eval()
        step = next_tokens(wide, tokenizer, prompt_ids, top=310)
        assert "⟨id 305⟩" in [row.text for row in step.rows]


class TestWalk:
    @pytest.fixture(params=["gpt2", "llama"])
    def causal(self, request, model):
        if request.param == "gpt2":
            return model
        torch.manual_seed(2)
        config = LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=48, initializer_range=0.25,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()

    def test_goes_as_greedy_search_does(self, causal, tokenizer, prompt_ids):
        native = causal.generate(
            torch.tensor([prompt_ids]), do_sample=False, max_new_tokens=8, eos_token_id=None,
            pad_token_id=0, repetition_penalty=1.5, return_dict_in_generate=True,
            output_logits=True,
        )  # fmt: skip
        processors = [("repetition_penalty", RepetitionPenaltyLogitsProcessor(1.5))]
        steps = predict_steps(causal, tokenizer, prompt_ids, processors=processors, steps=8, top=4)
        chosen = [step.chosen for step in steps]
        assert chosen == native.sequences[0, len(prompt_ids) :].tolist()
        for step, logits in zip(steps, native.logits, strict=True):
            probabilities = softmax(logits[0].numpy())
            for row in step.rows:
                assert row.probability == pytest.approx(probabilities[row.token_id], rel=1e-4)
        assert [step.text_after for step in steps[:-1]] == [step.text for step in steps[1:]]

    def test_processors_are_called_once_a_step(self, model, tokenizer, prompt_ids):
        seen = []

        class Watching(LogitsProcessor):
            def __call__(self, input_ids, scores):
                seen.append((input_ids.tolist()[0], scores.shape, scores.dtype))
                return scores.fill_(0.0)  # it may write into what it is given

        steps = predict_steps(
            model, tokenizer, prompt_ids, processors=[("watch", Watching())], steps=3
        )
        chosen = [step.chosen for step in steps]
        assert seen == [
            ([*prompt_ids, *chosen[:n]], (1, 300), torch.float32) for n in range(3)
        ]  # fmt: skip
        assert steps[0].rows[0].probability > steps[0].rows[1].probability

    def test_ends_with_eos(self, model, tokenizer, prompt_ids):
        first = predict_steps(model, tokenizer, prompt_ids, steps=1)[0].chosen
        steps = predict_steps(model, tokenizer, prompt_ids, steps=5, eos=(first,))
        assert len(steps) == 1

    def test_half_a_character_is_whole_in_the_end(self, model, tokenizer):
        vocab = tokenizer.get_vocab()
        step = next_tokens(model, tokenizer, [vocab["Ð"]])
        assert step.text == "⟨d0⟩"
        step = next_tokens(model, tokenizer, [vocab["Ð"], vocab["º"]])
        assert step.text == "к"

    def test_two_models_side_by_side(self, model, tokenizer, prompt_ids, other_dir):
        other = AutoModelForCausalLM.from_pretrained(other_dir).eval()
        steps = predict_steps(model, tokenizer, prompt_ids, steps=3, top=4, other=other)
        ids = list(prompt_ids)
        for step in steps:
            ours, theirs = softmax(logits_after(model, ids)), softmax(logits_after(other, ids))
            tops = {*np.argsort(-ours)[:4].tolist(), *np.argsort(-theirs)[:4].tolist()}
            assert {row.token_id for row in step.rows} == tops
            assert len(tops) > 4
            values = [row.probability for row in step.rows]
            assert values == sorted(values, reverse=True)
            for row in step.rows:
                assert row.other_probability == pytest.approx(theirs[row.token_id], rel=1e-4)
            entropy = -(theirs * np.log2(theirs)).sum()
            assert step.other_entropy_bits == pytest.approx(entropy, rel=1e-4)
            ids.append(step.chosen)


class TestPredict:
    def test_settings_become_processors(self, model_dir, model, tokenizer):
        settings = resolve_settings({"top_k": 5, "temperature": 2.0, "seed": 1})
        found = predict(str(model_dir), "Мороз", settings=settings, steps=2, top=8, use_cpu=True)
        processors = [("temperature", TemperatureLogitsWarper(2.0)), ("top_k", TopKLogitsWarper(5))]
        ids = tokenizer("Мороз")["input_ids"]
        expected = predict_steps(model, tokenizer, ids, processors=processors, steps=2, top=8)
        assert [kept.name for kept in found.steps[0].kept] == ["temperature", "top_k"]
        for ours, theirs in zip(found.steps, expected, strict=True):
            assert [row.token_id for row in ours.rows] == [row.token_id for row in theirs.rows]
            assert [row.cut_by for row in ours.rows] == [row.cut_by for row in theirs.rows]
            assert [row.final_probability for row in ours.rows] == pytest.approx(
                [row.final_probability for row in theirs.rows], rel=1e-5
            )

    def test_a_context_stands_before_the_prompt(self, model_dir, model, tokenizer):
        settings = resolve_settings({"strategy": "context_aware", "context": "Буря мглою. "})
        found = predict(str(model_dir), "Мороз", settings=settings, top=1, use_cpu=True)
        (step,) = found.steps
        assert step.text == "Буря мглою. Мороз"
        assert [kept.name for kept in step.kept] == ["context_alpha"]
        ids = [*tokenizer("Буря мглою. ")["input_ids"], *tokenizer("Мороз")["input_ids"]]
        expected = softmax(logits_after(model, ids))
        assert step.rows[0].probability == pytest.approx(expected.max(), rel=1e-5)

    def test_json(self, model_dir):
        settings = resolve_settings({"top_k": 5, "seed": 1})
        values = predict(str(model_dir), "Мороз", settings=settings, steps=2, top=8, use_cpu=True)
        values = as_json(values)
        assert (values["model"], values["prompt"]) == (str(model_dir), "Мороз")
        assert (values["strategy"], values["seed"]) == ("top_k", 1)
        assert len(values["steps"]) == 2
        assert values["steps"][0]["kept"][0]["num_after"] == 5
        assert {*values["steps"][0]["rows"][0]} == {
            "id", "piece", "probability", "final_probability", "cut_by",
        }  # fmt: skip

    def test_an_empty_prompt_begins_with_bos(self, model_dir):
        found = predict(str(model_dir), "", settings=GREEDY, use_cpu=True)
        assert found.steps[0].text == "<|endoftext|>"

    def test_another_model(self, model_dir, other_dir):
        found = predict(
            str(model_dir), "Мороз", settings=GREEDY, other_model_name=str(other_dir), use_cpu=True
        )
        assert found.other_model == str(other_dir)
        row = as_json(found)["steps"][0]["rows"][0]
        assert 0 <= row["other_probability"] <= 1

    def test_another_vocabulary_names_both_sizes(self, model_dir, model, tmp_path):
        theirs = train_bpe(iter(["other words"] * 4), vocab_size=262, min_frequency=2)
        save_tokenizer(theirs, tmp_path, model_max_length=48)
        model.save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=rf"has 300 tokens and .* {theirs.vocab_size}:"):
            predict(
                str(model_dir), "a", settings=GREEDY, other_model_name=str(tmp_path), use_cpu=True
            )

    def test_as_many_tokens_but_others(self, model_dir, model, tmp_path):
        theirs = train_bpe(iter(["quick brown foxes jump over"] * 9), vocab_size=300,
                                 min_frequency=1)  # fmt: skip
        backend = theirs.backend
        missing = 300 - theirs.vocab_size
        backend.add_tokens([f"<extra {n}>" for n in range(missing)])
        save_tokenizer(theirs, tmp_path, model_max_length=48)
        model.save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match="300 tokens each, but not the same ones"):
            predict(
                str(model_dir), "a", settings=GREEDY, other_model_name=str(tmp_path), use_cpu=True
            )

    @pytest.mark.parametrize(
        ("prompt", "given", "message"),
        [
            ("a\udcff", {}, "not UTF-8"),
            ("a", {"steps": 0}, "--steps is 0"),
            ("a", {"top": -1}, "--top is -1"),
            ("Мороз " * 40, {}, "context of 48. Shorten the prompt.$"),
            ("Мороз", {"steps": 50}, "with 50 steps .* or lower --steps"),
        ],
    )
    def test_a_mistake_is_named(self, model_dir, prompt, given, message):
        with pytest.raises(ConfigError, match=message):
            predict(str(model_dir), prompt, settings=GREEDY, use_cpu=True, **given)
