"""Read limits and faults again while the proxy runs."""

from collections.abc import Callable

from spiceproxy.errors import UsageError
from spiceproxy.injection import Faults
from spiceproxy.limits import Limits
from spiceproxy.proxy import Proxy


def reload(
    proxy: Proxy, read_limits: Callable[[], Limits], read_faults: Callable[[], Faults | None] | None
) -> None:
    """Put what files say now in the place of what they said before; connections that are open stay.

    A file that cannot be read changes nothing, and an event says so. Faults that have not changed go on counting.
    """
    log = proxy.config.events
    try:
        limits = read_limits()
        faults = read_faults() if read_faults is not None else None
    except UsageError as error:
        log.error("reload_failed", reason=str(error))
        return
    proxy.gate.limits = limits
    names: list[str] = []
    if (injector := proxy.injector) is not None and read_faults is not None:
        engine, wanted = injector.engine, faults.rules if faults is not None else ()
        for rule in [each for each in engine.rules if each not in wanted]:
            engine.remove(rule.name)
        for rule in [each for each in wanted if each not in engine.rules]:
            engine.add(rule)
        injector.renew()
        names = [rule.name for rule in engine.rules]
    log.info("reloaded", faults=names)
