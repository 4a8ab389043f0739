"""Settings that leave no token are an error in every strategy; bans never leave none by chance."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from gptft.decoding.engine import generate, load_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.decoding.strategies import STRATEGIES
from gptft.errors import ConfigError
from tests.decoding.test_all_strategies import loaded_for, settings_of

PROMPT = "Мороз и солнце"
# What they write comes from a list of their own, where bans count only as far as it goes.
OWN_TEXTS = {"choices", "regex", "json_schema", "grammar"}


@pytest.fixture(scope="module")
def pico() -> LoadedModel:
    return load_model("pico", settings=resolve_settings({}), use_cpu=True)


@pytest.fixture
def loaded(model, tokenizer) -> LoadedModel:
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - OWN_TEXTS))
def test_it_is_an_error_in_every_strategy(name: str, pico: LoadedModel) -> None:
    vocabulary = list(range(len(pico.tokenizer)))
    settings = settings_of(name).changed(suppress_tokens=vocabulary)
    with pytest.raises(ConfigError, match=r"leave no token|can't all be written"):
        generate(loaded_for(settings, pico), [PROMPT], settings=settings)


@pytest.mark.parametrize("strategy", ["greedy", "temperature", "dola", "contrastive"])
def test_it_is_one_later_in_the_text_too(strategy: str, loaded: LoadedModel) -> None:
    """Of 300 tokens each may come once, where no token may be repeated."""
    kept = [5, 9, 11]
    banned = [i for i in range(len(loaded.tokenizer)) if i not in kept]
    settings = resolve_settings(
        {"strategy": strategy, "suppress_tokens": banned, "no_repeat_ngram_size": 1, "seed": 1}
    )
    with pytest.raises(ConfigError, match="leave no token"):
        generate(loaded, ["x"], settings=settings.changed(max_new_tokens=4))
    (text,) = generate(loaded, ["x"], settings=settings.changed(max_new_tokens=3))
    assert sorted(text.new_ids) == kept


@pytest.mark.parametrize("stop", ["eos", "stop_string"])
@pytest.mark.parametrize("do_sample", [False, True])
def test_a_text_that_has_ended_needs_none(
    loaded: LoadedModel, stop: str, do_sample: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two texts of a batch: the first ends, and nothing is left to it then."""
    ends = loaded.special.eos[0] if stop == "eos" else 60
    texts = [loaded.tokenizer.decode([60])] if stop != "eos" else []

    def process(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        first = torch.full_like(scores, -torch.inf)
        if input_ids.shape[1] == length:
            first[:, ends] = 0.0
            first[1:] = -torch.inf
        first[1:, 61] = 0.0
        return first

    prompts = ["x", "y"]
    length = len(loaded.tokenizer("x").input_ids)
    monkeypatch.setattr(
        "gptft.decoding.batch.named_processors", lambda settings, batch: [("test", process)]
    )
    settings = resolve_settings({"max_new_tokens": 3, "stop_strings": texts})
    if do_sample:  # drawn texts share a batch where there are several of a prompt
        settings = resolve_settings(
            {"strategy": "temperature", "num_return_sequences": 2, "max_new_tokens": 3,
             "stop_strings": texts, "seed": 1}
        )  # fmt: skip
        prompts = ["x"]
    if loaded.tokenizer.pad_token_id is None and stop == "stop_string":
        loaded = replace(loaded, special=replace(loaded.special, pad=loaded.special.eos[0]))
    first, second = generate(loaded, prompts, settings=settings)
    assert first.stopped == stop
    assert second.new_ids == (61, 61, 61)


OTHERS = {
    "contrastive_decoding": {"amateur_layers": 1},
    "dola": {"dola_layers": "low"},
    "guidance": {"guidance_scale": 3.0},
    "context_aware": {"context": "Буря мглою небо кроет."},
}


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_only_what_is_allowed_is_written_however_unlikely(
    name: str, do_sample: bool, loaded: LoadedModel
) -> None:
    """Contrasts cut what is implausible: never all that is allowed."""
    with torch.no_grad():
        ids = torch.tensor([loaded.tokenizer(PROMPT).input_ids])
        ranked = loaded.model(ids).logits[0, -1].argsort()
    unlikely = [i for i in ranked.tolist() if loaded.tokenizer.decode([i]).isalpha()][:2]
    words = [loaded.tokenizer.decode([i]) for i in unlikely]
    settings = resolve_settings(
        {"strategy": name, **OTHERS[name], "allowed_words": words, "min_new_tokens": 6,
         "max_new_tokens": 6, "do_sample": do_sample, "seed": 1}
    )  # fmt: skip
    (text,) = generate(loaded, [PROMPT], settings=settings)
    allowed = {
        i
        for word in words
        for form in (word, f" {word}")
        for i in loaded.tokenizer(form, add_special_tokens=False).input_ids
    }
    assert len(text.new_ids) == 6
    assert set(text.new_ids) <= allowed


@pytest.mark.parametrize("name", OTHERS)
def test_a_text_goes_on_where_only_eos_was_plausible(name: str, loaded: LoadedModel) -> None:
    eos = loaded.special.eos[0]

    def certain(model: object, args: object, output: Any) -> None:
        output.logits[..., eos] = 1000.0

    loaded.model.register_forward_hook(certain)
    given = {"strategy": name, **OTHERS[name], "min_new_tokens": 5, "max_new_tokens": 6}
    (text,) = generate(loaded, [PROMPT], settings=resolve_settings(given))
    assert len(text.new_ids) == 5
    assert text.stopped == "eos"


@pytest.mark.parametrize("given", [{"guidance_scale": 1.0}, {"guidance_scale": 1}])
def test_a_negative_prompt_without_effect_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="guidance_scale 1"):
        resolve_settings({"strategy": "guidance", "negative_prompt": "зима", **given})
