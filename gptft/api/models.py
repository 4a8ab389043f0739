"""Models -> what is known of them without their weights, and a page of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.console import Notify, silent
from gptft.files import JsonFields
from gptft.inspection.known_models import KNOWN_MODELS
from gptft.inspection.model_facts import ModelFacts, model_facts
from gptft.report.page_file import check_page_path


@dataclass(frozen=True)
class ModelInfo(JsonFields):
    """What is known of one model, or of several side by side.

    Attributes:
        models: in the order they were named.
    """

    models: tuple[ModelFacts, ...]

    def json_fields(self) -> dict[str, Any]:
        """The facts of one model, or a list of those of several; published models besides."""
        own: Any = self.models[0]
        shown = {"comparison": self.models} if len(self.models) > 1 else vars(own)
        return {**shown, "known_models": KNOWN_MODELS}


def info(
    model: str,
    *,
    compare: Sequence[str] = (),
    text: str | None = None,
    html: Path | None = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    notify: Notify = silent,
) -> ModelInfo:
    """What can be told of a model without loading its weights.

    Args:
        model: a bundled model, a model or run folder, or a hub id, of which no weights are fetched.
        compare: models to tell the same of.
        text: to say how many bytes of it a token holds.
        html: a page to write, too.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what was written.

    Raises:
        ModelError: there is no such model, or it has no config.json.
        ConfigError: the text is no Unicode, or the page would replace something else.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    found = ModelInfo(tuple(model_facts(name, text=text) for name in (model, *compare)))
    if html is not None:
        from gptft.files import write_output
        from gptft.report.info import info_html

        write_output(html, info_html(found.models))
        notify(f"Written: {html}")
    return found
