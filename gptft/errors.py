"""The only exceptions a user should ever read.

A message says what is wrong, where (file:line:column where there is one), the number seen, and what
to change. `exit_code` is what the command line ends with: 1 it failed, 2 the command, the config or
the data named in it was wrong.
"""


class GptftError(Exception):
    """A failure that is explained to the user in its message; `exit_code` 1.

    Args:
        problems: one message a problem, all of them at once; lines within one are indented by two
            spaces, and shown as such only then.
    """

    exit_code = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(GptftError):
    """A setting, a flag or a combination of them is wrong; `exit_code` 2."""

    exit_code = 2


class DataError(GptftError):
    """The text named in the config is missing, unreadable or too small; `exit_code` 2."""

    exit_code = 2


class ModelError(GptftError):
    """A model or tokenizer can't be found, opened or used as asked; `exit_code` 2."""

    exit_code = 2


class RunError(GptftError):
    """A run folder can't be used, or training can't continue; `exit_code` 1."""


class Interrupted(BaseException):
    """A signal asked the command to end, and it saved its work before it did.

    Like KeyboardInterrupt it isn't an error, so that nothing that handles errors takes it for one.

    Args:
        message: what was kept, and how to resume.
        signum: the signal's number; `exit_code` is 128 more, as shells have it.
        resumable: whether the same command resumes what it did, with --resume.
    """

    def __init__(self, message: str, *, signum: int, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable
        self.exit_code = 128 + signum
