"""The options of a source as flags of a command."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import create_model

from imitate.config import Config
from imitate.sources import find_source


def with_flags(verb: Callable[..., Any], source: str | None, *, without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """``verb`` with the options of a source, less some, in place of its ``**options``; None: without any."""
    fields = find_source(source).Options.model_fields if source else {}
    chosen: dict[str, Any] = {name: (each.annotation, each) for name, each in fields.items() if name not in without}
    model = create_model("Options", __base__=Config, **chosen)

    def run(*arguments: Any, options: Any = None, **more: Any) -> Any:
        return verb(*arguments, **more, **{name: getattr(options, name) for name in chosen})

    vars(run).pop("__wrapped__", None)  # a decorated function would be parsed by the signature of the bare one
    run.__doc__ = verb.__doc__
    signature = inspect.signature(verb)
    named = [each for each in signature.parameters.values() if each.kind != each.VAR_KEYWORD]
    if chosen:
        named.append(inspect.Parameter("options", inspect.Parameter.KEYWORD_ONLY, annotation=model))
    run.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in named}
    return run
