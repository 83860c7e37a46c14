"""Values of well-known libraries arrive as a person would write them, and nothing lazy is evaluated.

The libraries need not be installed: stand-ins with the same class names do for most. Where a library is there, its own
objects are tried as well.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime
import decimal
import functools
import importlib
import ipaddress
import logging
import pathlib
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from shipper.application.capture.record import from_record
from shipper.event.library_types import find_adapter
from shipper.event.sanitize import sanitize
from shipper.jkool.metrics import spelled

from ..support.oddities import a_record


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (functools.partial(print, [1]), "<partial of print>"),
    ],
)
def test_values_of_the_standard_library_are_written_as_text(value: object, expected: str) -> None:
    assert sanitize(value) == expected


# -- stand-ins ---------------------------------------------------------------------------------------------------------


class Evaluated(Exception):
    pass


def lazy_class(module: str, name: str, **methods: Any) -> type:
    """Return a class whose objects raise `Evaluated` when they are used, wherever a class can detect the use."""

    def evaluate(self: object, *args: object) -> Any:
        raise Evaluated

    special = ("__len__", "__iter__", "__contains__", "__getitem__", "__bool__", "__repr__", "__str__", "__hash__")
    body = dict.fromkeys(special, evaluate) | {"__class__": property(evaluate), **methods}
    return type(name, (), {**body, "__module__": module})


class Order:
    pass


def instance(kind: type, **attributes: Any) -> Any:
    made: Any = object.__new__(kind)
    object.__getattribute__(made, "__dict__").update(attributes)
    return made


LAZY = [
    (instance(lazy_class("django.utils.functional", "LazyObject"), _wrapped=None), None),
    (instance(lazy_class("django.utils.functional", "Promise")), "<Promise>"),
    (instance(lazy_class("django.db.models.query", "QuerySet"), model=Order), "<QuerySet of Order>"),
    (instance(lazy_class("django.db.models.manager", "BaseManager"), model=Order), "<BaseManager of Order>"),
    (instance(lazy_class("django.core.paginator", "Page")), "<Page>"),
    (instance(lazy_class("django.db.models.base", "Model"), id=17), "<Model id=17>"),
    (instance(lazy_class("werkzeug.local", "LocalProxy")), "<LocalProxy>"),
    (instance(lazy_class("peewee", "BaseQuery")), "<BaseQuery>"),
    (instance(lazy_class("celery.local", "Proxy")), "<Proxy>"),
    (instance(lazy_class("sqlalchemy.ext.associationproxy", "_AssociationCollection")), "<_AssociationCollection>"),
    (SimpleNamespace(page=instance(lazy_class("django.core.paginator", "Page"))), {"page": "<Page>"}),
    (functools.partial(print, instance(lazy_class("django.core.paginator", "Page"))), "<partial of print>"),
    (
        instance(lazy_class("shop.models", "User", __mapper__=None), _sa_instance_state=object(), id=5),
        {"type": "User", "id": 5},
    ),
    (
        instance(lazy_class("shop.models", "User", __mapper__=None), id=5, _AssociationProxy_tags_1=(1, 2, ["a"])),
        {"type": "User", "id": 5},
    ),
]


@pytest.mark.parametrize(("value", "expected"), LAZY, ids=range(len(LAZY)))
def test_a_lazy_object_is_named_and_not_evaluated(value: object, expected: object) -> None:
    assert sanitize(value) == expected
    assert sanitize({"deep": [value]}) == {"deep": [expected]}
    assert sanitize(spelled({"deep": [value]})) == {"deep": [expected]}
    assert from_record(a_record("hi", user=value)).extra == {"user": expected}


def test_an_unknown_class_that_only_looks_like_a_collection_is_shown_by_its_repr() -> None:
    class Cursor:
        def __len__(self) -> int:
            raise Evaluated

        def __iter__(self) -> Any:
            raise Evaluated

        def __contains__(self, item: object) -> bool:
            raise Evaluated

        def __repr__(self) -> str:
            return "<Cursor>"

    assert issubclass(Cursor, collections.abc.Collection)
    assert sanitize(Cursor()) == "<Cursor>"


def test_a_wrapped_object_that_is_known_is_shown() -> None:
    lazy = instance(lazy_class("django.utils.functional", "LazyObject"), _wrapped={"name": "bob"}, _setupfunc=None)

    assert sanitize(lazy) == {"name": "bob"}


def test_what_fails_while_it_is_simplified_is_named() -> None:
    frame = lazy_class("pandas.core.frame", "DataFrame")

    assert sanitize(instance(frame)) == "<DataFrame>"


class Request:
    method = "GET"
    path = "/orders/17"
    scope = {"type": "http", "method": "GET", "path": "/orders/17", "app": object()}  # noqa: RUF012
    status_code = 404

    def __repr__(self) -> str:
        raise Evaluated


def stand_in(module: str, name: str) -> Any:
    return type(name, (Request,), {"__module__": module})()


@pytest.mark.parametrize(
    "value",
    [
        stand_in("django.http.request", "HttpRequest"),
        stand_in("werkzeug.wrappers.request", "Request"),
        stand_in("starlette.requests", "HTTPConnection"),
        stand_in("aiohttp.web_request", "BaseRequest"),
        type("WSGIRequest", (type(stand_in("django.http.request", "HttpRequest")),), {})(),
    ],
)
def test_a_request_becomes_its_method_and_path(value: object) -> None:
    assert sanitize(value) == {"method": "GET", "path": "/orders/17"}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("django.http.response", "HttpResponseBase"),
        ("werkzeug.sansio.response", "Response"),
        ("starlette.responses", "Response"),
    ],
)
def test_a_response_becomes_its_status(module: str, name: str) -> None:
    assert sanitize(stand_in(module, name)) == {"status": 404}


def test_verdicts_on_classes_are_remembered_and_bounded() -> None:
    for _ in range(2500):
        find_adapter(type("Made", (), {}))

    from shipper.event import library_types

    assert len(library_types._known) <= 1000


# -- the libraries themselves ------------------------------------------------------------------------------------------


def library(name: str) -> Any:
    return pytest.importorskip(name)


NUMPY: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda np: np.int64(5), 5),
    (lambda np: np.float32(0.1), 0.1),
    (lambda np: np.bool_(True), True),
    (lambda np: np.datetime64("2024-01-02T03:04"), "2024-01-02T03:04"),
    (lambda np: np.datetime64("NaT"), None),
    (lambda np: np.timedelta64(5, "s"), "5 seconds"),
    (lambda np: np.complex128(1j), "1j"),
    (lambda np: np.str_("x"), "x"),
    (lambda np: np.array(5), 5),
    (lambda np: np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
    (lambda np: np.array([0.1, 0.2], dtype="float32"), [0.1, 0.2]),
    (lambda np: np.array([(1, "a")], dtype=[("n", int), ("s", "U5")]), [{"n": 1, "s": "a"}]),
    (lambda np: np.array([("2024-01-02",)], dtype=[("t", "M8[ns]")])[0], {"t": "2024-01-02T00:00:00.000000000"}),
    (lambda np: np.array([{"a": 1}], dtype=object), [{"a": 1}]),
    (lambda np: np.matrix([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (lambda np: np.ma.array([1, 2], mask=[0, 1]), [1, None]),
    (lambda np: np.zeros((2000, 2000)), "<ndarray of shape (2000, 2000), float64>"),
]


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(("make", "expected"), NUMPY, ids=range(len(NUMPY)))
def test_numpy(make: Callable[[Any], Any], expected: object) -> None:
    found = sanitize(make(library("numpy")))

    assert found == expected
    assert type(found) is type(expected)


def test_pandas() -> None:
    pd = library("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})

    assert sanitize(frame) == {"shape": [2, 2], "columns": ["a", "b"], "rows": [[1, "x"], [2, sanitize(frame["b"][1])]]}
    assert sanitize(pd.DataFrame({"a": range(1000)})) == {"shape": [1000, 1], "columns": ["a"]}
    assert sanitize(pd.Series([1.5, 2.5], index=["p", "q"])) == {"p": 1.5, "q": 2.5}
    assert sanitize(pd.Series([1, 2], index=["p", "p"])) == [["p", 1], ["p", 2]]
    assert sanitize(pd.Series([1, 2])) == [1, 2]
    assert sanitize(pd.Series([1, 2], name="paid")) == {"paid": [1, 2]}
    assert sanitize([pd.NaT, pd.NA]) == [None, None]
    assert sanitize(pd.Timestamp("2024-01-02T03:04:05")) == "2024-01-02T03:04:05"
    assert sanitize(pd.Period("2024-01")) == "2024-01"


def test_pydantic() -> None:
    pydantic = library("pydantic")

    class Login(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        name: str = "bob"
        token: str = pydantic.Field(default="x", repr=False)
        when: datetime.date = datetime.date(2024, 1, 2)
        url: Any = pydantic.AnyUrl("https://a.test/b")

    assert sanitize(Login()) == {"name": "bob", "when": "2024-01-02", "url": "https://a.test/b"}


def test_attrs() -> None:
    attrs = library("attrs")

    @attrs.define
    class Login:
        name: str = "bob"
        token: str = attrs.field(default="x", repr=False)
        key: str = attrs.field(default="x", repr=lambda value: f"{len(value)} characters")

    assert sanitize(Login()) == {"name": "bob", "key": "1 characters"}


def test_sqlalchemy_sends_no_query() -> None:
    library("sqlalchemy")
    orm: Any = importlib.import_module("sqlalchemy.orm")
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    base = orm.declarative_base()
    body = {
        "__tablename__": "users",
        "id": sqlalchemy.Column(sqlalchemy.Integer, primary_key=True),
        "name": sqlalchemy.Column(sqlalchemy.String),
        "__repr__": lambda self: f"<User {self.name}>",
    }
    user_class = type("User", (base,), body)
    engine = sqlalchemy.create_engine("sqlite://")
    base.metadata.create_all(engine)
    queries: list[str] = []
    with orm.Session(engine) as session:
        session.add(user_class(id=5, name="bob"))
        session.commit()
        user = session.get(user_class, 5)
        session.expire(user, ["name"])
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *args: queries.append(args[2]))

        found = sanitize({"user": user, "query": session.query(user_class)})

    assert queries == []
    assert found["user"] == {"type": "User", "id": 5}
    assert "Query" in found["query"]


def test_django_evaluates_nothing() -> None:
    library("django")
    functional: Any = importlib.import_module("django.utils.functional")
    woken: list[str] = []

    def load() -> dict[str, str]:
        woken.append("a query")
        return {"name": "bob"}

    user = functional.SimpleLazyObject(load)
    text = functional.lazy(lambda: f"{load()}", str)()

    found = from_record(a_record("hi", user=user, text=text, deep={"user": [user]})).extra

    assert woken == []
    assert found["user"].startswith("<SimpleLazyObject: <function")
    assert found["text"] == "<__proxy__>"
    assert str(user["name"]) == "bob"
    assert sanitize(user) == {"name": "bob"}


def test_flask_and_starlette_requests() -> None:
    flask: Any = library("flask")
    with flask.Flask("shop").test_request_context("/orders/17?x=1", method="POST"):
        assert sanitize(flask.request) == {"method": "POST", "path": "/orders/17"}
        assert sanitize(flask.session) == "<LocalProxy>"
    assert sanitize(flask.request) == "<LocalProxy>"
    assert sanitize(flask.Response(status=404)) == {"status": 404}


def test_starlette_requests() -> None:
    library("starlette")
    requests: Any = importlib.import_module("starlette.requests")
    responses: Any = importlib.import_module("starlette.responses")

    request = requests.Request({"type": "http", "method": "PUT", "path": "/a", "headers": [], "query_string": b"x=1"})

    assert sanitize(request) == {"method": "PUT", "path": "/a"}
    assert sanitize(responses.JSONResponse({}, 201)) == {"status": 201}


# -- structlog ---------------------------------------------------------------------------------------------------------


def event_dict_record(event_dict: dict[str, Any], **attributes: Any) -> logging.LogRecord:
    """Return a record as structlog makes it with ``ProcessorFormatter.wrap_for_formatter``."""
    record = a_record(event_dict, _logger=object(), _name="shop", **attributes)
    record.args = ()
    return record


@pytest.mark.parametrize("context_class", [dict, collections.OrderedDict])
def test_an_event_dict_is_a_message_and_extras(context_class: type[dict[str, Any]]) -> None:
    event_dict = context_class(event="paid", amount=12.5, level="info", _record=object(), _from_structlog=True)

    event = from_record(event_dict_record(event_dict))

    assert event.message == "paid"
    assert event.extra == {"amount": 12.5, "level": "info"}
    assert event_dict["event"] == "paid"


@pytest.mark.parametrize("given", ["flag", "number", "instance", "triple"])
def test_the_exception_in_an_event_dict_counts(given: str) -> None:
    try:
        raise ZeroDivisionError("no")
    except ZeroDivisionError as exc:
        exc_info: Any = {
            "flag": True, "number": 1, "instance": exc, "triple": (type(exc), exc, exc.__traceback__),
        }[given]  # fmt: skip
        event = from_record(event_dict_record({"event": "failed", "exc_info": exc_info}))

    assert [one.name for one in event.exceptions] == ["ZeroDivisionError"]
    assert event.exceptions[0].frames
    assert event.extra == {}


def test_positional_arguments_in_an_event_dict_are_formatted() -> None:
    assert from_record(event_dict_record({"event": "%d of %s", "positional_args": (1, "x")})).message == "1 of x"
    misfit = from_record(event_dict_record({"event": "%d", "positional_args": ("x",)})).message
    assert misfit == "%d [arguments that do not fit: ('x',)]"


def test_a_dict_without_an_event_stays_a_message() -> None:
    event = from_record(a_record({"a": 1}))

    assert (event.message, event.extra) == ("{'a': 1}", {})
