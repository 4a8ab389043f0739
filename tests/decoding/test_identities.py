"""What must be the same, or hold, whichever way a text is written: through the engine, on GPT-2 and
Llama.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gptft.analysis.score import score_tokens
from gptft.analysis.why import explain
from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.engine import Generated, generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.decoding.strategies import STRATEGIES
from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.decoding.test_settings import NEEDED as settings_needed

PROMPTS = ("Буря мглою небо", "x", "день чудесный! Ещё ты дремлешь")
ENGLISH = "The quick brown fox jumps over the lazy dog, and the dog sleeps on."


def gpt2(
    *,
    seed: int = 1,
    layers: int = 3,
    vocab_size: int = 300,
    positions: int = 96,
    width: float = 0.25,
) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_layer=layers,
        n_head=2,
        n_embd=32,
        n_positions=positions,
        initializer_range=width,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def llama(*, seed: int = 3, positions: int = 96, width: float = 0.25) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=width,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def loaded_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **others: Any
) -> LoadedModel:
    """A writer; models besides the one that writes by the setting that names them."""
    theirs = others.pop("assistant_tokenizer", None)
    return LoadedModel(
        model, tokenizer, special_tokens(model, tokenizer), AuxiliaryModels(others, theirs)
    )


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return gpt2() if request.param == "gpt2" else llama()


@pytest.fixture(scope="module")
def loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    return loaded_of(model, tokenizer)


@pytest.fixture(scope="module")
def other_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Of another text and another size."""
    folder = tmp_path_factory.mktemp("english")
    trained = train_bpe(iter([ENGLISH] * 4), vocab_size=280, min_frequency=2)
    save_tokenizer(trained, folder, model_max_length=96)
    return AutoTokenizer.from_pretrained(folder)


def write(loaded: LoadedModel, prompts: Sequence[str] = PROMPTS, **given: Any) -> list[Generated]:
    return generate(
        loaded, prompts, settings=resolve_settings({"max_new_tokens": 16, "seed": 5, **given})
    )


def new_ids(texts: Sequence[Generated]) -> list[tuple[int, ...]]:
    return [text.new_ids for text in texts]


GREEDY: dict[str, dict[str, Any]] = {
    "temperature near 0": {"strategy": "temperature", "temperature": 1e-4},
    "top_k 1": {"strategy": "top_k", "top_k": 1},
    "top_p near 0": {"strategy": "nucleus", "top_p": 1e-6},
    "min_p 1": {"strategy": "min_p", "min_p": 1.0},
    "contrastive without a penalty": {"strategy": "contrastive", "penalty_alpha": 0.0, "top_k": 4},
    "an amateur that doesn't weigh": {
        "strategy": "contrastive_decoding",
        "amateur_layers": 1,
        "cd_beta": 0.0,
    },
    "guidance of 1": {"strategy": "guidance", "guidance_scale": 1.0},
    "early_exit 1": {"strategy": "early_exit", "assistant_early_exit": 1},
    "early_exit 2": {"strategy": "early_exit", "assistant_early_exit": 2},
    "early_exit, unsure drafts cut": {
        "strategy": "early_exit",
        "assistant_confidence_threshold": 0.4,
        "num_assistant_tokens_schedule": "heuristic",
    },
    "prompt_lookup": {"strategy": "prompt_lookup", "prompt_lookup_num_tokens": 3},
    "lookahead": {"strategy": "lookahead"},
    "lookahead, wide": {
        "strategy": "lookahead",
        "lookahead_window": 9,
        "lookahead_ngram_size": 4,
        "lookahead_guesses": 8,
    },
    "the best of equals": {"strategy": "best_of_n", "top_k": 1, "num_candidates": 3},
    "most like its equals": {"strategy": "mbr", "top_k": 1, "num_candidates": 3},
}


class TestGreedy:
    @pytest.mark.parametrize("given", GREEDY.values(), ids=GREEDY)
    def test_by_another_way(self, loaded: LoadedModel, given: dict[str, Any]):
        assert new_ids(write(loaded, **given)) == new_ids(write(loaded))

    def test_drafts_of_another_model(
        self, model: PreTrainedModel, loaded: LoadedModel, tokenizer: PreTrainedTokenizerBase
    ):
        """One that agrees now and then, and one that is the model itself."""
        for draft in (gpt2(layers=1), model):
            assisted = loaded_of(model, tokenizer, assistant_model=draft)
            texts = write(assisted, strategy="assisted", assistant_model="a draft")
            assert new_ids(texts) == new_ids(write(loaded))

    def test_drafts_of_a_model_with_another_tokenizer(
        self,
        model: PreTrainedModel,
        loaded: LoadedModel,
        tokenizer: PreTrainedTokenizerBase,
        other_tokenizer: PreTrainedTokenizerBase,
    ):
        assert other_tokenizer.get_vocab() != tokenizer.get_vocab()
        # A Russian text is about twice as long to it.
        draft = gpt2(layers=1, vocab_size=len(other_tokenizer), positions=256)
        assisted = loaded_of(
            model, tokenizer, assistant_model=draft, assistant_tokenizer=other_tokenizer
        )
        texts = write(assisted, strategy="assisted", assistant_model="a draft")
        assert new_ids(texts) == new_ids(write(loaded))

    def test_two_experts_that_are_one(
        self, model: PreTrainedModel, loaded: LoadedModel, tokenizer: PreTrainedTokenizerBase
    ):
        expert = gpt2(seed=9)
        pulled = loaded_of(model, tokenizer, expert_model=expert, antiexpert_model=expert)
        texts = write(pulled, strategy="dexperts", expert_model="a", antiexpert_model="a")
        assert new_ids(texts) == new_ids(write(loaded))

    def test_these_texts_are_no_trifle(self, loaded: LoadedModel):
        texts = new_ids(write(loaded))
        assert len(set(texts)) == len(PROMPTS)
        assert max(map(len, texts)) == 16


class TestDraws:
    @pytest.mark.parametrize(
        "given",
        [
            {"strategy": "min_p", "min_p": 0.0},
            {"strategy": "nucleus", "top_p": 1.0},
            {"strategy": "top_k", "top_k": 300},
            {"strategy": "typical", "typical_p": 1.0},
            {"strategy": "xtc", "xtc_probability": 0.0, "min_p": 0.0},
            {"strategy": "frequency_penalty", "frequency_penalty": 0.0},
        ],
        ids=lambda given: given["strategy"],
    )
    def test_a_cut_that_cuts_nothing(self, loaded: LoadedModel, given: dict[str, Any]):
        plain = write(loaded, strategy="temperature", temperature=1.5)
        assert new_ids(write(loaded, temperature=1.5, **given)) == new_ids(plain)

    @pytest.mark.parametrize(("make", "tau"), [(gpt2, 3.0), (llama, 5.0)], ids=["gpt2", "llama"])
    def test_mirostat_keeps_the_mean_surprise_at_tau(
        self, make: Any, tokenizer: PreTrainedTokenizerBase, tau: float
    ):
        model = make(positions=600, width=0.15)
        settings = {"max_new_tokens": 500, "min_new_tokens": 500, "mirostat_tau": tau}
        (text,) = write(loaded_of(model, tokenizer), PROMPTS[:1], strategy="mirostat", **settings)
        assert text.num_new_tokens == 500
        surprises = surprises_after_the_cut(model, text, tau=tau, eta=0.1)
        assert np.mean(surprises) == pytest.approx(tau, rel=0.1)
        (free,) = write(loaded_of(model, tokenizer), PROMPTS[:1], strategy="temperature",
                        max_new_tokens=100, min_new_tokens=100)  # fmt: skip
        assert np.mean(surprises_after_the_cut(model, free, tau=1e9, eta=0.0)) > 6


def surprises_after_the_cut(
    model: PreTrainedModel, text: Generated, *, tau: float, eta: float
) -> list[float]:
    """The bits of each token among those whose surprise isn't above mu, step by step."""
    ids = [*text.prompt_ids, *text.new_ids]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().numpy()
    logits[:, 0] = -np.inf  # EOS, which min_new_tokens forbids
    start, mu, found = len(text.prompt_ids), 2 * tau, []
    for token, row in zip(text.new_ids, logits[start - 1 :], strict=False):
        p = np.exp(row - row.max())
        p /= p.sum()
        with np.errstate(divide="ignore"):
            kept = (-np.log2(p) <= mu) | (p == p.max())
        surprise = -np.log2(p[token] / p[kept].sum())
        assert kept[token]
        mu -= eta * (surprise - tau)
        found.append(surprise)
    return found


class TestBeams:
    def test_one_group_without_a_penalty_is_beam_search(self, loaded: LoadedModel):
        given = {"num_beams": 4, "num_return_sequences": 3}
        groups = {"num_beam_groups": 1, "diversity_penalty": 0.0}
        diverse = write(loaded, strategy="diverse_beam", **groups, **given)
        assert new_ids(diverse) == new_ids(write(loaded, strategy="beam", **given))

    def test_beam_search_is_that_of_transformers(self, model: PreTrainedModel, loaded: LoadedModel):
        for text in write(loaded, strategy="beam", num_beams=4, length_penalty=0.5):
            output = native(model, text, num_beams=4, length_penalty=0.5)
            assert output == list(text.new_ids)

    def test_diverse_beams_share_fewer_tokens_than_beams(self, loaded: LoadedModel):
        given = {"num_beams": 4, "num_return_sequences": 4, "min_new_tokens": 16}
        beams = write(loaded, strategy="beam", **given)
        groups = {"num_beam_groups": 4, "diversity_penalty": 5.0}
        diverse = write(loaded, strategy="diverse_beam", **groups, **given)
        assert overlap(diverse) < overlap(beams)

    def test_beams_differ(self, loaded: LoadedModel):
        decode = loaded.tokenizer.decode
        # Of two texts that end within a character the same whole ones may be left.
        readable = {"suppress_tokens": [i for i in range(1, 300) if "\ufffd" in decode([i])]}
        for strategy in ("beam", "beam_sampling", "diverse_beam", "stochastic_beam"):
            own = {"num_beam_groups": 2} if strategy == "diverse_beam" else {}
            own = {"num_beams": 4, "num_return_sequences": 4, **own, **readable}
            texts = write(loaded, PROMPTS[:1], strategy=strategy, **own)
            assert len(set(new_ids(texts))) == 4
            assert len({text.continuation for text in texts}) == 4

    @pytest.mark.parametrize(
        "words", [["друг"], ["день", "небо"], [["fox", "dog"], "солнце"]], ids=str
    )
    def test_words_are_there(self, loaded: LoadedModel, words: list[str | list[str]]):
        for text in write(
            loaded, strategy="constrained_beam", force_words=words, num_beams=6, max_new_tokens=24
        ):
            for word in words:
                alternatives = [word] if isinstance(word, str) else word
                assert any(one in text.continuation for one in alternatives)


def overlap(texts: Sequence[Generated]) -> float:
    """Of a prompt's pairs of texts, the mean share of places with the same token."""
    shares = []
    for prompt in dict.fromkeys(text.prompt for text in texts):
        rows = [text.new_ids for text in texts if text.prompt == prompt]
        for i, one in enumerate(rows):
            shares += [np.mean([a == b for a, b in zip(one, o, strict=True)]) for o in rows[:i]]
    return float(np.mean(shares))


# What a strategy needs, for every one that can be had without draws.
NEEDED: dict[str, dict[str, Any]] = {
    **settings_needed,
    "constrained_beam": {"force_words": ["друг"], "num_beams": 4},
    "choices": {"choices": [" мороз", " мгла", " и небо"]},
    "regex": {"regex": "[а-я ,]{4,9}!"},
    "contrastive_decoding": {"amateur_layers": 1},
    "dexperts": {"antiexpert_model": "another"},
    "context_aware": {"context": "Буря мглою"},
    "assisted": {"assistant_model": "a draft"},
    "watermark": {"do_sample": False, "top_p": 1.0},
}
WITHOUT_DRAWS = [name for name, row in STRATEGIES.items() if row.draws != "always"]


@pytest.mark.parametrize("name", WITHOUT_DRAWS)
def test_a_row_of_a_batch_is_its_single_run(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
):
    others = {"assistant_model": gpt2(layers=1), "antiexpert_model": gpt2(seed=9)}
    loaded = loaded_of(model, tokenizer, **others)
    given = {"strategy": name, **NEEDED.get(name, {})}
    batch = write(loaded, **given)
    alone = [text for prompt in PROMPTS for text in write(loaded, [prompt], **given)]
    assert batch == alone
    assert all(text.prompt_ids for text in batch)


class TestNative:
    """The same numbers as transformers by itself."""

    def test_log_probabilities_of_tokens(self, model: PreTrainedModel, loaded: LoadedModel):
        for text in write(loaded):
            output = native(model, text, whole=True)
            ids = output.sequences[0].tolist()
            theirs = model.compute_transition_scores(
                output.sequences, output.logits, normalize_logits=True
            )
            ours = score_tokens(model, ids, start=len(text.prompt_ids))
            assert ids[len(text.prompt_ids) :][: text.num_new_tokens] == list(text.new_ids)
            assert [s.logprob for s in ours] == pytest.approx(theirs[0].tolist(), abs=1e-4)

    def test_log_probabilities_after_processors(self, model: PreTrainedModel, loaded: LoadedModel):
        given = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}
        texts = write(loaded, **given)
        for text, pieces in zip(texts, explain(loaded, texts), strict=True):
            output = native(model, text, whole=True, **given)
            theirs = model.compute_transition_scores(
                output.sequences, output.scores, normalize_logits=True
            )[0].tolist()
            ours = [p.score.processed_logprob for p in pieces if p.score is not None]
            assert len(ours) == text.num_new_tokens
            assert ours == pytest.approx(theirs[: text.num_new_tokens], abs=1e-4)

    @pytest.mark.parametrize("scale", [1.5, 3.0])
    def test_guidance(self, model: PreTrainedModel, loaded: LoadedModel, scale: float):
        given = {"strategy": "guidance", "guidance_scale": scale}
        negative = "день чудесный"
        negative_ids = loaded.tokenizer(negative, return_tensors="pt")["input_ids"]
        for text in write(loaded, negative_prompt=negative, **given):
            theirs = native(model, text, guidance_scale=scale, negative_prompt_ids=negative_ids)
            assert theirs == list(text.new_ids)
        texts = write(loaded, **given)
        for text in texts:
            assert native(model, text, guidance_scale=scale) == list(text.new_ids)
        assert new_ids(texts) != new_ids(write(loaded))

    def test_context_aware_decoding_is_guidance_without_the_context(
        self, model: PreTrainedModel, loaded: LoadedModel
    ):
        given = {"strategy": "context_aware", "context": "Буря мглою. ", "context_alpha": 0.5}
        for text in write(loaded, **given):
            ids = loaded.tokenizer(text.prompt, return_tensors="pt")["input_ids"]
            theirs = native(model, text, guidance_scale=1.5, negative_prompt_ids=ids)
            assert theirs == list(text.new_ids)


def native(model: PreTrainedModel, text: Generated, *, whole: bool = False, **given: Any) -> Any:
    """What plain transformers makes of a text's prompt: new ids before EOS, or its whole output."""
    negative = {n: given.pop(n) for n in ("negative_prompt_ids",) if n in given}
    config = GenerationConfig(
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=0,
        pad_token_id=0,
        bos_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
        **given,
    )
    ids = torch.tensor([text.prompt_ids])
    own, model.generation_config = model.generation_config, config
    try:
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config, **negative
        )
    finally:
        model.generation_config = own
    if whole:
        return output
    row = output.sequences[0, len(text.prompt_ids) :].tolist()
    return row[: row.index(0)] if 0 in row else row


class TestChosen:
    def test_of_identical_candidates_it_is_that_one(self, loaded: LoadedModel):
        (greedy,) = write(loaded, PROMPTS[:1])
        for strategy in ("mbr", "best_of_n", "self_consistency"):
            given = {"strategy": strategy, "top_k": 1, "temperature": 1.0, "num_candidates": 4}
            texts = write(loaded, PROMPTS[:1], num_return_sequences=2, **given)
            assert new_ids(texts) == [greedy.new_ids] * 2

    def test_the_best_of_n_is_the_likeliest_of_those_drawn(self, loaded: LoadedModel):
        given = {"temperature": 1.5, "top_p": 1.0, "seed": 7}
        drawn = write(loaded, PROMPTS[:1], strategy="temperature", num_return_sequences=6, **given)
        means = []
        for text in drawn:
            ids = [*text.prompt_ids, *text.new_ids]
            with torch.no_grad():
                logprobs = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            places = range(len(text.prompt_ids) - 1, len(ids) - 1)
            means.append(np.mean([float(logprobs[i, ids[i + 1]]) for i in places]))
        best = drawn[int(np.argmax(means))]
        (text,) = write(loaded, PROMPTS[:1], strategy="best_of_n", num_candidates=6, **given)
        assert text.new_ids == best.new_ids
        assert text.details["mean_logprob"] == pytest.approx(max(means), abs=1e-4)


def test_a_healed_prompt_ends_in_the_likeliest_token_that_begins_as_it_did(loaded: LoadedModel):
    def spelled(token: int) -> str:
        return str(loaded.tokenizer.decode([token]))

    prompts = ("Буря мглою ", "день ", "ин")
    for text in write(loaded, prompts, token_healing=True):
        *head, last = loaded.tokenizer(text.prompt)["input_ids"]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([head])).logits[0, -1].tolist()
        longer = [
            i
            for i in range(1, len(logits))
            if spelled(i).startswith(spelled(last)) and "\ufffd" not in spelled(i)
        ]
        assert len(longer) > 1
        healed = max(longer, key=lambda i: logits[i])
        assert list(text.prompt_ids) == [*head, healed]
        assert text.text.startswith(text.prompt)
