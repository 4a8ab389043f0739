"""The command line: one module a command, each a thin layer over one stage."""

import gc
import io
import os
import sys

import gptft.console as console
from gptft.errors import GptftError, Interrupted


def main() -> None:
    """Run the command line; an error becomes one message and an exit code, never a traceback.

    The code is a `GptftError`'s own, and 1 for what we didn't foresee, a full disk for one.
    """
    gc.disable()  # nearly all that is made while starting stays; app.py turns it on again
    # Nobody extends our configs through pydantic's plugins; looking for them takes a moment.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from gptft.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Cyrillic must print under any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    console.show_stages()
    try:
        app()
    except (GptftError, Interrupted) as error:
        console.error(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("GPTFT_DEBUG"):
            raise
        said = " ".join(str(error).split())
        console.error(f"{type(error).__name__}: {said}\nGPTFT_DEBUG=1 shows where it happened.")
        sys.exit(1)
