"""The one exception that users see."""

LINE = 1000  # characters of a message at most


class UserError(ValueError):
    """A mistake that the user can correct, reported in one line: what is wrong, the value, the way out.

    The command line prints it without a traceback and exits with 2. A value of megabytes is shortened to its ends.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= LINE else f"{line[: LINE - 310]} [...] {line[-300:]}")


class Lacking(UserError):
    """A model or a folder lacks what a task needs. Nothing is wrong with any of them: a table has a dash there."""
