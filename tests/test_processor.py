"""Declaring a processor: what works, and how mistakes are told."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from typing_extensions import TypeVar

from streamproc import Context, Event, Policy, Processor, ProcessorError, on
from streamproc.pipeline.routes import Routes
from streamproc.processor import handlers_of, key_text
from streamproc.state.keys import Keys


class Seen(Event, id="name"):
    name: str


class Count(msgspec.Struct):
    n: int = 0


class Counter(Processor[Count]):
    @on(Seen, key="name")
    def see(self, event: Seen, ctx: Context[Count]) -> None:
        ctx.state.n += 1


def test_a_processor_is_named_after_its_class_unless_it_says_so() -> None:
    class Named(Counter):
        name = "other"

    assert Counter.name == "counter"
    assert Named.name == "other"


@pytest.mark.parametrize("bad", ["", "a:b", "a{b", "a}b", "a b", "a\nb"])
def test_a_name_that_would_break_redis_keys_is_refused(bad: str) -> None:
    with pytest.raises(ProcessorError, match=re.escape(f"processor name {bad!r}")):
        type("Bad", (Processor,), {"name": bad})


def test_the_state_type_is_taken_from_the_class_statement() -> None:
    class Stateless(Processor):
        @on(Seen)
        def see(self, event: Seen, ctx: Context) -> None: ...

    class Derived(Counter):
        pass

    assert Counter.state_type is Count
    assert Derived.state_type is Count
    assert Stateless.state_type is None


def test_the_state_type_is_found_through_a_generic_base() -> None:
    S = TypeVar("S", default=None)

    class Base(Processor[S]):
        pass

    class Concrete(Base[Count]):
        pass

    assert Concrete.state_type is Count


def test_handlers_say_who_they_are() -> None:
    (handler,) = handlers_of(Counter())
    assert handler.name == "counter.see"
    assert handler.event is Seen
    assert not handler.is_async
    assert handler.key is not None
    assert handler.key(Seen(name="x")) == "x"


def test_an_overridden_handler_is_called_in_its_new_form() -> None:
    class Twice(Counter):
        @on(Seen, key="name")
        def see(self, event: Seen, ctx: Context[Count]) -> None:
            ctx.state.n += 2

    assert [handler.name for handler in handlers_of(Twice())] == ["twice.see"]


def test_one_method_may_handle_several_types() -> None:
    class Left(Event, id="name"):
        name: str

    class Doors(Processor):
        @on(Seen)
        @on(Left)
        def count(self, event: Any, ctx: Context) -> None: ...

    assert {handler.event for handler in handlers_of(Doors())} == {Seen, Left}


def test_key_and_keys_exclude_each_other() -> None:
    with pytest.raises(ProcessorError, match=r"@on\(Seen\): give key= or keys=, not both"):
        on(Seen, key="name", keys=lambda event: [event.name])


def test_a_key_that_is_no_field_is_told() -> None:
    with pytest.raises(ProcessorError, match=r"@on\(Seen\): key='nmae' names no field"):
        on(Seen, key="nmae")


def test_a_processor_without_handlers_is_told() -> None:
    class Idle(Processor):
        pass

    with pytest.raises(ProcessorError, match="idle declares no handler; use @on"):
        handlers_of(Idle())


def test_two_handlers_for_one_type_are_told() -> None:
    class Double(Processor):
        @on(Seen)
        def first(self, event: Seen, ctx: Context) -> None: ...

        @on(Seen)
        def second(self, event: Seen, ctx: Context) -> None: ...

    with pytest.raises(ProcessorError, match=r"double\.second and double\.first both handle Seen"):
        handlers_of(Double())


def test_state_without_a_key_is_told() -> None:
    class Keyless(Processor[Count]):
        @on(Seen)
        def see(self, event: Seen, ctx: Context[Count]) -> None: ...

    with pytest.raises(ProcessorError, match=r"keyless\.see: .*keeps state, so @on needs key="):
        handlers_of(Keyless())


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"backoff": (-0.1, 1.0)},
        {"backoff": (2.0, 1.0)},
        {"timeout": -1.0},
        {"timeout": 0.0},
    ],
)
def test_a_policy_without_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ProcessorError, match="not a usable policy"):
        Policy(**bad)


def test_two_processors_of_one_name_are_told() -> None:
    with pytest.raises(ProcessorError, match="counter"):
        Routes([Counter(), Counter()], [Keys("g")])


def test_keys_of_different_parts_have_different_texts() -> None:
    assert key_text("plain") == "plain"
    assert key_text(("sku", "loc")) == "sku|loc"
    keys = ["a|b", ("a", "b"), ("a|b",), "a%7Cb", ("a%7Cb",), ("a", "b", ""), ("a", "", "b"), ""]
    texts = [key_text(key) for key in keys]
    # A key of one part is that part; all others differ.
    assert len(set(texts)) == len(keys) - 2


@pytest.mark.parametrize("key", [1, None, b"x", ("a", 1)])
def test_a_key_that_is_no_text_is_refused(key: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        key_text(key)


class ByName(Processor[Count]):
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def places(self, event: Seen) -> list[tuple[str, str]]:
        return [(self.prefix, event.name)]

    @on(Seen, key="name", counters="places")
    def see(self, event: Seen, ctx: Context[Count]) -> None:
        ctx.counters[self.prefix, event.name].add("seen")


def test_counter_keys_may_be_a_matter_of_the_processors_settings() -> None:
    (handler,) = handlers_of(ByName("a"))
    assert handler.counters is not None
    assert list(handler.counters(Seen("x"))) == [("a", "x")]


def test_a_name_of_counters_that_is_no_method_is_refused() -> None:
    class Wrong(Processor[Count]):
        @on(Seen, key="name", counters="plces")
        def see(self, event: Seen, ctx: Context[Count]) -> None:
            """Do nothing."""

    with pytest.raises(ProcessorError, match="counters='plces' names no method"):
        handlers_of(Wrong())
