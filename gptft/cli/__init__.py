"""The command line: one module a command, each a thin layer over one stage."""

# What `signal` is made of; to import that takes milliseconds in which Ctrl-C is a traceback.
import _signal  # type: ignore[import-not-found]
import os
import sys
from collections.abc import Callable


def main() -> None:
    """Run the command line; an error becomes one message and an exit code, never a traceback.

    The code is a `GptftError`'s own, and 1 for what we didn't foresee, a full disk for one.
    """
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _end)  # before all that takes time to import
    from gptft.cli.ctrl_c import leave_on_ctrl_c

    code = _exit_code(_run)
    code = code or _exit_code(sys.stdout.flush)
    leave_on_ctrl_c(code)
    sys.exit(code)


def _run() -> None:
    from gptft.cli.ctrl_c import end_on_ctrl_c

    end_on_ctrl_c()
    import gc

    from gptft.cli.standard_streams import mend_standard_streams
    from gptft.cli.threads import wait_briefly

    gc.disable()  # nearly all that is made while starting stays; app.py turns it on again
    # Nobody extends our configs through pydantic's plugins; looking for them takes a moment.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    wait_briefly(os.environ)
    mend_standard_streams()
    from gptft import console
    from gptft.cli.app import app
    from gptft.panics import silence_panics

    console.show_stages()
    silence_panics()
    app()


def _end(number: int, frame: object) -> None:
    os.write(2, b"error: Stopped.\n")
    os._exit(128 + number)


def _failed(error: OSError) -> tuple[str, ...]:
    """What to say of a file or a disk that failed, where no command foresaw it."""
    from gptft.files import is_disk_full

    where = error.filename or "a file"
    if is_disk_full(error):
        return (
            f"The disk is full: {where} can't be written ({error.strerror}). Make room, or name a "
            "folder on a larger disk.",
        )
    return f"{where}: {error.strerror}.", "GPTFT_DEBUG=1 shows where it happened."


def _exit_code(work: Callable[[], object]) -> int:
    """Do it, tell in one message what went wrong, and return the code to exit with."""
    from gptft import console
    from gptft.errors import GptftError, Interrupted
    from gptft.panics import is_panic

    try:
        work()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except GptftError as error:
        console.error(*error.problems)
        return error.exit_code
    except Interrupted as error:
        if message := str(error):  # that nobody reads the output needs no word
            console.error(message)
        return error.exit_code
    except BaseException as error:
        if os.environ.get("GPTFT_DEBUG") or not (isinstance(error, Exception) or is_panic(error)):
            raise
        if isinstance(error, OSError) and error.strerror:  # an error of a network has none
            console.error(*_failed(error))
            return 1
        from gptft.terminal.commands import with_our_extras

        said = " ".join(with_our_extras(str(error)).split())
        console.error(f"{type(error).__name__}: {said}", "GPTFT_DEBUG=1 shows where it happened.")
        return 1
    return 0
