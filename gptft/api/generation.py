"""A model and prompts -> texts, comparisons of strategies, and next tokens."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from gptft.api.beside import named_beside
from gptft.api.chats import check_chat
from gptft.api.configs import default_config
from gptft.config.sections import Config
from gptft.console import Notify, loading_libraries, silent, stage
from gptft.decoding.prompts.templates import in_template
from gptft.decoding.settings import Settings, choose_settings, why_not_streamed, with_seed
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.models.hub import require_model
from gptft.report.page_file import check_page_path, write_page
from gptft.text.scripts import page_language

if TYPE_CHECKING:
    from gptft.analysis.compare.results import StrategyResult
    from gptft.analysis.predict import Prediction
    from gptft.analysis.scored_tokens import ScoredToken
    from gptft.decoding.engine import Generated
    from gptft.decoding.speed import Speed
    from gptft.models.precision import DtypeName
    from gptft.text.scripts import PageLanguage

Extra = Literal["why", "speed"]
Stream = Literal["never", "possible", "always"]


@dataclass(frozen=True)
class Generation(JsonFields):
    """The texts that a model generated, and what was asked about them.

    Attributes:
        texts: one a prompt, or as many as num_return_sequences says.
        tokens: of each text, scored, where it was asked why they were chosen.
        speed: where it was measured.
        streamed: whether the text was handed over while it was generated.
    """

    texts: Sequence["Generated"]
    tokens: Sequence[Sequence["ScoredToken"]] = ()
    speed: "Speed | None" = None
    streamed: bool = False

    @property
    def cut_off(self) -> str:
        """How many texts a limit ended and not EOS, in a sentence; empty where none."""
        cut = [text for text in self.texts if text.stopped == "length"]
        if not cut:
            return ""
        settings = cut[0].settings
        by_length = any(text.num_new_tokens == settings["max_new_tokens"] for text in cut)
        limit = "max_new_tokens" if by_length else "max_time"
        those = f"{len(cut):,} of {len(self.texts):,} texts were ended"
        subject = those if len(self.texts) > 1 else "Ended"
        return f"{subject} by {limit}, {settings[limit]:,}, not by EOS."

    def rows(self) -> list[dict[str, Any]]:
        """A text each, with its tokens and the speed where they are known."""
        speed = {} if self.speed is None else {"speed": self.speed}
        tokens = [{"tokens": scored} for scored in self.tokens] or [{} for _ in self.texts]
        return [
            {**text.json_fields(), **scored, **speed}
            for text, scored in zip(self.texts, tokens, strict=True)
        ]


class Options(TypedDict, total=False):
    """What `generate` and `compare` take besides a model and prompts.

    Attributes:
        config: its generation and strategies, and model.dtype; see `generation_config`, by default
            that of no file.
        given: settings over the config's, `strategy` among them.
        template: a template that prompts are put into, by name.
        window: slide a window over what doesn't fit the context.
        batch_size: prompts that `generate` continues at once, 16 if not given; 1 for texts that are
            the same beside any others.
        dtype: of the weights; the config's model.dtype if not given.
        use_cpu: run on the CPU even if an accelerator is available.
    """

    config: Config
    given: Mapping[str, Any]
    template: str | None
    window: bool
    batch_size: int | None
    dtype: "DtypeName | None"
    use_cpu: bool


@dataclass(frozen=True)
class _Request:
    """A model and prompts as they are asked for, once it is certain that they can be.

    Attributes:
        name: the model's.
        prompts: put into the template, where there is one.
        stop_strings: that the template asks for.
        config: see `Options`.
        given: see `Options`.
        window: see `Options`.
        batch_size: see `Options`.
        loading: how the model is loaded.
    """

    name: str
    prompts: list[str]
    stop_strings: list[str]
    config: Config
    given: Mapping[str, Any]
    window: bool
    batch_size: int | None
    loading: dict[str, Any]

    @classmethod
    def of(cls, model: str | None, prompts: Sequence[str], options: Options) -> "_Request":
        config = options.get("config") or default_config()
        template = options.get("template")
        texts, stop_strings = in_template(template, prompts) if template else (list(prompts), [])
        if model is None and config.model.from_scratch is not None:
            raise ConfigError(
                "The config makes a new model, model.from_scratch. Say which trained one is to "
                "write: gptft generate MODEL."
            )
        name = config.model.name if model is None else model
        revision = config.model.revision if model is None else None  # it is model.name's
        require_model(name, revision=revision)  # before the seconds that loading takes
        loading = {
            "dtype": options.get("dtype") or config.model.dtype,
            "revision": revision,
            "use_cpu": options.get("use_cpu", False),
        }
        given, window = options.get("given", {}), options.get("window", False)
        at_once = options.get("batch_size")
        return cls(name, texts, stop_strings, config, given, window, at_once, loading)

    def settings(self) -> Settings:
        """Those in force, a seed and the template's stop strings included."""
        config = self.config
        chosen = choose_settings(config.generation, config.strategies, given=self.given)
        if self.stop_strings:
            stop_strings = [*chosen["stop_strings"], *self.stop_strings]
            chosen = chosen.changed(stop_strings=stop_strings)
        return with_seed(chosen)


def generate(
    model: str | None,
    prompts: Sequence[str],
    *,
    chat: bool = False,
    extras: Collection[Extra] = (),
    stream: Stream = "never",
    on_text: Callable[[str], None] = silent,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    notify: Notify = silent,
    **options: Unpack[Options],
) -> Generation:
    """Continue prompts.

    Args:
        model: pico, a model or run folder, or a hub id; None for the config's model.name.
        prompts: at least one.
        chat: put prompts into the model's own chat template.
        extras: `why` scores each token, before and after settings; `speed` times the model.
        stream: whether to hand a text to `on_text` while it is generated: `always`, or an error
            where it can't be done.
        on_text: given the text as it comes, and a line end after it, if it was begun.
        html: a page of the texts and why they were chosen to write, too; it needs `why`.
        lang: the page's language; None for that of the texts, English where it isn't Russian.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told the settings in force, what of the model's own isn't, and what was written.
        **options: see `Options`.

    Raises:
        ConfigError: settings, prompts or arguments that can't be had together, or the page would
            replace something else.
        ModelError: the model can't be found or read.
        RunError: the page can't be written.
    """
    if html is not None:
        if "why" not in extras:
            raise ConfigError("A page of the texts shows why they were chosen: ask for why, too.")
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    request = _Request.of(model, prompts, options)
    if chat:
        check_chat(request.name, notify=notify)
    settings = request.settings()
    streamed = stream != "never" and _can_stream(settings, request, extras, must=stream == "always")
    notify(f"{request.name}, {settings.sentence()}")
    hear = on_text if streamed else None
    found = _generate(request, settings, chat=chat, extras=extras, on_text=hear, notify=notify)
    if html is not None:
        from gptft.report.generation import generation_html

        lang = lang or page_language("\n".join(text.text for text in found.texts))
        page = generation_html(request.name, found.texts, found.tokens, lang)
        write_page(html, page, notify=notify)
    return found


def _generate(
    request: _Request,
    settings: Settings,
    *,
    chat: bool,
    extras: Collection[Extra],
    on_text: Callable[[str], None] | None,
    notify: Notify,
) -> Generation:
    """Load the model and continue the prompts; `on_text` is given the text as it comes."""
    with loading_libraries():
        from gptft.decoding import engine
    loaded = engine.load_model(request.name, settings=settings, **request.loading)
    for sentence in (engine.unused_suggestions(loaded), engine.stray_eos(loaded)):
        if sentence:
            notify(sentence)
    run = partial(
        engine.generate, loaded, request.prompts,
        settings=settings, window=request.window, chat=chat,
        batch_size=request.batch_size,
    )  # fmt: skip
    if on_text is not None:
        return Generation(_run_streamed(run, on_text), streamed=True)
    from gptft.analysis.why import explain
    from gptft.decoding.speed import SpeedMeter

    measuring = SpeedMeter(loaded.model) if "speed" in extras else nullcontext()
    with stage("Generating"), measuring as meter:
        generated = run()
    if missing := engine.missing_texts(generated, settings, num_prompts=len(request.prompts)):
        notify(missing)
    speed = meter.speed(generated) if meter else None
    return Generation(generated, explain(loaded, generated) if "why" in extras else (), speed)


def _run_streamed(
    run: Callable[..., list["Generated"]], on_text: Callable[[str], None]
) -> list["Generated"]:
    """Hand the text over as it comes, and a line's end after it even when it is cut short."""
    begun = False

    def tell(text: str) -> None:
        nonlocal begun
        begun = True
        on_text(text)

    try:
        return run(on_text=tell)
    finally:
        if begun:
            on_text("\n")


def _can_stream(
    settings: Settings, request: _Request, extras: Collection[Extra], *, must: bool
) -> bool:
    whole = {
        "--why shows": "why" in extras, "--speed times": "speed" in extras,
        "--window writes": request.window,
    }  # fmt: skip
    reason = next((f"{flag} whole texts" for flag, is_on in whole.items() if is_on), None)
    reason = reason or why_not_streamed(settings, num_prompts=len(request.prompts))
    if must and reason:
        raise ConfigError(f"--stream is impossible here: {reason}. Leave it out.")
    return reason is None


def compare(
    model: str | None,
    prompts: Sequence[str],
    names: Sequence[str] | None,
    *,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    notify: Notify = silent,
    **options: Unpack[Options],
) -> "list[StrategyResult]":
    """Continue one prompt by many strategies, side by side.

    Args:
        model: pico, a model or run folder, or a hub id; None for the config's model.name.
        prompts: one.
        names: of strategies, the config's own among them; None for all.
        html: a page to write, too.
        lang: the page's language; None for that of the prompt, English where it isn't Russian.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page.
        notify: told of each strategy before it runs, and what was written.
        **options: see `Options`; of a config's generation section, what concerns every strategy.

    Raises:
        ConfigError: settings, names or prompts that can't be had, or the page would replace
            something else.
        ModelError: the model can't be found or read.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    with loading_libraries():
        from gptft.analysis.compare import entries, run
        from gptft.analysis.memorization import base_model_of, training_text_of
    request = _Request.of(model, prompts, options)
    shared = {**entries.shared_settings(request.config.generation), **request.given}
    if request.stop_strings:
        own = shared.get("stop_strings", [])  # as it was given, one alone perhaps
        shared["stop_strings"] = [*(own if isinstance(own, list) else [own]), *request.stop_strings]
    if len(request.prompts) != 1:
        raise ConfigError(f"--compare takes one prompt, and there are {len(request.prompts)}.")
    name, prompt = request.name, request.prompts[0]
    compared = entries.comparison_entries(
        names, own=request.config.strategies, shared=shared, base_model=base_model_of(name),
        prompt=prompt,
    )  # fmt: skip
    results = run.compare(
        name, prompt, compared, window=request.window, notify=notify,
        training_text=training_text_of(name, notify=notify), **request.loading,
    )  # fmt: skip
    if html is not None:
        from gptft.report.comparison import comparison_html

        page = comparison_html(results, model=name, prompt=prompt, lang=lang)
        write_page(html, page, notify=notify)
    return results


def predict(
    model: str,
    prompt: str,
    *,
    config: Config,
    given: Mapping[str, Any] | None = None,
    steps: int = 1,
    top: int = 10,
    other: str | None = None,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    dtype: "DtypeName | None" = None,
    use_cpu: bool = False,
    notify: Notify = silent,
) -> "Prediction":
    """The likeliest next tokens of a prompt, and what settings make of them.

    Args:
        model: pico, a model or run folder, or a hub id.
        prompt: as it is.
        config: its generation and strategies; see `generation_config`.
        given: settings over the config's, `strategy` among them.
        steps: tokens to continue by, the likeliest each time.
        top: tokens to keep a step.
        other: a model of the same vocabulary to compare with.
        html: a page to write, too.
        lang: the page's language; None for that of the prompt, English where it isn't Russian.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page of gptft.
        dtype: of the weights; the config's model.dtype if not given.
        use_cpu: run on the CPU even if an accelerator is available.
        notify: told what was written.

    Raises:
        ConfigError: settings that can't be had, models of different vocabularies, or the page would
            replace something else.
        ModelError: a model can't be found or read.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    settings = choose_settings(config.generation, config.strategies, given=given or {})
    other = named_beside(model, other)
    for name in (model, other):
        if name is not None:
            require_model(name)  # before the seconds that loading takes

    with loading_libraries():
        from gptft.analysis import predict as next_token
    found = next_token.predict(
        model, prompt, settings=settings, steps=steps, top=top, other_model_name=other,
        dtype=dtype or config.model.dtype, use_cpu=use_cpu,
    )  # fmt: skip
    if html is not None:
        from gptft.report.prediction import prediction_html

        write_page(html, prediction_html(found, lang or page_language(prompt)), notify=notify)
    return found
