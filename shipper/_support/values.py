"""A class that is its values: what `@dataclass` would make of it, at none of its price.

`dataclasses` imports `inspect`, `ast` and `dis`, and compiles the methods of each class anew, in every process: it took
a fifth of a worker's memory, and a third of the time to import shipper. Nothing is compiled here. What the functions of
`dataclasses` and `inspect` look for on such a class is made when they look: to them it is a dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    import dataclasses
    from dataclasses import KW_ONLY as KW_ONLY

    from typing_extensions import Self, dataclass_transform
else:

    class KW_ONLY:
        """In a class's body, ``_: KW_ONLY``: what follows is given by keyword."""

    def dataclass_transform(**_):
        return lambda kind: kind


T = TypeVar("T")
_MISSING: Any = object()


class Field:
    """What is known of one value: its annotation, how it is made when it is not given, whether `repr` shows it."""

    def __init__(self, default: Any = _MISSING, default_factory: Any = _MISSING, repr: bool = True) -> None:
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.annotation = ""
        self.kw_only = False

    @property
    def is_required(self) -> bool:
        return self.default is _MISSING and self.default_factory is _MISSING

    def usual(self) -> Any:
        return self.default if self.default_factory is _MISSING else self.default_factory()


def field(*, default_factory: Callable[[], Any] = _MISSING, repr: bool = True) -> Any:
    """A value that is made anew for each instance, or that `repr` does not show."""
    return Field(default_factory=default_factory, repr=repr)


class _Answer:
    """An attribute of a class that is taken from the dataclass like it, made when somebody asks."""

    def __init__(self, of: Callable[[Any], Any]) -> None:
        self._of = of
        self._known: Any = _MISSING

    def __get__(self, instance: object, kind: type[Values]) -> Any:
        if self._of is _signature and kind.__init__ is not Values.__init__:
            raise AttributeError  # a class that was derived, and has a way of its own to be made
        if self._known is _MISSING:
            self._known = self._of(_dataclass_like(kind))
        return self._known


def _dataclass_like(kind: type[Values]) -> Any:
    import dataclasses

    fields: list[Any] = []
    for name, each in kind._fields.items():
        options: dict[str, Any] = {"repr": each.repr, "kw_only": each.kw_only}
        if each.default_factory is not _MISSING:
            options["default_factory"] = each.default_factory
        elif each.default is not _MISSING:
            options["default"] = each.default
        fields.append((name, each.annotation, dataclasses.field(**options)))
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=kind._is_frozen)


def _signature(kind: Any) -> Any:
    import inspect

    return inspect.signature(kind)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Values:
    """The base of such classes: annotate the values, with defaults, `field` or `KW_ONLY`; check them in
    `__post_init__`. Frozen unless ``frozen=False``; then the values can be set, and nothing else.

    What is derived from such a class is a class as any: it may be made a dataclass, or have attributes of its own."""

    _whole: ClassVar[type]
    _read: ClassVar[Any]
    _fields: ClassVar[dict[str, Field]] = {}
    _positional: ClassVar[tuple[str, ...]] = ()
    _is_frozen: ClassVar[bool] = True
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    else:

        def __init__(self, *args, **kwargs):
            self.__dict__.update(zip(self._positional, args, strict=False))
            if kwargs or len(args) != len(self._fields):
                self._complete(args, kwargs)
            self.__post_init__()

        def __setattr__(self, name, value):  # a type checker finds what is wrong by itself
            is_field = name in self._fields
            if not is_field and type(self) is not self._whole:
                object.__setattr__(self, name, value)
            elif self._is_frozen:
                raise _frozen(f"cannot assign to field {name!r}")
            elif not is_field:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            else:
                self.__dict__[name] = value

    def __init_subclass__(cls, *, frozen: bool = True) -> None:
        super().__init_subclass__()
        if Values not in cls.__bases__:
            return
        cls._is_frozen = frozen
        if not frozen:
            cls.__hash__ = None  # type: ignore[assignment]
        cls._whole = cls
        cls._fields = _own_fields(cls)
        cls._read = attrgetter(*cls._fields)
        cls._positional = tuple(name for name, each in cls._fields.items() if not each.kw_only)
        found = {"__match_args__": cls._positional, **{name: _Answer(of) for name, of in _ANSWERS.items()}}
        for name, value in found.items():
            setattr(cls, name, value)

    def _complete(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        fields, values = self._fields, self.__dict__
        if len(args) > len(self._positional):
            raise self._wrong(f"takes {len(self._positional)} positional arguments but {len(args)} were given")
        for name in kwargs:
            if name not in fields:
                raise self._wrong(f"got an unexpected keyword argument {name!r}")
            if name in values:
                raise self._wrong(f"got multiple values for argument {name!r}")
        values.update(kwargs)
        if len(values) < len(fields):
            missing = [name for name in fields if name not in values]
            required = [name for name in missing if fields[name].is_required]
            if required:
                raise self._wrong(f"missing required arguments: {', '.join(map(repr, required))}")
            values.update({name: fields[name].usual() for name in missing})

    def _wrong(self, what: str) -> TypeError:
        return TypeError(f"{type(self).__qualname__}.__init__() {what}")

    def __post_init__(self) -> None:
        """Check the values; ``object.__setattr__`` changes one."""

    def __delattr__(self, name: str) -> None:
        if name in self._fields or type(self) is self._whole:
            raise _frozen(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._read(self) == other._read(other)) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._read(self))

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, each in self._fields.items() if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __replace__(self, /, **changes: Any) -> Self:
        return type(self)(**{name: getattr(self, name) for name in self._fields} | changes)


_ANSWERS: dict[str, Callable[[Any], Any]] = {
    "__dataclass_fields__": lambda made: made.__dataclass_fields__,
    "__dataclass_params__": lambda made: made.__dataclass_params__,
    "__signature__": _signature,
}


def _own_fields(kind: type) -> dict[str, Field]:
    """Those that a class's own body annotates, in its order."""
    found: dict[str, Field] = {}
    kw_only = False
    for name, annotation in kind.__annotations__.items():
        if name == "_":
            kw_only = True
            continue
        if name.startswith("_") or "ClassVar" in str(annotation):
            continue
        default = kind.__dict__.get(name, _MISSING)
        found[name] = each = default if isinstance(default, Field) else Field(default)
        each.annotation, each.kw_only = annotation, kw_only
        if isinstance(default, Field):
            delattr(kind, name)
    return found


def _frozen(what: str) -> Exception:
    import dataclasses

    return dataclasses.FrozenInstanceError(what)


def parts(kind: type) -> dict[str, bool] | None:
    """The names of the values that a class of this kind, or a dataclass, is made of → whether it can't be made without;
    None for any other class."""
    if _is_of_values(kind):
        return {name: each.is_required for name, each in kind._fields.items()}  # type: ignore[attr-defined]
    if not hasattr(kind, "__dataclass_fields__"):
        return None
    import dataclasses

    missing = dataclasses.MISSING
    return {
        each.name: each.init and each.default is missing and each.default_factory is missing
        for each in dataclasses.fields(kind)
    }


def replaced(whole: T, /, **changes: Any) -> T:
    """A copy with other values, of one of this kind or of a dataclass; checked as a new one is."""
    if _is_of_values(type(whole)):
        return whole.__replace__(**changes)  # type: ignore[attr-defined, no-any-return]
    import dataclasses

    return dataclasses.replace(whole, **changes)  # type: ignore[type-var]


def _is_of_values(kind: type) -> bool:
    """Whether it is such a class, or derived from one and no dataclass."""
    found = (each.__dict__.get("__dataclass_fields__") for each in kind.__mro__)
    return isinstance(next(filter(None, found), None), _Answer)
