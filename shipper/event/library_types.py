"""Values of well-known libraries, as a person would write them.

No library is imported here: a class is known by its package and name, so that a process which does not use pandas does
not pay for it. Nothing lazy is evaluated: a logging call must not send a query in the middle of another one. Only
`type(value)` is used: ``isinstance`` reads ``__class__``, for which a proxy may load the object behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")
Adapter = Callable[[Any], Any]

MAX_CELLS = 200
"""Arrays, series and frames with more values than this are described by their shape."""

_MAX_CACHED = 1000  # classes


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """``isinstance`` without a look at ``__class__``."""
    return issubclass(type(value), kind)


def find_adapter(kind: type) -> Adapter | None:
    """Return the function that converts values of this class to simpler ones; None for an unknown class."""
    try:
        return _known[kind]
    except KeyError:
        pass
    if len(_known) >= _MAX_CACHED:
        _known.clear()
    _known[kind] = found = _find(kind)
    return found


_known: dict[type, Adapter | None] = {}


def _find(kind: type) -> Adapter | None:
    for base in kind.__mro__:
        module = getattr(base, "__module__", "")
        package = module.partition(".")[0] if isinstance(module, str) else ""
        adapter = _ADAPTERS.get((package, base.__name__))
        if adapter is not None:
            return adapter
    if any("__mapper__" in base.__dict__ for base in kind.__mro__):
        return _loaded_attributes
    if any("__attrs_attrs__" in base.__dict__ for base in kind.__mro__):
        return _attrs_fields
    return None


def named(value: object) -> str:
    """Return the class's name, for a value that must not be evaluated."""
    return f"<{type(value).__name__}>"


# -- numpy and pandas --------------------------------------------------------------------------------------------------


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "f":
        return float(str(value)) if value.dtype.itemsize < 8 else float(value)  # 0.1, not 0.10000000149011612
    if kind in "mM":
        text = str(value)
        return None if text == "NaT" else text
    if kind == "V" and value.dtype.names:
        return {name: value[name] for name in value.dtype.names}
    return str(value) if kind == "c" else value.item()


def _numpy_array(value: Any) -> Any:
    if value.ndim == 0:
        return _numpy_item(value[()])
    if value.size > MAX_CELLS:
        return f"<{type(value).__name__} of shape {value.shape}, {value.dtype}>"
    if value.ndim > 1:
        rows = (value[place] for place in range(len(value)))
        return [_numpy_array(row) if row.ndim < value.ndim else _numpy_array(row.A1) for row in rows]
    return [_numpy_item(item) for item in value]


def _numpy_item(item: Any) -> Any:
    if type(item).__name__ == "MaskedConstant":
        return None
    return _numpy_scalar(item) if hasattr(type(item), "dtype") else item


def _pandas_frame(value: Any) -> dict[str, Any]:
    rows, columns = value.shape
    found: dict[str, Any] = {"shape": [rows, columns], "columns": value.columns.tolist()}
    if rows * columns <= MAX_CELLS:
        found["rows"] = [list(row) for row in value.itertuples(index=False, name=None)]
    return found


def _pandas_series(value: Any) -> Any:
    if len(value) > MAX_CELLS:
        return {"shape": [len(value)], "dtype": str(value.dtype)}
    if type(value.index).__name__ == "RangeIndex":
        return value.tolist() if value.name is None else {str(value.name): value.tolist()}
    pairs = list(zip(value.index.tolist(), value.tolist(), strict=False))
    return dict(pairs) if value.index.is_unique else pairs


def _pandas_list(value: Any) -> Any:
    return value.tolist() if len(value) <= MAX_CELLS else {"shape": [len(value)], "dtype": str(value.dtype)}


# -- classes with fields -----------------------------------------------------------------------------------------------


def _pydantic_fields(value: Any) -> dict[str, Any]:
    """Return the fields that the model's repr shows, read without its serializers."""
    fields = _class_attribute(type(value), "__pydantic_fields__", "model_fields", "__fields__")
    values = object.__getattribute__(value, "__dict__")
    shown = {name: each for name, each in values.items() if _is_shown(fields.get(name))}
    extra = getattr(value, "__pydantic_extra__", None)
    return {**shown, **extra} if isinstance(extra, dict) else shown


def _class_attribute(kind: type, *names: str) -> Mapping[str, Any]:
    found = (base.__dict__.get(name) for name in names for base in kind.__mro__)
    return next((each for each in found if isinstance(each, Mapping)), {})


def _is_shown(field: Any) -> bool:
    return bool(getattr(field, "repr", True)) if field is not None else True


def _attrs_fields(value: Any) -> dict[str, Any]:
    """Return the fields that the object's repr shows; ``repr=function`` of a field is applied to its value."""
    shown = {each.name: (getattr(value, each.name, None), each.repr) for each in type(value).__attrs_attrs__}
    return {name: each if spell is True else spell(each) for name, (each, spell) in shown.items() if spell}


def _loaded_attributes(value: Any) -> dict[str, Any]:
    """The attributes of an SQLAlchemy object that are loaded: reading another one sends a query."""
    values = object.__getattribute__(value, "__dict__")
    loaded = {name: each for name, each in values.items() if not name.startswith(("_sa_", "_AssociationProxy_"))}
    return {"type": type(value).__name__, **loaded}


def _namespace(value: Any) -> dict[str, Any]:
    return dict(vars(value))


# -- lazy objects ------------------------------------------------------------------------------------------------------


def _lazy_object(value: Any) -> Any:
    """Return the object in a Django LazyObject, if it is loaded already; else a text that evaluates nothing."""
    attributes = object.__getattribute__(value, "__dict__")
    functional = sys.modules.get("django.utils.functional")
    wrapped = attributes.get("_wrapped")
    if "_wrapped" not in attributes or (functional is not None and wrapped is functional.empty):
        setup = attributes.get("_setupfunc")
        return named(value) if setup is None else f"<{type(value).__name__}: {setup!r}>"
    return wrapped


def _partial(value: Any) -> str:
    """Return the function's name: the partial's repr would call those of its arguments."""
    return f"<partial of {getattr(value.func, '__qualname__', type(value.func).__name__)}>"


def _query(value: Any) -> str:
    model = object.__getattribute__(value, "__dict__").get("model")
    of = f" of {model.__name__}" if isinstance(model, type) else ""
    return f"<{type(value).__name__}{of}>"


def _model(value: Any) -> str:
    """Describe a Django model by its primary key: its `str` may query the database."""
    attributes = object.__getattribute__(value, "__dict__")
    key = getattr(getattr(getattr(type(value), "_meta", None), "pk", None), "attname", "id")
    return f"<{type(value).__name__} {key}={attributes.get(key)!r}>"


def _local_proxy(value: Any) -> Any:
    """Describe Flask's request; another proxy by its class only, since reading it may load its object."""
    flask = sys.modules.get("flask")
    if flask is None or value is not flask.__dict__.get("request"):
        return named(value)
    return _request(value) if flask.has_request_context() else named(value)


# -- requests and responses --------------------------------------------------------------------------------------------


def _request(value: Any) -> dict[str, Any]:
    return {"method": value.method, "path": value.path}


def _asgi_request(value: Any) -> dict[str, Any]:
    scope = value.scope
    return {"method": scope.get("method") or scope.get("type"), "path": scope.get("path")}


def _wrapped_request(value: Any) -> dict[str, Any]:
    return _request(value._request)


def _response(value: Any) -> dict[str, Any]:
    return {"status": value.status_code}


_ADAPTERS: dict[tuple[str, str], Adapter] = {
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "ndarray"): _numpy_array,
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_list,
    ("pandas", "ExtensionArray"): _pandas_list,
    ("pandas", "NaTType"): lambda value: None,
    ("pandas", "NAType"): lambda value: None,
    ("pandas", "Period"): str,
    ("pandas", "Interval"): str,
    ("pydantic", "BaseModel"): _pydantic_fields,
    ("pydantic", "_BaseUrl"): str,
    ("pydantic", "_BaseMultiHostUrl"): str,
    ("types", "SimpleNamespace"): _namespace,
    ("argparse", "Namespace"): _namespace,
    ("functools", "partial"): _partial,
    ("decimal", "Decimal"): str,
    ("fractions", "Fraction"): str,
    ("uuid", "UUID"): str,
    ("ipaddress", "_IPAddressBase"): str,
    ("django", "LazyObject"): _lazy_object,
    ("django", "Promise"): named,
    ("django", "QuerySet"): _query,
    ("django", "RawQuerySet"): _query,
    ("django", "BaseManager"): _query,
    ("django", "Page"): named,
    ("django", "Paginator"): named,
    ("django", "Model"): _model,
    ("django", "HttpRequest"): _request,
    ("django", "HttpResponseBase"): _response,
    ("rest_framework", "Request"): _wrapped_request,
    ("werkzeug", "LocalProxy"): _local_proxy,
    ("werkzeug", "Request"): _request,
    ("werkzeug", "Response"): _response,
    ("starlette", "HTTPConnection"): _asgi_request,
    ("starlette", "Response"): _response,
    ("aiohttp", "BaseRequest"): _request,
    ("sqlalchemy", "_AssociationCollection"): named,
    ("celery", "Proxy"): named,
    ("peewee", "BaseQuery"): named,
    ("tortoise", "AwaitableQuery"): named,
    ("mongoengine", "BaseQuerySet"): named,
    ("pymongo", "Cursor"): named,
}
