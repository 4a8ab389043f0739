"""`gptft play`: a model -> a page on this machine to try it on."""

from typing import Annotated

from typer import Option

from gptft.cli import options
from gptft.console import notice


def play(
    model: Annotated[str, options.MODEL] = "pico",
    base: Annotated[
        str | None,
        Option(metavar="MODEL", help="Show it beside; a run is shown beside its base."),
    ] = None,
    port: Annotated[
        int | None, Option(min=0, max=65535, help="0 takes any that is free; without it 8000.")
    ] = None,
    lang: options.Lang = None,
    open_browser: Annotated[bool, Option("--open", help="Open it in your browser.")] = False,
    dtype: Annotated[options.DtypeName, options.DTYPE] = "auto",
    use_cpu: options.UseCpu = False,
) -> None:
    """Open a page to try a model on: write, choose tokens, look inside.

    It is served on this machine alone (127.0.0.1) and asks nothing of the network. Ctrl-C ends it.
    """
    from gptft import api

    def ready(address: str) -> None:
        notice(f"Open {address} in a browser. Ctrl-C ends it.")
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    api.play(
        model,
        base=base,
        lang=lang,
        port=port,
        dtype=dtype,
        use_cpu=use_cpu,
        ready=ready,
        notify=notice,
    )
