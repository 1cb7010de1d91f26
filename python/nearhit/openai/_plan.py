"""One course of a request for both kinds of clients: a generator that says what to do next, and two that do it.

A plan yields `Do(owner, "method", arguments)`. For a synchronous client that is `owner.method(...)`, for an
asynchronous one `await owner.method_async(...)`; the plan is sent what comes back, and thrown what is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


class Do(NamedTuple):
    """Something to be done on the way.

    Attributes:
        owner: Whose method it is.
        method: The method's name, in its synchronous form.
        args: Its arguments.
    """

    owner: Any
    method: str
    args: tuple[Any, ...] = ()


Plan: TypeAlias = "Generator[Do, Any, T]"


def drive(plan: Plan[T]) -> T:
    """Does what a plan says, in place."""
    try:
        step = next(plan)
        while True:
            try:
                came = getattr(step.owner, step.method)(*step.args)
            except BaseException as error:  # noqa: BLE001 - the plan's affair, even where it is an interrupt
                step = plan.throw(error)
            else:
                step = plan.send(came)
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(plan: Plan[T]) -> T:
    """`drive`, awaiting."""
    try:
        step = next(plan)
        while True:
            try:
                came = await getattr(step.owner, f"{step.method}_async")(*step.args)
            except BaseException as error:  # noqa: BLE001 - the plan's affair, even where it is a cancellation
                step = plan.throw(error)
            else:
                step = plan.send(came)
    except StopIteration as done:
        value: T = done.value
        return value
