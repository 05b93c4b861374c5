"""The base of every setting: frozen, without unknown keys; its errors are one line that names the key and its place."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from imitate.errors import UserError

log = logging.getLogger(__name__)
RENAMED = {
    ("Recipe", "views"): "augment",
    ("ImitateConfig", "fit"): "resize",
    ("Folder", "fit"): "resize",  # of a recipe in recipes/downstream
    ("fit", "squash"): "stretch",
    ("fit", "pad"): "letterbox",
}
"""Keys, by the model that had them, and values, by their key, of version 0.1, which are read until version 0.3."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


TYPES = ("bool", "int", "float", "str")
AnyConfig = TypeVar("AnyConfig", bound=Config)
Where = Callable[[tuple[int | str, ...]], str]


def validate(kind: type[AnyConfig], values: dict[Any, Any], *, where: str | Where) -> AnyConfig:
    """``kind(**values)`` with the first error in one line, after ``where`` the value comes from.

    Names of an earlier version are accepted.
    """
    try:
        return kind.model_validate(current(kind, values, where=where if isinstance(where, str) else where(())))
    except ValidationError as error:
        first = _first(error)
        where = where if isinstance(where, str) else where(first["loc"])
        location = tuple(part for part in first["loc"] if not _is_tag(part))
        key = ".".join(str(part) for part in location) or "(root)"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: unknown key {key!r}; known: {', '.join(_known(kind, location))}") from error
        if first["type"] == "value_error":  # of several keys together
            where = f"{where}: {key}" if first["loc"] else where
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        raise UserError(f"{where}: {key} = {first['input']!r}: {first['msg']}") from error


def _first(error: ValidationError) -> Any:
    """The first error; within a field of several forms (a name or a list), the one that goes deepest into the value."""
    found = error.errors()
    tags = [number for number, part in enumerate(found[0]["loc"]) if _is_tag(part)]
    if not tags or isinstance(found[0]["input"], str):
        return found[0]
    field = found[0]["loc"][: tags[0]]
    return max((each for each in reversed(found) if each["loc"][: tags[0]] == field), key=lambda each: len(each["loc"]))


def _is_tag(part: int | str) -> bool:
    """Whether it is pydantic's name of a member of a union, such as ``bool`` or ``tuple[TextLevel, ...]``."""
    return isinstance(part, str) and ("[" in part or part in TYPES or part.startswith("constrained-"))


def current(kind: type[Config], values: dict[Any, Any], *, where: str) -> dict[Any, Any]:
    """With the names of today in place of those in ``RENAMED``, each of which is logged."""
    found = {}
    for key, value in values.items():
        name = RENAMED.get((kind.__name__, key), key) if isinstance(key, str) else key
        if name != key and name not in values:
            log.warning("%s: %s is now called %s", where, key, name)
            key, value = name, RENAMED.get((key, value), value) if isinstance(value, str) else value
        part = _part(kind, key)
        found[key] = current(part, value, where=where) if part and isinstance(value, dict) else value
    return found


def _part(kind: type[Config], key: Any) -> type[Config] | None:
    """The model of the settings below ``key``, or of each in a list of them."""
    return _within(kind.model_fields[key].annotation) if key in kind.model_fields else None


def _within(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    return next((found for each in get_args(annotation) if (found := _within(each))), None)


def _known(kind: type[Config], location: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    for part in location[:-1]:
        model = model if isinstance(part, int) else _part(model, part)
    return sorted(model.model_fields)
