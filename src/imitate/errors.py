"""The exceptions that users see."""

LINE = 1000  # characters of a message at most


class UserError(ValueError):
    """An error that the user can correct, reported in one line: what is wrong, the value, and what to do.

    The command line prints it without a traceback and exits with code 2. Very long messages are cut in the middle.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= LINE else f"{line[: LINE - 310]} [...] {line[-300:]}")


def missing_extra(error: ModuleNotFoundError, otherwise: str = "") -> UserError | None:
    """What to install where a package of an extra is absent, such as torch, which [train] brings; None for any other
    module. ``otherwise`` names another way out.
    """
    import re
    from importlib.metadata import PackageNotFoundError, requires

    module = (error.name or "").partition(".")[0]
    try:
        lines = requires("imitate-cxr") or []
    except PackageNotFoundError:  # a source tree that was never installed
        return None
    for line in lines:
        named = re.match(r"([\w.-]+).*\bextra == ['\"](\w+)['\"]", line)
        if named and named[2] not in ("dev", "docs") and re.sub(r"[-_.]+", "_", named[1]).lower() == module.lower():
            return UserError(f'this needs {named[1]}: pip install "imitate-cxr[{named[2]}]"{otherwise}')
    return None


class Lacking(UserError):
    """A model or a folder lacks what a task needs. Nothing is wrong with any of them: a table has a dash there."""


class Stopped(KeyboardInterrupt):
    """A scheduler's signal ended a run that the same command continues; the exit code is CODE, EX_TEMPFAIL of Unix.

    The text is the name of the signal. Ctrl-C is a plain KeyboardInterrupt, whose exit code is 130.
    """

    CODE = 75
