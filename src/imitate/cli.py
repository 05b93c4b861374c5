"""The command line: each command is a function of ``imitate.commands``; its signature and docstring are its flags."""

import inspect
import linecache
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin

if TYPE_CHECKING:
    from imitate.config import Config

COMMANDS = {
    "demo": "run every step on synthetic data and write report.html",
    "synthesize": "write synthetic radiographs in the original layout of a source",
    "prepare": "turn a raw archive into a prepared folder",
    "doctor": "check a raw archive, a prepared folder, a run or the installation",
    "pretrain": "pre-train from a recipe, or resume",
    "models": "list the published encoders that can be read, or identify a file",
    "import": "convert a checkpoint of other code to a folder of tensors",
    "evaluate": "evaluate a model on a task",
    "prompts": "show the prompts of zero-shot classification, and check them against a model",
    "bench": "evaluate many models on many tasks and data sets, in one table",
    "calibrate": "turn scores into probabilities and decisions",
    "compare": "test whether results differ",
    "audit": "evaluate a model in groups of patients",
    "predict": "classify, retrieve, embed, or draw heat-maps",
    "serve": "show a model in the browser, with an HTTP API",
    "export": "write a model that imitate, timm and transformers load",
    "push": "upload an exported model to the Hugging Face hub",
    "report": "write an HTML page from results files",
    "recipes": "list the recipes that come with the package, or show one",
}
PRINT, CONFIGURED = "--print-config", ("pretrain", "evaluate")  # the flag, and the commands that have it

ALIASES = {"import-reference": "import"}  # older names
FUNCTIONS = {"import": "import_model"}  # where the name is no name of Python's


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    every = [
        "  --quiet         only warnings and errors, no progress bars",
        "  --verbose       times, modules and the tracebacks of errors",
        "  --print-config  for pretrain and evaluate: print all settings as YAML, and do nothing else",
    ]
    usage = "usage: imitate COMMAND [options]     (imitate COMMAND --help for its options)"
    return "\n".join([usage, "", *lines, "", "options of every command:", *every])


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0; 2 for a mistake of the user, reported in one line; 75 where a scheduler's signal stopped a run that the same
    command continues; 130 after Ctrl-C.
    """
    try:
        code = _executed((sys.argv[1:] if arguments is None else arguments) or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as head; nothing is to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _executed(words: list[str]) -> int:
    name, *rest = words
    if name in {"-h", "--help"}:
        sys.stdout.write(usage() + "\n")
        return 0
    if name == "--version":
        from imitate import __version__

        sys.stdout.write(f"imitate {__version__}\n")
        return 0
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        sys.stderr.write(f"imitate: unknown command {name!r}\n{usage()}\n")
        return 2
    return _run(name, rest)


def function_of(name: str) -> str:
    """The module in ``imitate.commands``, and the function in it, of a command."""
    return FUNCTIONS.get(name, name.replace("-", "_"))


def _run(name: str, words: list[str]) -> int:
    import logging

    # Compute threads that wait must sleep, not spin: beside another job on the machine, spinning costs up to tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import tyro

    from imitate.errors import Stopped, UserError, missing_extra
    from imitate.names import repeated

    quiet, verbose = "--quiet" in words, "--verbose" in words
    words = [word for word in words if word not in ("--quiet", "--verbose")]
    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    if quiet or verbose:
        logging.getLogger("imitate").setLevel(logging.DEBUG if verbose else logging.WARNING)
    if quiet:
        os.environ["TTY_COMPATIBLE"] = "0"  # by which Rich draws no bar
    function = function_of(name)
    module = import_module(f"imitate.commands.{function}")
    try:
        options = module.options(words) if hasattr(module, "options") else None
        choices = module.choices() if hasattr(module, "choices") else ()
        command = getattr(module, function)
        if PRINT in words:
            if not hasattr(module, "configured"):
                raise UserError(f"{PRINT}: only {' and '.join(CONFIGURED)} accept it")
            command = printing(command, module.configured)
            words = [word for word in words if word != PRINT]
        command = as_flags(command, options, choices=choices, omitted=getattr(module, "OMITTED", ()))
        flags = {each.name: each.annotation for each in inspect.signature(command).parameters.values()}
        flags |= {name: each.annotation for name, each in getattr(options, "model_fields", {}).items()}
        if flag := repeated(words, flags):
            raise UserError(f"{flag} is given twice, and only the last would count: give all values after one {flag}")
        tyro.cli(command, args=words, prog=f"imitate {name}")
    except UserError as error:
        if verbose:
            logging.getLogger("imitate").debug("where it was raised:", exc_info=True)
        sys.stderr.write(f"imitate {name}: {error}\n")
        return 2
    except ModuleNotFoundError as error:
        if (what := missing_extra(error)) is None:
            raise
        sys.stderr.write(f"imitate {name}: {what}\n")
        return 2
    except Stopped as stopped:
        sys.stderr.write(f"imitate {name}: stopped by {stopped}; the same command continues\n")
        return Stopped.CODE
    except KeyboardInterrupt:
        sys.stderr.write(f"imitate {name}: interrupted\n")
        return 130
    return 0


def printing(command: Callable[..., Any], configured: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """``command`` with nothing required but what comes first: it prints its settings, all of them, as YAML."""
    from imitate.names import FLAGS

    own = inspect.signature(command).parameters
    read = inspect.signature(configured).parameters

    def run(*positional: Any, **named: Any) -> None:
        import yaml

        given = {name: value for name, value in named.items() if name in read or name not in own}
        sys.stdout.write(yaml.safe_dump(configured(*positional, **given), sort_keys=False, allow_unicode=True))

    optional = [
        each.replace(default=None, annotation=FLAGS.get(each.annotation, each.annotation) | None)
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty
        else each
        for each in own.values()
    ]
    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(optional)  # type: ignore[attr-defined]
    return run


def as_flags(
    command: Callable[..., Any],
    options: "Config | type[Config] | None" = None,
    *,
    choices: Sequence[str] = (),
    omitted: Sequence[str] = (),
) -> Callable[..., Any]:
    """``command`` as tyro parses it: ``**options`` become the flags of a model, passed on only where they are given.

    ``choices`` are the values of the first positional argument, ``omitted`` the options that are no flags. What may be
    of several types for a caller from Python has the type that ``names.FLAGS`` says.
    """
    import re

    import tyro

    from imitate.names import FLAGS

    parameters = [each for each in inspect.signature(command).parameters.values() if each.kind is not each.VAR_KEYWORD]
    taken = {each.name for each in parameters}
    parameters = [each.replace(annotation=FLAGS.get(each.annotation, each.annotation)) for each in parameters]
    parameters = [
        each.replace(annotation=tyro.conf.FlagCreatePairsOff[bool]) if each.default is False else each
        for each in parameters
    ]
    none: Any = tyro.conf.arg(help_behavior_hint="(default: none)")  # tyro would print nothing behind the colon
    parameters = [
        each.replace(annotation=Annotated[each.annotation, none]) if each.default == () else each for each in parameters
    ]
    if choices:
        optional = type(None) in get_args(parameters[0].annotation)
        named: Any = Literal[tuple(choices)]
        parameters[0] = parameters[0].replace(annotation=named | None if optional else named)
    if options is not None:
        given = Annotated[optional_flags(options, taken, omitted), tyro.conf.arg(name="")]
        parameters.append(inspect.Parameter("options", inspect.Parameter.KEYWORD_ONLY, annotation=given))

    def run(*positional: Any, options: Mapping[str, Any] | None = None, **named: Any) -> Any:
        return command(*positional, **named, **(options or {}))

    vars(run).pop("__wrapped__", None)  # a decorated function would be parsed by the signature of the bare one
    run.__doc__ = re.sub(r"\s+From\s+Python::.*?(?=\n\s+Args:)", "\n", command.__doc__ or "", flags=re.DOTALL)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def optional_flags(options: "Config | type[Config]", taken: set[str], omitted: Sequence[str] = ()) -> Any:
    """A TypedDict that has the model's fields, none of them required; UserError where a name is ``taken``.

    The help shows the defaults: those of the instance, where ``options`` is one.
    """
    import tyro

    from imitate.config import Config
    from imitate.errors import UserError

    kind, values = (options, None) if isinstance(options, type) else (type(options), options)
    comments, fields = _comments(kind), dict[str, Any]()
    for name, field in kind.model_fields.items():
        if name in omitted:
            continue
        if name in taken:
            raise UserError(f"option {name!r} of {kind.__name__} has the name of a flag of the command: rename it")
        value = getattr(values, name) if values else field.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, Config):
            fields[name] = Annotated[optional_flags(value, set()), tyro.conf.arg(help="")]
            continue
        hint = "(required)" if field.is_required() else f"(default: {_shown(value)})"
        about = tyro.conf.arg(help=field.description or comments.get(name, ""), help_behavior_hint=hint)
        annotation = Annotated[Any, _yaml_value()] if _has_parts(field.annotation) else field.annotation
        fields[name] = Annotated[annotation, about]
    return TypedDict(kind.__name__, fields, total=False)  # type: ignore[operator]


def _has_parts(annotation: Any) -> bool:
    """Whether a value is a mapping or holds models, for which tyro has no flag."""
    from imitate.config import Config

    inner = [each for each in get_args(annotation) if get_origin(annotation) is not Literal]
    is_model = isinstance(annotation, type) and issubclass(annotation, Config)
    return get_origin(annotation) is dict or is_model or any(map(_has_parts, inner))


def _yaml_value() -> Any:
    import tyro

    from imitate.config import parse_yaml

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda words: parse_yaml(words[0], where=f"the value {words[0]!r}"),
        is_instance=lambda _: True,
        str_from_instance=lambda value: [str(value)],
    )


def _comments(kind: type) -> dict[str, str]:
    """The comment of each field of a model and of its bases: behind it, or on the lines above."""
    import re

    from imitate.config import Config

    found: dict[str, str] = {}
    for each in reversed([base for base in kind.__mro__ if issubclass(base, Config)]):
        text = "".join(linecache.getlines(inspect.getfile(each)))
        body = re.search(rf"^class {each.__name__}\b.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        field, above = "", list[str]()
        for line in body[0].splitlines() if body else ():
            if comment := re.match(r"    # (.+)$", line):
                above.append(comment[1])
                continue
            name, behind = re.match(r"    (\w+): ", line), re.search(r"  # (.+)$", line)
            if name or re.match(r"    [@\w]", line):  # a field, or the first line of a method
                field = name[1] if name else ""
            if field and (behind or above):
                found[field] = " ".join([*above, *([behind[1]] if behind else [])])
            above = []
    return found


def _shown(value: Any) -> str:
    return (" ".join(map(str, value)) if isinstance(value, tuple) else str(value)) or "none"


if __name__ == "__main__":
    sys.exit(main())
