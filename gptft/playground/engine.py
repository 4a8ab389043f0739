"""A loaded model, and perhaps its base -> answers to what the page asks, one at a time."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Literal

from gptft.analysis.explain.explain import explain_opened, open_base
from gptft.analysis.memorization import training_text_of
from gptft.analysis.predict import predict_steps
from gptft.analysis.scored_tokens import ScoredToken, token_reader
from gptft.analysis.why import explain
from gptft.console import Notify, silent
from gptft.decoding.auxiliary_models import load_auxiliary_models
from gptft.decoding.batch import batch_context
from gptft.decoding.encoding import encode_bare
from gptft.decoding.engine import encode_all, generate, load_model, unused_suggestions
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import Settings, resolve_settings, why_not_streamed, with_seed
from gptft.decoding.special_tokens import check_ids, special_tokens
from gptft.decoding.strategies import GENERATION, SETTINGS, STRATEGIES
from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.models.load import context_of, special_ids
from gptft.models.precision import DtypeName
from gptft.report.explain import explain_html
from gptft.report.language import Words
from gptft.runs.read import as_mapping, read_facts
from gptft.text.scripts import PageLanguage, page_language
from gptft.tokenization.tokens import Token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Which = Literal["model", "base"]

# What the page begins with where a run has no prompt of its own: the one its tokens spell best.
_PROMPTS = ("Мороз и солнце; день чудесный!", "The frost and the sun; a wonderful day!")
_MOST_PROMPT = 20_000  # characters
_MOST_NEW_TOKENS = 1_000
_NEXT_TOKENS = 20
_RUNNERS_UP = 8


class Stopped(Exception):
    """Whoever asked has gone."""


class Engine:
    """What answers the page. It holds a lock, since a model can do one thing at a time.

    Attributes:
        name: the model's.
        base_name: of the model beside it, or None.
        prompt: that the page begins with: a run's first sample, or a line the tokenizer knows.
        words: of the page.
    """

    def __init__(
        self,
        name: str,
        *,
        base_name: str | None = None,
        lang: PageLanguage | None = None,
        dtype: DtypeName = "auto",
        use_cpu: bool = False,
        notify: Notify = silent,
    ) -> None:
        """Load a model, and what it is compared with.

        Args:
            name: pico, a model or run folder, or a hub id.
            base_name: a model of the same vocabulary; None for what a run was tuned from.
            lang: the page's language; None for that of the prompt it begins with.
            dtype: of the weights.
            use_cpu: run on the CPU even if an accelerator is available.
            notify: told what can't be shown.

        Raises:
            ConfigError: the base has other tokens.
            ModelError: a model can't be found or read.
        """
        self.name = name
        self._dtype = dtype
        self._lock = Lock()
        own = load_model(
            name, settings=resolve_settings({"strategy": "greedy"}), dtype=dtype, use_cpu=use_cpu
        )
        if said := unused_suggestions(own):
            notify(said)
        self._loaded: dict[Which, LoadedModel] = {"model": own}
        base = open_base(name, base_name, own.tokenizer, notify, dtype=dtype, use_cpu=use_cpu)
        self.base_name = None if base is None else base[0]
        self._base = base
        if base is not None:
            special = special_tokens(base[1], own.tokenizer)
            self._loaded["base"] = LoadedModel(base[1], own.tokenizer, special)
        self._notify = notify
        self.prompt = _first_prompt(name, own.tokenizer)
        self.words = Words.of(lang or page_language(self.prompt), "play")

    def about(self) -> dict[str, Any]:
        """What the page shows before anything is asked: names, strategies and their settings."""
        return {
            "lang": self.words.lang,
            "words": self.words.t,
            "model": self.name,
            "base": self.base_name,
            "context": context_of(self._loaded["model"].model),
            "most_new_tokens": _MOST_NEW_TOKENS,
            "strategies": [
                {
                    "name": row.name,
                    "description": row.description,
                    "draws": row.draws,
                    "needs": row.needs,
                    "settings": [
                        _setting(name, row.values[name])
                        for name in dict.fromkeys([*_main(row.takes, row.own), "max_new_tokens"])
                    ],
                    "others": [
                        _setting(name, row.values[name])
                        for name in row.takes
                        if name not in row.own and name != "max_new_tokens"
                    ],
                }
                for row in STRATEGIES.values()
            ],
        }

    def write(
        self,
        prompt: str,
        settings: Mapping[str, Any],
        *,
        which: Which = "model",
        tell: Callable[[str], None],
        gone: Event,
    ) -> dict[str, Any]:
        """Continue a prompt.

        Args:
            prompt: as it is.
            settings: by name, `strategy` among them.
            which: of the two models.
            tell: given each stretch of new text as it comes, where it comes in stretches.
            gone: set when nobody waits any more; then writing stops at the next token.

        Returns:
            the text, its tokens with their runners-up, the seed and why it ended.

        Raises:
            ConfigError: settings that can't be had.
            Stopped: nobody waits any more.
        """
        _check_prompt(prompt)
        chosen = _settings(settings)
        with self._lock:
            loaded = self._with_auxiliary(which, chosen)
            is_streamed = why_not_streamed(chosen, num_prompts=1) is None
            first = True

            def pass_on(text: str) -> None:
                nonlocal first
                if not first:  # the prompt
                    tell(text)
                first = False

            with _stopping(loaded.model, gone):
                (text, *_) = generate(
                    loaded, [prompt], settings=chosen, on_text=pass_on if is_streamed else None
                )
                (tokens,) = explain(loaded, [text], num_runners_up=_RUNNERS_UP)
        scored = [one for one in tokens if one.score is not None]
        read = token_reader(loaded.tokenizer)
        return {
            "prompt": prompt,
            "continuation": text.continuation,
            "stopped": text.stopped,
            "seed": chosen.seed if chosen.do_sample else None,
            "settings": chosen.sentence(),
            "tokens": [_token(one, read, control=special_ids(loaded.tokenizer)) for one in scored],
        }

    def next_tokens(self, prompt: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The likeliest next tokens, before and after settings, the base's beside them.

        Raises:
            ConfigError: settings that can't be had, or a prompt that is too long.
        """
        _check_prompt(prompt)
        chosen = _settings(settings)
        with self._lock:
            loaded = self._with_auxiliary("model", chosen)
            (ids,) = encode_all(loaded, [prompt], chosen)
            check_ids(loaded.model, [ids])
            context = context_of(loaded.model)
            if context is not None and len(ids) > context:
                raise ConfigError(
                    f"The text has {len(ids):,} tokens, and the model's context is {context:,}. "
                    "Shorten it."
                )
            (step,) = predict_steps(
                loaded.model, loaded.tokenizer, ids,
                processors=named_processors(chosen, batch_context(loaded, [ids], rows=1)),
                steps=1, top=_NEXT_TOKENS, other=None if self._base is None else self._base[1],
                num_before=len(loaded.special.prefix),
            )  # fmt: skip
        found: dict[str, Any] = as_json(step)
        return found

    def explanation(self, prompt: str, lang: PageLanguage) -> str:
        """The page of `gptft explain` for a prompt.

        Raises:
            ConfigError: it is empty or too long.
        """
        _check_prompt(prompt)
        own = self._loaded["model"]
        with self._lock:
            training = training_text_of(self.name) if Path(self.name).is_dir() else None
            found = explain_opened(
                self.name, (own.model, own.tokenizer), prompt, base=self._base, training=training
            )
        return explain_html(found, lang)

    def _with_auxiliary(self, which: Which, settings: Settings) -> LoadedModel:
        """One of the two models, with the further ones that settings name."""
        if which not in self._loaded:
            raise ConfigError("There is no model beside this one. Start with --base MODEL.")
        own = self._loaded[which]
        auxiliary = load_auxiliary_models(
            settings, own.tokenizer, device=own.model.device, dtype=self._dtype
        )
        return replace(own, auxiliary=auxiliary)


def _first_prompt(name: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    """What a person may begin with: a run's first sample, or the line of the fewest tokens."""
    facts = read_facts(Path(name))
    prompts = as_mapping(as_mapping((facts or {}).get("config")).get("samples")).get("prompts")
    own = prompts[0] if isinstance(prompts, list) and prompts else None
    if isinstance(own, str) and 0 < len(own) <= _MOST_PROMPT:
        return own
    return min(_PROMPTS, key=lambda text: len(encode_bare(tokenizer, text)) / len(text))


def _main(takes: Sequence[str], own: Sequence[str]) -> list[str]:
    return [name for name in takes if name in own]


def _setting(name: str, default: Any) -> dict[str, Any]:
    """A setting as the page makes a control of it."""
    row = SETTINGS[name]
    schema = row.schema()
    return {
        "name": name,
        "description": row.description,
        "default": as_json(default),
        "kind": row.kind.name,
        "choices": row.choices,
        "range": row.range,
        "schema": schema,
    }


def _settings(given: Mapping[str, Any]) -> Settings:
    unknown = [name for name in given if name not in GENERATION]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a setting.")
    chosen = with_seed(resolve_settings(dict(given)))
    if chosen["max_new_tokens"] > _MOST_NEW_TOKENS:
        raise ConfigError(f"max_new_tokens is at most {_MOST_NEW_TOKENS:,} here.")
    return chosen


def _check_prompt(prompt: str) -> None:
    if len(prompt) > _MOST_PROMPT:
        raise ConfigError(
            f"The text has {len(prompt):,} characters, and at most {_MOST_PROMPT:,} are taken here."
        )
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ConfigError("The text holds half of a surrogate pair.") from None


def _token(
    one: ScoredToken, read: Callable[[int], Token], *, control: Collection[int]
) -> dict[str, Any]:
    """A token as the page shows it; a runner-up has its text where one can go on with that."""
    score = one.score
    if score is None:
        return {}
    others = []
    for other, shown in zip(score.runners_up, one.runners_up, strict=True):
        text = None if other.token_id in control else read(other.token_id).text
        others.append({"shown": shown, "text": text, "probability": other.probability})
    return {
        "shown": one.token.shown,
        "bytes": one.token.bytes.hex(),
        "probability": score.probability,
        "rank": score.rank,
        "runners_up": others,
    }


@contextmanager
def _stopping(model: "PreTrainedModel", gone: Event) -> Iterator[None]:
    """Let the model's next step fail once nobody waits any more."""

    def look(*_: object) -> None:
        if gone.is_set():
            raise Stopped

    hook = model.register_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
