"""gptft fine-tunes a GPT on your own text and shows what it learned.

`import gptft` loads nothing; naming a function, such as `gptft.score`, loads what it needs.
"""

TYPE_CHECKING = False  # as type checkers know it; typing takes milliseconds in which Ctrl-C is raw

if TYPE_CHECKING:
    from gptft.api import *  # noqa: F403
    from gptft.version import __version__ as __version__

if not TYPE_CHECKING:  # a type checker is to read the imports above, not that every name is there

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from gptft.version import __version__

            return __version__
        if name.startswith("__") or name == "api":  # what Python itself looks for, and our own room
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gptft import api

        return getattr(api, name)
