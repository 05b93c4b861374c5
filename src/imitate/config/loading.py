"""Settings from YAML files, with those of the command line over them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imitate.config.base import AnyConfig, Config, current, validate
from imitate.config.files import line_of, parse_yaml, read_yaml
from imitate.errors import UserError


def load_config(kind: type[AnyConfig], path: Path, overrides: dict[str, Any] | None = None) -> AnyConfig:
    """Read a YAML file into ``kind``; ``overrides`` maps dotted keys to values. Raises UserError in one line.

    A path such as recipes/tiny.yaml, where there is no such file, means the one that comes with the package.
    """
    found = find_recipe(path)
    if not found.is_file():
        raise UserError(f"no recipe at {path}: give the path of a YAML file such as recipes/tiny.yaml")
    values = {str(key): value for key, value in read_yaml(found, holds="keys and values").items()}
    values = current(kind, values, where=str(path))
    for key, value in (overrides or {}).items():
        _override(kind, values, key, value)

    def place(location: tuple[int | str, ...]) -> str:
        key = ".".join(map(str, location))
        if any(f"{each}.".startswith(f"{key}.") or key.startswith(f"{each}.") for each in overrides or {}):
            return f"settings over {path}"
        return f"{path}{line_of(found, location)}"

    return validate(kind, values, where=place)


def dotted(kind: type[Config], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training": {"epochs": 3}}`` -> {"training.epochs": 3}: only the model's sections are taken apart."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        field = kind.model_fields.get(key)
        section = field.annotation if field else None
        if isinstance(section, type) and issubclass(section, Config) and isinstance(value, Mapping):
            flat |= {f"{key}.{name}": each for name, each in dotted(section, value).items()}
        else:
            flat[key] = value
    return flat


def find_recipe(path: Path) -> Path:
    """The file itself; where there is none, recipes/NAME.yaml means the one that comes with the package."""
    return path if path.is_file() or path.parts[:1] != ("recipes",) else shipped(path)


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _override(kind: type[Config], values: dict[Any, Any], key: str, value: Any) -> None:
    """Put the value of a dotted key into ``values``."""
    setting = current(kind, _nested(key, value), where=f"setting {key}")
    for _ in key.split(".")[1:]:
        ((name, setting),) = setting.items()
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise UserError(f"setting {key}: {name} is {values!r}, which has no keys")
    values.update(setting)


def shipped(recipe: Path) -> Path:
    """Where recipes/NAME.yaml of the repository lies: beside the sources, or in the installed package."""
    beside = Path(__file__).parents[3] / recipe
    return beside if beside.is_file() else Path(__file__).parents[1] / recipe


def shipped_recipes() -> dict[str, Path]:
    """The recipes of the repository or the installed package, by the path under which every command takes them."""
    root = next(path for path in (Path(__file__).parents[3], Path(__file__).parents[1]) if (path / "recipes").is_dir())
    return {path.relative_to(root).as_posix(): path for path in sorted((root / "recipes").rglob("*.yaml"))}


def parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("training.epochs=3",)`` -> {"training.epochs": 3}; values are YAML. UserError for what is no key=value."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"setting {pair!r} has no value: write it as key=value")
        parsed[key] = parse_yaml(value, where=f"setting {pair!r}: the value")
    return parsed


def parse_lists(pairs: tuple[str, ...]) -> dict[str, list[Any]]:
    """``("epochs=[1, 2]",)`` -> {"epochs": [1, 2]}; UserError for what is no list."""
    parsed = parse_settings(pairs)
    for key, values in parsed.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{key}={values} is not a list of values: write it as {key}=[1e-4,1e-3]")
    return parsed


def data_of(recorded: dict[str, Any]) -> dict[str, Any]:
    """What config.yaml says of the data: ``paths``, ``fingerprints`` and ``weights``; version 0.1 knew one folder."""
    if "path" not in recorded:
        return recorded
    return {"paths": [recorded["path"]], "fingerprints": [recorded.get("fingerprint")], "weights": []}
