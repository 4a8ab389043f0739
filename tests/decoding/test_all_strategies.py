"""Every strategy as its shipped YAML has it, on the bundled model."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from transformers.utils import logging as transformers_logging

from gptft.api import load_config
from gptft.decoding.batch import LoadedModel
from gptft.decoding.engine import Generated, generate, load_model
from gptft.decoding.settings import Settings, check_strategies, choose_settings, resolve_settings
from gptft.decoding.strategies import STRATEGIES
from tests.conftest import ROOT

FOLDER = ROOT / "configs" / "generate"
SHIPPED = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
NAMED = SHIPPED["named"]
PROMPTS = (
    "Мороз и солнце",
    "The fox",
    "Буря мглою небо кроет, вихри снежные крутя; то, как зверь,",
)
# Not every strategy: one without a YAML fails the test that says so, and no other.
WITH_YAML = [name for name in SHIPPED if name in STRATEGIES]
OTHER_MODELS = ("assistant_model", "amateur_model", "expert_model", "antiexpert_model")


def settings_of(name: str, *, seed: int = 1) -> Settings:
    """The settings of a strategy's YAML, with few new tokens."""
    given = {**load_config(SHIPPED[name]).generation, "max_new_tokens": 8, "seed": seed}
    return resolve_settings(given)


@pytest.fixture(scope="module")
def pico() -> LoadedModel:
    greedy = resolve_settings({"strategy": "greedy"})
    return load_model("pico", settings=greedy, use_cpu=True)


@contextmanager
def heard() -> Iterator[list[str]]:
    """What transformers has to complain of."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_warning()
    transformers_logging.add_handler(handler)
    try:
        yield messages
    finally:
        transformers_logging.remove_handler(handler)
        transformers_logging.set_verbosity(before)


def loaded_for(settings: Settings, pico: LoadedModel) -> LoadedModel:
    if any(settings[name] for name in OTHER_MODELS):
        return load_model("pico", settings=settings, use_cpu=True)
    return pico


def continuations(texts: list[Generated]) -> list[str]:
    return [text.continuation for text in texts]


def test_every_strategy_has_a_file_of_its_name_and_no_other_is_there():
    assert set(SHIPPED) == {*STRATEGIES, "named"}


@pytest.mark.parametrize("name", SHIPPED)
def test_is_headed_by_the_command_that_runs_it(name: str):
    lines = SHIPPED[name].read_text(encoding="utf-8").splitlines()
    commands = [shlex.split(line[1:]) for line in lines if line.startswith("#   gptft")]
    assert commands
    for command in commands:
        assert command[:4] == ["gptft", "generate", "pico", "-p"]
        assert command[5:7] == ["--config", f"configs/generate/{name}.yaml"]
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")


@pytest.mark.parametrize("name", STRATEGIES)
def test_is_the_strategy_it_is_named_after(name: str):
    generation = load_config(SHIPPED[name]).generation
    assert generation["strategy"] == name
    assert "max_new_tokens" in generation
    assert "seed" not in generation


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_batch_is_its_prompts_alone_and_a_seed_is_one_text(name: str, pico: LoadedModel):
    settings = settings_of(name)
    loaded = loaded_for(settings, pico)
    with heard() as complaints:
        batch = generate(loaded, PROMPTS, settings=settings)
    if name in ("assisted", "early_exit"):  # its own code for drafts does what it complains of
        complaints = [said for said in complaints if "`generation_config` together" not in said]
    assert complaints == []
    alone = [text for prompt in PROMPTS for text in generate(loaded, [prompt], settings=settings)]
    assert continuations(batch) == continuations(alone)
    assert [text.prompt for text in batch] == [text.prompt for text in alone]
    number = settings["num_return_sequences"]
    assert [text.prompt for text in batch] == [p for p in PROMPTS for _ in range(number)]
    assert all(0 < text.num_new_tokens <= 8 for text in batch)


@pytest.mark.parametrize("name", [n for n in WITH_YAML if settings_of(n).do_sample])
def test_another_seed_is_another_text(name: str, pico: LoadedModel):
    loaded = loaded_for(settings_of(name), pico)
    drawn = [
        tuple(continuations(generate(loaded, PROMPTS[:1], settings=settings_of(name, seed=seed))))
        for seed in (1, 2, 3)
    ]
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("name", [n for n in WITH_YAML if not settings_of(n).do_sample])
def test_without_draws_a_seed_changes_nothing(name: str, pico: LoadedModel):
    settings = settings_of(name)
    loaded = loaded_for(settings, pico)
    first = generate(loaded, PROMPTS[:1], settings=settings)
    other = generate(loaded, PROMPTS[:1], settings=settings_of(name, seed=2))
    assert continuations(first) == continuations(other)


class TestNamed:
    config = load_config(NAMED)

    def test_all_can_be_had(self):
        check_strategies(self.config.strategies)
        assert len(self.config.strategies) >= 3

    def test_the_strategies_in_its_commands_are_there(self):
        known = {*self.config.strategies, *STRATEGIES}
        lines = NAMED.read_text(encoding="utf-8").splitlines()
        commands = [shlex.split(line[1:]) for line in lines if line.startswith("#   gptft")]
        names = [name for command in commands for name in command[-1].split(",")]
        assert set(names) <= known

    @pytest.mark.parametrize("name", list(config.strategies))
    def test_each_writes(self, name: str, pico: LoadedModel):
        given = {"strategy": name, "max_new_tokens": 8, "seed": 1}
        settings = choose_settings(self.config.generation, self.config.strategies, given=given)
        assert settings.strategy == self.config.strategies[name]["strategy"]
        (text,) = generate(pico, PROMPTS[:1], settings=settings)
        assert text.num_new_tokens > 0
