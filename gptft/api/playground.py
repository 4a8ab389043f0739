"""A model -> its page, served until the process is told to end."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gptft.console import Notify, loading_libraries, silent
from gptft.errors import RunError
from gptft.models.source import resolve_model
from gptft.terminal.commands import install_command

if TYPE_CHECKING:
    from gptft.models.precision import DtypeName
    from gptft.text.scripts import PageLanguage


def play(
    model: str,
    *,
    base: str | None = None,
    lang: "PageLanguage | None" = None,
    port: int | None = None,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
    ready: Callable[[str], None] = silent,
    notify: Notify = silent,
) -> None:
    """Serve a page on 127.0.0.1 to try a model on.

    Args:
        model: pico, a model or run folder, or a hub id.
        base: a model of the same vocabulary to show beside; None for what a run was tuned from.
        lang: the page's language; None for that of the text it begins with: a run's first sample
            prompt, or a line that the tokenizer knows.
        port: 0 for any that is free; None for 8000, or any where that is taken.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.
        ready: given the page's address.
        notify: told what can't be shown.

    Raises:
        ConfigError: the base has other tokens.
        ModelError: a model can't be found or read.
        RunError: a package is missing, or the port can't be used.
    """
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise RunError(
                f"The page takes the package {package}. Install what is missing: "
                f"{install_command(package)}"
            )
    for name in (model, base):
        if name is not None:
            resolve_model(name)  # before the seconds that loading takes
    with loading_libraries():
        from gptft.playground import serve
        from gptft.playground.engine import Engine
    own = serve.listen(port)
    with own:
        engine = Engine(
            model, base_name=base, lang=lang, dtype=dtype, use_cpu=use_cpu, notify=notify
        )
        serve.serve(engine, own, ready=ready)
