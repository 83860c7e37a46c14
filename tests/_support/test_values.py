"""A class of values is a dataclass to whoever asks, and imports none."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

import shipper
from shipper._support.values import KW_ONLY, Values, field, parts, replaced


class Point(Values):
    """Two numbers, and what goes with them."""

    x: int
    y: int = 0
    _: KW_ONLY
    notes: list[str] = field(default_factory=list)
    secret: str = field(repr=False, default_factory=lambda: "hush")

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError(f"x={self.x}")


class Loose(Values, frozen=False):
    name: str = ""


def test_values_are_given_by_place_or_name_and_else_are_the_usual_ones() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 2).y, Point(x=3, notes=["a"]).notes) == (1, 0, 2, ["a"])
    assert Point(1).notes is not Point(1).notes


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing required arguments: 'x'"),
        ((1, 2, 3), {}, "takes 2 positional arguments but 3 were given"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
    ],
)
def test_wrong_arguments_are_told_as_python_tells_them(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Point(*args, **kwargs)


def test_each_new_instance_is_checked() -> None:
    with pytest.raises(ValueError, match="x=-1"):
        Point(-1)
    with pytest.raises(ValueError, match="x=-1"):
        replaced(Point(1), x=-1)


def test_equal_values_are_equal_and_hash_alike() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(1, 3)
    assert Point(1) != Loose()
    assert hash(shipper.Batching()) == hash(shipper.Batching(max_events=500))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Loose())


def test_repr_shows_everything_but_secrets() -> None:
    assert repr(Point(1, notes=["a"])) == "Point(x=1, y=0, notes=['a'])"


def test_frozen_values_do_not_change() -> None:
    point = Point(1)

    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        del point.x


def test_loose_values_can_be_set_but_no_others() -> None:
    loose = Loose()
    loose.name = "a"

    with pytest.raises(AttributeError, match="nmae"):
        loose.nmae = "b"  # type: ignore[attr-defined]

    assert loose == Loose("a")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), replaced])
def test_a_copy_is_equal_and_another(copied: Any) -> None:
    point = Point(1, 2, notes=["a"])

    assert copied(point) == point
    assert copied(point) is not point


def test_the_functions_for_dataclasses_take_it_for_one() -> None:
    point = Point(1, notes=["a"])

    assert [(each.name, each.kw_only, each.repr) for each in dataclasses.fields(point)] == [
        ("x", False, True),
        ("y", False, True),
        ("notes", True, True),
        ("secret", True, False),
    ]
    assert dataclasses.replace(point, y=5) == Point(1, 5, notes=["a"])
    assert dataclasses.asdict(point) == {"x": 1, "y": 0, "notes": ["a"], "secret": "hush"}
    assert dataclasses.is_dataclass(Point)


def test_its_signature_is_told() -> None:
    assert str(inspect.signature(Point)).startswith("(x: ")
    assert [*inspect.signature(shipper.JKool).parameters][:3] == ["token", "url", "source_fqn"]


def test_a_dataclass_can_be_made_of_one() -> None:
    @dataclass(frozen=True)
    class Named(Point):
        name: str = "a"

    named = Named(1, name="b")

    assert (named.x, named.y, named.name) == (1, 0, "b")
    assert replaced(named, x=2) == Named(2, name="b")
    assert parts(Named) == {"x": True, "y": False, "notes": False, "secret": False, "name": False}


def test_a_dataclass_made_of_one_may_have_slots_and_values_that_are_not_given() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named(Point):
        name: str  # type: ignore[misc] # by keyword
        size: int = dataclasses.field(init=False, default=3)

    named = Named(x=1, name="b")

    assert replaced(named, x=2) == Named(x=2, name="b") != named
    assert [*inspect.signature(Named).parameters] == ["x", "y", "notes", "secret", "name"]
    assert parts(Named) == {"x": True, "y": False, "notes": False, "secret": False, "name": True, "size": False}


def test_a_class_made_of_one_may_have_attributes_of_its_own() -> None:
    class Placed(Point):
        place: str  # type: ignore[misc] # no value

        def __init__(self, place: str) -> None:
            super().__init__(1)
            self.place = place  # type: ignore[misc]

    placed = Placed("here")

    assert (placed.x, placed.place) == (1, "here")
    assert copy.copy(placed).place == "here"
    assert placed == Placed("there")  # as it is with dataclasses
    assert [*inspect.signature(Placed).parameters] == ["place"]
    assert parts(Placed) == parts(Point)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        placed.x = 2  # type: ignore[misc]
    del placed.place
    assert not hasattr(placed, "place")


def test_a_class_made_of_one_that_is_not_frozen_is_not_either() -> None:
    class Labelled(Loose):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("a")
            self.label = "b"

    labelled = Labelled()
    labelled.name = "c"  # type: ignore[misc]

    assert (labelled.name, labelled.label) == ("c", "b")


def test_parts_tell_what_a_class_can_not_do_without() -> None:
    @dataclass
    class Usual:
        a: int
        b: int = 1

    assert parts(Point) == {"x": True, "y": False, "notes": False, "secret": False}
    assert parts(Usual) == {"a": True, "b": False}
    assert parts(str) is None
