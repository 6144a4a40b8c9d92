"""Convert the words of a command line without pydantic, whose import takes longer than most commands.

Typer converts every value with pydantic. The types below need it only for their error messages: a value that
is not of the usual form is left to Typer, which then refuses it or converts it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args, get_origin

_INTEGER: Final = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_FLOAT: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)
# What Typer would check of a path, parse or clamp; the values are its defaults.
_PLAIN: Final = {
    "parser": None, "path_type": None, "exists": False, "file_okay": True, "dir_okay": True,
    "writable": False, "readable": True, "resolve_path": False, "allow_dash": False, "clamp": False,
}  # fmt: skip

Converter: TypeAlias = Callable[[str], Any]


def spare_pydantic(command: Any) -> None:
    """Convert the usual values of a command's parameters here, and all others by Typer as before.

    Args:
        command: of Typer, or a group. A version of Typer that describes types otherwise converts all values
            itself.
    """
    for parameter in command.params:
        _spare(parameter)
    theirs = command.get_help_option  # a parameter of every command, which is created later

    @functools.wraps(theirs)
    def get_help_option(ctx: Any) -> Any:
        option = theirs(ctx)
        if option is not None and "process_value" not in vars(option):
            _spare(option)
        return option

    command.get_help_option = get_help_option


def _spare(parameter: Any) -> None:
    converter = _converter_of(parameter)
    if converter is None:
        return
    convert, several, theirs = *converter, parameter.process_value

    @functools.wraps(theirs)
    def process_value(ctx: Any, value: Any) -> Any:
        if several and isinstance(value, str):
            return theirs(ctx, value)
        try:
            made = tuple(map(convert, value or ())) if several else _one(convert, value)
        except (ValueError, TypeError, OSError):
            return theirs(ctx, value)
        if parameter.required and parameter.value_is_missing(made):
            return theirs(ctx, value)
        return made if parameter.callback is None else parameter.callback(ctx, parameter, made)

    parameter.process_value = process_value


def _one(convert: Converter, value: Any) -> Any:
    return None if value is None else convert(value)


def _converter_of(parameter: Any) -> tuple[Converter, bool] | None:
    """The converter of one value, and whether there may be several; None if Typer is needed."""
    described = getattr(parameter, "type_descriptor", None)
    if described is None or parameter.nargs not in (1, -1):
        return None
    settings = described.parameter_info
    if any(getattr(settings, name, None) != value for name, value in _PLAIN.items()):
        return None
    kind, several = described.annotation, parameter.multiple or parameter.nargs == -1
    if several:
        if get_origin(kind) is not list:
            return None
        (kind,) = get_args(kind)
    if kind in (int, float):
        return functools.partial(_number, kind, settings.min, settings.max), several
    convert = {str: _text, Path: _path, bool: _flag}.get(kind)
    return None if convert is None else (convert, several)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _path(value: Any) -> Path:
    """A path; Typer reports one that exists and cannot be read."""
    path = Path(value)
    try:
        os.stat(path)
    except OSError:
        return path
    if not os.access(path, os.R_OK):
        raise OSError
    return path


def _number(kind: type[int] | type[float], least: float | None, most: float | None, value: Any) -> float:
    form = _INTEGER if kind is int else _FLOAT
    if not isinstance(value, kind) and not form.fullmatch(value):
        raise ValueError
    number = kind(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError
    return number
