"""The backends are ordinary dataclasses: a class may be derived from them, with fields or attributes of its own."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

import shipper
from shipper.config.environment import resolve
from shipper.config.settings import identity

CLASSES: dict[type[Any], dict[str, str]] = {
    shipper.Trakerr: {"api_key": "the-secret-key"},
    shipper.JKool: {"token": "the-secret-key"},
}
both = pytest.mark.parametrize(("base", "key"), CLASSES.items(), ids=lambda one: getattr(one, "__name__", ""))


class TeamTrakerr(shipper.Trakerr):
    """Has an attribute that is no field."""

    team: str

    def __init__(self, team: str) -> None:
        super().__init__("the-secret-key")
        self.team = team


@dataclass(frozen=True, kw_only=True)
class RegionTrakerr(shipper.Trakerr):
    region: str
    size: int = dataclasses.field(init=False, default=3)


@both
def test_repr_does_not_show_the_key(base: Any, key: dict[str, str]) -> None:
    assert "the-secret-key" not in repr(base(**key))
    assert f"name='{base.__name__.lower()}'" in repr(base(**key))


@both
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, dataclasses.replace, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_is_equal(base: Any, key: dict[str, str], copied: Any) -> None:
    backend = base(**key, level="ERROR")

    assert copied(backend) == backend
    assert copied(backend) is not backend
    assert hash(copied(backend)) == hash(backend)


@both
def test_a_changed_copy_is_checked_as_a_new_one_is(base: Any, key: dict[str, str]) -> None:
    with pytest.raises(shipper.ConfigurationError, match=f"{base.__name__}.url"):
        dataclasses.replace(base(**key), url="nowhere")


@both
def test_fields_cannot_be_set(base: Any, key: dict[str, str]) -> None:
    backend = base(**key)

    with pytest.raises(dataclasses.FrozenInstanceError, match="'level'"):
        backend.level = 10
    with pytest.raises(dataclasses.FrozenInstanceError, match="'level'"):
        del backend.level


@both
def test_all_but_the_first_fields_are_given_by_keyword(base: Any, key: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="positional"):
        base(*"abcdef")

    parameters = inspect.signature(base).parameters
    assert next(iter(parameters)) == next(iter(key))
    assert parameters["level"].kind is inspect.Parameter.KEYWORD_ONLY


def test_a_derived_class_may_set_attributes_that_are_no_fields() -> None:
    backend = TeamTrakerr("payments")
    backend.team = "orders"

    assert pickle.loads(pickle.dumps(backend)).team == "orders"
    assert backend == TeamTrakerr("other")
    assert backend != shipper.Trakerr("the-secret-key")
    with pytest.raises(dataclasses.FrozenInstanceError, match="'level'"):
        backend.level = 10  # type: ignore[misc]


def test_a_derived_dataclass_may_have_fields_of_its_own() -> None:
    backend = RegionTrakerr(api_key="the-secret-key", region="eu")

    assert dataclasses.replace(backend, region="us") != backend
    assert "the-secret-key" not in repr(backend)
    assert (backend.region, backend.size, backend.name) == ("eu", 3, "trakerr")


def test_fields_of_a_derived_dataclass_tell_backends_apart() -> None:
    one, other = (RegionTrakerr(api_key="k", region=region) for region in ("eu", "us"))

    assert identity(one) == identity(dataclasses.replace(one, name="another"))
    assert identity(one) != identity(other)
    assert resolve((one,), {"app": "a"}).digest != resolve((other,), {"app": "a"}).digest


def test_a_class_derived_with_slots_is_a_backend() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Slotted(shipper.JKool):
        region: str

    assert resolve((Slotted(token="k", region="eu"),), {"app": "a"}).backends[0].region == "eu"
