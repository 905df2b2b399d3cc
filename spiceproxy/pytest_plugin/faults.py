"""Faults of a proxy in a test: there from the beginning, or added while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from spiceproxy.errors import UsageError
from spiceproxy.faults import convert
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.model import Fault
from spiceproxy.faults.rules import Rule, compile_fault
from spiceproxy.injection import Injector
from spiceproxy.injection.loading import load_faults
from spiceproxy.report.faults import InjectedFault

Ask = Callable[[Callable[[], Any]], Any]
"""Calls a function where the proxy runs."""


class ProxyFaults:
    """`spice_proxy.faults`: what the proxy breaks."""

    def __init__(self, injector: Injector, ask: Ask) -> None:
        self._injector, self._ask = injector, ask

    def add(self, fault: str | Mapping[str, Any]) -> tuple[str, ...]:
        """Break what passes from now on as this says, after the faults that are there.

        Args:
            fault: A fault in TOML, as `spiceproxy run --fault` takes it, or as a mapping:
                ``{"match": {"message": "PING"}, "do": "drop"}``.

        Returns:
            The names of the rules, for `remove`.

        Raises:
            UsageError: Something is wrong with it, in one line.
        """
        if isinstance(fault, str):
            found = load_faults([], [], [fault])
            return self._add(found.rules if found is not None else ())
        try:
            return self._add((compile_fault(convert.convert(dict(fault), Fault), name="fault"),))
        except RuleError as error:
            place = ".".join(map(str, error.path))
            raise UsageError(f"{place}: {error.reason}" if place else error.reason) from None

    def add_scenario(self, name: str) -> tuple[str, ...]:
        """The same with the faults of a scenario; what else it needs is not seen to, as the marker does.

        Raises:
            UsageError: There is none of this name.
        """
        found = load_faults([], [name], [])
        return self._add(found.rules if found is not None else ())

    def remove(self, name: str) -> None:
        """Break this no more.

        Raises:
            UsageError: There is no rule of this name.
        """

        def remove() -> None:
            self._injector.engine.remove(name)
            self._injector.renew()

        try:
            self._ask(remove)
        except RuleError as error:
            raise UsageError(error.reason) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The rules that are there."""
        return tuple(self._ask(lambda: [rule.name for rule in self._injector.engine.rules]))

    @property
    def fired(self) -> list[InjectedFault]:
        """What was done so far, in order."""
        found: list[InjectedFault] = self._ask(lambda: list(self._injector.fired_faults))
        return found

    @property
    def never_fired(self) -> list[str]:
        """The rules that have done nothing so far."""
        found: list[str] = self._ask(self._injector.never_fired)
        return found

    def _add(self, rules: tuple[Rule, ...]) -> tuple[str, ...]:
        def add() -> tuple[str, ...]:
            engine, names = self._injector.engine, []
            for rule in rules:
                name, number = rule.name, 1
                while name in {each.name for each in engine.rules}:
                    number += 1
                    name = f"{rule.name} ({number})"
                engine.add(replace(rule, name=name))
                names.append(name)
            self._injector.renew()
            return tuple(names)

        added: tuple[str, ...] = self._ask(add)
        return added
