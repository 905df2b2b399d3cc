"""A migration of simulated servers as a hypervisor does it, which does not care for what becomes of the client."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from spiceproxy.faults.scenarios import Lab
from spiceproxy.simulate import Outcome, SimulatedServer, SimulationError
from spiceproxy.simulate.cast import Cast

Attempt = Callable[[Callable[[], Awaitable[object]]], Awaitable[bool]]
"""Awaits a step, takes note of what goes wrong with it, and says whether it went well."""


async def move_guest(
    cast: Cast,
    source: SimulatedServer,
    destination: SimulatedServer,
    course: Lab,
    attempt: Attempt,
    *,
    tell: Callable[[str, str], None] = lambda _step, _text: None,
    moved: Callable[[], None] = lambda: None,
) -> Outcome | None:
    """Announce the destination, move the guest, tell the client. Put a deadline around it.

    Args:
        cast: The servers.
        source: That has the guest.
        destination: From `Cast.destination`.
        course: What happens besides.
        attempt: For each step.
        tell: Is called with what begins, in short and in a sentence.
        moved: Is called when the guest has moved, and the client does not know yet.

    Returns:
        What the client was told; None if that did not come to its end.
    """
    was, will = source.name, destination.name
    tell(f"announcing {will}", f"The guest is to move from {was} to {will}: {was} announces {will} to c")
    if course.kill == "destination" and course.kill_when == "before":
        destination.abort()
    cast.announce(source, will)
    if course.migrate_after_s is None:
        await attempt(source.wait_client_connected)
    else:
        await trio.sleep(course.migrate_after_s)
    told: Outcome | None = None

    async def end() -> None:
        nonlocal told
        told = await source.migrate_end(completed=not course.cancel)

    if course.cancel:
        tell("cancelling", f"{was} cancels")
        await attempt(end)
        return told
    await cast.listen(destination)
    tell(f"migrating to {will}", f"The guest moves to {will}, and {was} tells c how to follow")
    with suppress(SimulationError):  # the client is not linked there as it should be; its rules say so
        source.hand_over_to(destination)
    moved()
    await attempt(end)
    return told
