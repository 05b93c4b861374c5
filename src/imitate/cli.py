"""The command line: a command's name leads to its verb; the verb's signature and docstring are its flags and help."""

import sys
from importlib import import_module

COMMANDS = {
    "demo": "the whole chain on synthetic data, ends in report.html",
    "synthesize": "write the official on-disk layout of a source, with synthetic radiographs",
    "prepare": "turn a raw archive into a prepared folder",
    "doctor": "check a raw tree, a prepared folder, a run or the installation",
    "pretrain": "pre-train from a recipe; the same command again continues",
    "import-reference": "read a checkpoint of the published code into a run",
    "evaluate": "measure an encoder on a task",
    "compare": "paired test between results files",
    "predict": "classify images, retrieve, show where a similarity comes from, embed",
    "serve": "a web page over a trained model, and an HTTP API",
    "export": "write a model for the hub or for timm",
    "report": "one HTML page from results files",
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: imitate COMMAND [options]     (imitate COMMAND --help for its options)", "", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 for a mistake of the user, told in one line."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in {"-h", "--help"}:
        sys.stdout.write(usage() + "\n")
        return 0
    if name == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"imitate {version('imitate-cxr')}\n")
        return 0
    if name not in COMMANDS:
        sys.stderr.write(f"imitate: unknown command {name!r}\n{usage()}\n")
        return 2
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    import logging
    import os

    # Compute threads that wait must sleep, not spin: beside another job on the machine, spinning costs up to tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import tyro

    from imitate.errors import UserError

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    module = name.replace("-", "_")
    room = import_module(f"imitate.commands.{module}")
    try:
        verb = room.command_line(rest) if hasattr(room, "command_line") else getattr(room, module)
        tyro.cli(
            verb, args=rest, prog=f"imitate {name}", config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)
        )
    except UserError as error:
        sys.stderr.write(f"imitate {name}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"imitate {name}: interrupted\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
