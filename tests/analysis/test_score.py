"""Scores of given tokens, against transformers' own and formulas written out here."""

import inspect
import math
import tracemalloc

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper

from gptft.analysis.score import score as score_text
from gptft.analysis.score import score_tokens
from gptft.decoding import logprobs as teacher_forcing
from gptft.decoding.logprobs import sequence_logprobs
from gptft.errors import ConfigError, ModelError
from gptft.files import as_json

VOCAB = 300
PROMPT = [11, 250, 37, 4, 90]


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        initializer_range=0.25,
        eos_token_id=0,
        bos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["gpt2", "llama"])
def causal(request, model):
    return model if request.param == "gpt2" else request.getfixturevalue("llama")


def ids_of(length, *, seed=0):
    """Random ids, none of them EOS."""
    return torch.randint(1, 290, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def reference(model, ids, *, start):
    """Log-probabilities of ids[start:], each from a run of its own over all that stands before."""
    found = []
    with torch.no_grad():
        for t in range(start, len(ids)):
            logits = model(torch.tensor([ids[:t]])).logits[0, -1].numpy().astype(np.float64)
            found.append(logits[ids[t]] - np.logaddexp.reduce(logits))
    return np.array(found)


def windowed_reference(model, ids, *, context, start=1):
    """As `reference`, each token after the beginning of its window alone."""
    stride, found = context // 2, []
    with torch.no_grad():
        for t in range(start, len(ids)):
            begin = max(math.ceil((t - context) / stride), 0) * stride
            logits = model(torch.tensor([ids[begin:t]])).logits[0, -1].numpy().astype(np.float64)
            found.append(logits[ids[t]] - np.logaddexp.reduce(logits))
    return np.array(found)


def logprobs(scores):
    return np.array([score.logprob for score in scores])


class TestAgainstTransformers:
    def test_greedy(self, causal):
        output = causal.generate(
            torch.tensor([PROMPT]), do_sample=False, max_new_tokens=12, pad_token_id=0,
            return_dict_in_generate=True, output_logits=True, output_scores=True,
        )  # fmt: skip
        native = causal.compute_transition_scores(
            output.sequences, output.logits, normalize_logits=True
        )
        ours = score_tokens(causal, output.sequences[0].tolist(), start=len(PROMPT))
        np.testing.assert_allclose(logprobs(ours), native[0].numpy(), atol=1e-5)
        assert [score.token_id for score in ours] == output.sequences[0, len(PROMPT) :].tolist()
        assert {score.rank for score in ours} == {1}
        assert {score.processed_logprob for score in ours} == {None}

    def test_sampling_raw_and_after_processors(self, causal):
        torch.manual_seed(5)
        output = causal.generate(
            torch.tensor([PROMPT]), do_sample=True, temperature=1.7, top_k=20, max_new_tokens=15,
            pad_token_id=0, return_dict_in_generate=True, output_logits=True, output_scores=True,
        )  # fmt: skip
        natives = [
            causal.compute_transition_scores(output.sequences, steps, normalize_logits=True)[0]
            for steps in (output.logits, output.scores)
        ]
        processors = LogitsProcessorList([TemperatureLogitsWarper(1.7), TopKLogitsWarper(20)])
        ours = score_tokens(
            causal, output.sequences[0].tolist(), start=len(PROMPT), processors=processors
        )
        np.testing.assert_allclose(logprobs(ours), natives[0].numpy(), atol=1e-5)
        processed = [score.processed_logprob for score in ours]
        np.testing.assert_allclose(processed, natives[1].numpy(), atol=1e-5)
        assert max(score.rank for score in ours) > 1

    def test_beams(self, causal):
        penalty = 0.7
        output = causal.generate(
            torch.tensor([PROMPT]), num_beams=4, num_return_sequences=4, length_penalty=penalty,
            do_sample=False, max_new_tokens=10, pad_token_id=0, eos_token_id=None,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        rows = output.sequences.tolist()
        sums = sequence_logprobs(causal, rows, starts=[len(PROMPT)] * 4)
        lengths = np.array([len(row) - len(PROMPT) for row in rows])
        assert {*lengths} == {10}
        expected = np.array(sums) / lengths**penalty
        np.testing.assert_allclose(expected, output.sequences_scores.numpy(), atol=1e-5)
        native = causal.compute_transition_scores(
            output.sequences, output.scores, output.beam_indices
        )
        for row, steps in zip(rows, native, strict=True):
            ours = score_tokens(causal, row, start=len(PROMPT))
            np.testing.assert_allclose(logprobs(ours), steps.numpy(), atol=1e-5)


class TestScoreTokens:
    def test_rank_surprisal_and_runners_up(self, causal):
        ids = ids_of(9)
        ours = score_tokens(causal, ids, start=8, num_runners_up=3)
        (score,) = ours
        with torch.no_grad():
            logits = causal(torch.tensor([ids[:8]])).logits[0, -1].numpy().astype(np.float64)
        probabilities = np.exp(logits - np.logaddexp.reduce(logits))
        order = np.argsort(-probabilities, kind="stable")
        assert score.rank == 1 + order.tolist().index(ids[8])
        assert score.surprisal_bits == pytest.approx(-np.log2(probabilities[ids[8]]), abs=1e-5)
        best = [i for i in order.tolist() if i != ids[8]][:3]
        assert [i for i, _, _ in score.runners_up] == best
        np.testing.assert_allclose(
            [p for _, p, _ in score.runners_up], probabilities[best], rtol=1e-4
        )

    def test_the_token_itself_is_no_runner_up(self, causal):
        ids = ids_of(6)
        with torch.no_grad():
            likeliest = int(causal(torch.tensor([ids])).logits[0, -1].argmax())
        (score,) = score_tokens(causal, [*ids, likeliest], start=6, num_runners_up=2)
        assert score.rank == 1
        assert likeliest not in [i for i, _, _ in score.runners_up]
        assert len(score.runners_up) == 2
        (alone,) = score_tokens(causal, [*ids, likeliest], start=6, num_runners_up=0)
        assert alone.runners_up == ()

    def test_a_token_that_processors_took_away(self, model):
        ids = ids_of(6)
        top_1 = LogitsProcessorList([TopKLogitsWarper(1)])
        (score,) = score_tokens(model, ids, start=5, processors=top_1, num_runners_up=2)
        assert score.rank > 2
        assert score.processed_logprob == -math.inf
        assert score.processed_probability == 0.0
        assert [after for _, _, after in score.runners_up] == pytest.approx([1.0, 0.0])

    def test_processors_see_each_prefix_once_and_in_order(self, causal):
        seen = []

        class Watching(LogitsProcessor):
            def __call__(self, input_ids, scores):
                seen.append((input_ids.tolist(), scores.shape, scores.dtype))
                scores.fill_(0.0)  # a processor may write into what it is given
                return scores

        ids = ids_of(7)
        ours = score_tokens(causal, ids, start=3, processors=LogitsProcessorList([Watching()]))
        assert seen == [([ids[:t]], (1, VOCAB), torch.float32) for t in range(3, 7)]
        np.testing.assert_allclose(logprobs(ours), reference(causal, ids, start=3), atol=1e-5)
        processed = [score.processed_logprob for score in ours]
        np.testing.assert_allclose(processed, [-math.log(VOCAB)] * 4, atol=1e-6)

    @pytest.mark.parametrize("start", [1, 60, 100])
    def test_three_contexts_through_the_window(self, causal, start):
        ids = ids_of(3 * 48 + 5)
        ours = score_tokens(causal, ids, start=start)
        expected = windowed_reference(causal, ids, context=48, start=start)
        np.testing.assert_allclose(logprobs(ours), expected, atol=2e-5)

    def test_a_long_text_takes_some_dozen_bytes_a_token(self, causal):
        ids = [1, 2, 3, 4] * 2500
        score_tokens(causal, ids[:100], start=1)  # what is loaded at first use
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        scores = score_tokens(causal, ids, start=1)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(scores) == len(ids) - 1
        assert after - before < 100 * len(ids)

    def test_parts_of_the_scores(self, causal):
        scores = score_tokens(causal, [1, 2, 3, 4, 5], start=2)
        assert [score.token_id for score in scores] == [3, 4, 5]
        assert scores[-1] == [*scores][2] == scores[1:][1]
        assert scores[3:] == []
        with pytest.raises(IndexError):
            scores[3]

    def test_a_text_just_as_long_as_the_context_needs_no_window(self, causal):
        ids = ids_of(49)  # the last one is never read
        ours = score_tokens(causal, ids, start=40)
        np.testing.assert_allclose(logprobs(ours), reference(causal, ids, start=40), atol=1e-5)

    @pytest.mark.parametrize("tokens_at_once", [1, 7])
    def test_small_pieces_give_the_same(self, causal, monkeypatch, tokens_at_once):
        ids = ids_of(110)
        whole = score_tokens(causal, ids, start=1)
        monkeypatch.setattr(teacher_forcing, "LOGITS_AT_ONCE", tokens_at_once * VOCAB)
        sizes = []
        forward = causal.forward

        def watching(*args, **kwargs):
            output = forward(*args, **kwargs)
            sizes.append(output.logits.shape[1])
            return output

        watching.__signature__ = inspect.signature(forward)
        monkeypatch.setattr(causal, "forward", watching)
        pieces = score_tokens(causal, ids, start=1)
        np.testing.assert_allclose(logprobs(pieces), logprobs(whole), atol=2e-5)
        assert max(sizes) == tokens_at_once

    def test_logits_that_are_no_numbers(self, model):
        model.transformer.ln_f.weight.data[0] = math.nan
        with pytest.raises(ModelError, match="not numbers"):
            score_tokens(model, PROMPT, start=1)
        with pytest.raises(ModelError, match="not numbers"):
            sequence_logprobs(model, [PROMPT, PROMPT[:3]], starts=[1, 1])

    @pytest.mark.parametrize("start", [0, 6])
    def test_a_start_that_is_none(self, model, start):
        with pytest.raises(ValueError, match="start"):
            score_tokens(model, PROMPT, start=start)


class TestSequenceLogprobs:
    @pytest.mark.parametrize("batch_size", [1, 3, 16])
    def test_each_row_is_as_it_is_alone(self, causal, batch_size):
        rows = [ids_of(length, seed=length) for length in (12, 3, 30, 7, 30, 2)]
        starts = [5, 1, 29, 7, 1, 1]
        ours = sequence_logprobs(causal, rows, starts=starts, batch_size=batch_size)
        expected = [
            reference(causal, row, start=start).sum()
            for row, start in zip(rows, starts, strict=True)
        ]
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        assert ours[3] == 0.0

    def test_long_rows_beside_short_ones(self, causal, monkeypatch):
        monkeypatch.setattr(teacher_forcing, "LOGITS_AT_ONCE", 3 * 10 * VOCAB)
        rows = [ids_of(120, seed=1), ids_of(9, seed=2), ids_of(70, seed=3)]
        ours = sequence_logprobs(causal, rows, starts=[1, 4, 50])
        expected = [
            windowed_reference(causal, row, context=48, start=start).sum()
            for row, start in zip(rows, [1, 4, 50], strict=True)
        ]
        np.testing.assert_allclose(ours, expected, atol=2e-3)

    def test_no_rows(self, model):
        assert sequence_logprobs(model, [], starts=[]) == []


class TestTextScore:
    TEXT = "Мороз и солнце; день чудесный! 😀"

    def test_numbers_by_hand(self, model_dir, model, tokenizer):
        score = score_text(str(model_dir), self.TEXT, use_cpu=True)
        ids = tokenizer(self.TEXT)["input_ids"]
        nats = -reference(model, [0, *ids], start=1)
        bits = nats.sum() / np.log(2)
        num_bytes = len(self.TEXT.encode("utf-8"))
        assert (score.num_tokens, score.num_bytes) == (len(ids), num_bytes)
        assert score.bits == pytest.approx(bits, rel=1e-5)
        assert score.bits_per_byte == pytest.approx(bits / num_bytes, rel=1e-5)
        assert score.bits_per_token == pytest.approx(bits / len(ids), rel=1e-5)
        assert score.perplexity == pytest.approx(np.exp(nats.mean()), rel=1e-4)
        assert (score.begins_after, score.context, score.lossless) == ("<|endoftext|>", None, True)
        assert b"".join(token.token.bytes for token in score.tokens).decode() == self.TEXT
        assert [token.token.id for token in score.tokens] == ids

    def test_special_tokens_typed_are_text(self, model_dir):
        score = score_text(str(model_dir), "Мороз<|endoftext|>", use_cpu=True)
        assert 0 not in [token.token.id for token in score.tokens]
        assert b"".join(t.token.bytes for t in score.tokens) == "Мороз<|endoftext|>".encode()

    def test_the_window_is_owned_up_to(self, model_dir, model, tokenizer):
        text = "Буря мглою небо кроет, вихри снежные крутя. " * 6
        ids = [0, *tokenizer(text)["input_ids"]]
        score = score_text(str(model_dir), text, use_cpu=True)
        assert len(ids) > 96
        assert score.context == 48
        expected = -windowed_reference(model, ids, context=48).sum() / np.log(2)
        assert score.bits == pytest.approx(expected, rel=1e-5)

    @pytest.fixture
    def without_bos(self, model_dir, tmp_path):
        model = AutoModelForCausalLM.from_pretrained(model_dir)
        model.generation_config.bos_token_id = model.generation_config.eos_token_id = None
        model.config.bos_token_id = model.config.eos_token_id = None
        model.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        tokenizer.eos_token = None
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    def test_without_bos_the_first_token_has_no_score(self, without_bos, model, tokenizer):
        score = score_text(str(without_bos), self.TEXT, use_cpu=True)
        ids = tokenizer(self.TEXT)["input_ids"]
        first = score.tokens[0]
        assert (score.begins_after, first.score, score.num_tokens) == (None, None, len(ids) - 1)
        assert score.num_bytes == len(self.TEXT.encode()) - len(first.token.bytes)
        bits = -reference(model, ids, start=1).sum() / np.log(2)
        assert score.bits_per_byte == pytest.approx(bits / score.num_bytes, rel=1e-5)
        assert as_json(score)["tokens"][0]["probability"] is None
        with pytest.raises(ConfigError, match="one token"):
            score_text(str(without_bos), "М", use_cpu=True)

    def test_a_tokenizer_that_begins_with_bos_itself(self, model_dir, model, tmp_path):
        from tokenizers.processors import TemplateProcessing

        model.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        name = "<|endoftext|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{name} $A {name}", special_tokens=[(name, 0)]
        )
        tokenizer.save_pretrained(tmp_path)
        ours = score_text(str(tmp_path), self.TEXT, use_cpu=True)
        plain = score_text(str(model_dir), self.TEXT, use_cpu=True)
        assert ours.begins_after == name
        assert ours.bits == pytest.approx(plain.bits)

    def test_json_has_every_token_and_no_infinity(self, model_dir):
        score = score_text(str(model_dir), "день", use_cpu=True, num_runners_up=2)
        values = as_json(score)
        assert values["num_tokens"] == len(values["tokens"])
        assert {*values["tokens"][0]} == {
            "id", "text", "bytes", "probability", "processed_probability", "bits", "rank",
            "runners_up",
        }  # fmt: skip
        assert [*values["tokens"][0]["runners_up"][0]] == [
            "id", "piece", "probability", "processed_probability",
        ]  # fmt: skip
        total = sum(token["bits"] for token in values["tokens"])
        assert values["bits"] == pytest.approx(total)

    @pytest.mark.parametrize(("text", "message"), [("", "empty"), ("a\udcffb", "Character 2")])
    def test_nothing_to_score(self, model_dir, text, message):
        with pytest.raises(ConfigError, match=message):
            score_text(str(model_dir), text, use_cpu=True)
