"""docs/findings.md: what the matrix found in released software. Made of the measured column and of what somebody wrote.

Scenarios that end with the same words are one finding. Explanations are in findings.toml beside the document: each has
a pattern for the words, a title and a text; what has none is shown all the same.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from spiceproxy.faults.rules import parse_toml
from spiceproxy.faults.scenarios import Measured, Outcome, Scenario
from spiceproxy.faults.toml import toml_of

_SECTIONS: Final[dict[Outcome, tuple[str, str]]] = {
    "source-aborted": (
        "The source's QEMU aborts",
        "The guest is lost with it, unless it was moved before.",
    ),
    "destination-aborted": (
        "The destination's QEMU aborts",
        "The source has handed the guest over, so mostly the guest is lost as well.",
    ),
    "client-crashed": ("The client crashes", "A signal ends the client; the guest goes on."),
    "wedged": (
        "Somebody waits for ever",
        "The session neither goes on nor ends by itself. Who waits for whom is what the report says.",
    ),
    "session-lost": (
        "The session is lost",
        "The client has no connection left, or has ended; the guest goes on.",
    ),
}
_MAX_NAMES: Final = 12
# Numbers and channels make no other finding, and neither does how long something took.
_SAME: Final = (
    (
        re.compile(r"\b(main|display|inputs|cursor|playback|record|usbredir|smartcard|port|webdav):\d+"),
        "CHANNEL",
    ),
    (re.compile(r"\bCHANNEL(?:, CHANNEL)+"), "CHANNEL"),
    (re.compile(r"\d+(\.\d+)?"), "N"),
)


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody wrote on a finding.

    Attributes:
        title: In a few words.
        pattern: A regular expression that is found in the words of its measurements.
        text: What is behind it: cause, code, what to do.
        outcome: Only of this outcome; None: of any.
        scenarios: Only of these; none: of any.
        due: It is what has to come of it, as where a fault stands for a peer that died: no defect of a program.
    """

    title: str
    pattern: str
    text: str
    outcome: Outcome | None = None
    scenarios: list[str] = []
    due: bool = False


class Remark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A defect that was met without a fault.

    Attributes:
        title: In a few words.
        seen: In what versions, how often, and when.
        text: What happens, and why.
    """

    title: str
    seen: str
    text: str


class Explanations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What findings.toml says."""

    finding: list[Explanation] = []
    remark: list[Remark] = []


@dataclass(frozen=True, slots=True)
class Finding:
    """What several scenarios have in common."""

    outcome: Outcome
    title: str
    text: str
    names: Sequence[str]  # the one with the shortest TOML first
    due: bool = False


def read_explanations(text: str, *, file: str) -> Explanations:
    """Read findings.toml.

    Raises:
        FaultFileError: It is no TOML.
        msgspec.ValidationError: A key is missing or unknown.
    """
    return msgspec.convert(parse_toml(text, file=file), Explanations)


def findings_of(
    measured: Mapping[str, Measured], catalog: Mapping[str, Scenario], explanations: Sequence[Explanation]
) -> list[Finding]:
    """Group measurements to findings, in the order of the document."""
    groups: dict[tuple[Outcome, str], list[str]] = {}
    written: dict[tuple[Outcome, str], Explanation] = {}
    for name, each in measured.items():
        if each.outcome not in _SECTIONS or name not in catalog:
            continue
        explanation = next((one for one in explanations if _fits(one, name, each)), None)
        key = (each.outcome, explanation.title if explanation is not None else words_of(each.detail))
        groups.setdefault(key, []).append(name)
        if explanation is not None:
            written[key] = explanation
    found = [
        Finding(
            outcome,
            title,
            written[outcome, title].text.strip() if (outcome, title) in written else "",
            sorted(names, key=lambda name: (len(toml_of(catalog[name])), name)),
            due=(outcome, title) in written and written[outcome, title].due,
        )
        for (outcome, title), names in groups.items()
    ]
    order = list(_SECTIONS)
    return sorted(
        found, key=lambda each: (order.index(each.outcome), not each.text, -len(each.names), each.title)
    )


def words_of(detail: str) -> str:
    """The words by which two measurements are of the same thing."""
    for pattern, instead in _SAME:
        detail = pattern.sub(instead, detail)
    return detail


def _fits(explanation: Explanation, name: str, each: Measured) -> bool:
    if explanation.outcome not in {None, each.outcome}:
        return False
    if explanation.scenarios and name not in explanation.scenarios:
        return False
    return re.search(explanation.pattern, each.detail) is not None


def render(
    measured: Mapping[str, Measured], catalog: Mapping[str, Scenario], explanations: Explanations
) -> str:
    """The document."""
    found = findings_of(measured, catalog, explanations.finding)
    return "\n".join(_document(measured, catalog, found, explanations.remark)) + "\n"


def _document(
    measured: Mapping[str, Measured],
    catalog: Mapping[str, Scenario],
    found: Sequence[Finding],
    remarks: Sequence[Remark],
) -> Iterator[str]:
    due, found = [each for each in found if each.due], [each for each in found if not each.due]
    with_whom = sorted({f"{each.server} with {each.client}" for each in measured.values()})
    dates = sorted({each.date for each in measured.values()})
    yield "# Findings"
    yield ""
    yield "What `spiceproxy lab --scenario all` found in released software: servers that abort, clients that crash, sessions"
    yield "that are lost or wait for ever, when a peer, or what is between them, does not do what the protocol says. Made by"
    yield "`python -m tests.matrix.publish`; explanations are in findings.toml."
    yield ""
    yield f"Measured: {'; '.join(with_whom) or 'nothing yet'}; {' to '.join(dict.fromkeys((dates[0], dates[-1]))) if dates else ''}."
    yield f"{len(measured)} of {len(catalog)} scenarios have a measurement."
    yield ""
    yield "| what | scenarios | findings |"
    yield "|---|---|---|"
    for outcome, (title, _) in _SECTIONS.items():
        of = [each for each in found if each.outcome == outcome]
        yield f"| [{title}](#{_anchor(title)}) | {sum(len(each.names) for each in of)} | {len(of)} |"
    number = 0
    for outcome, (title, about) in _SECTIONS.items():
        of = [each for each in found if each.outcome == outcome]
        if not of:
            continue
        yield from ("", f"## {title}", "", about)
        for each in of:
            number += 1
            yield from _finding(number, each, measured, catalog)
    if due:
        yield from (
            "",
            "## As it has to be",
            "",
            "No defect of a program: what was broken leaves nothing else.",
            "",
        )
        yield from ("| what | why | ends as | scenarios |", "|---|---|---|---|")
        for each in due:
            names = ", ".join(f"`{name}`" for name in each.names)
            yield f"| {each.title} | {' '.join(each.text.split())} | {each.outcome} | {names} |"
    if remarks:
        yield from ("", "## Met without a fault", "", "By tests that let real programs be as they are.")
    for remark in remarks:
        yield from ("", f"### {remark.title}", "", remark.text.strip(), "", remark.seen)


def _finding(
    number: int, finding: Finding, measured: Mapping[str, Measured], catalog: Mapping[str, Scenario]
) -> Iterator[str]:
    first = finding.names[0]
    seen = measured[first]
    title = finding.title if finding.text else first
    yield from ("", f"### {number}. {title}", "")
    if finding.text:
        yield from (finding.text, "")
    yield f"Seen as: `{_code(seen.detail)}`" if seen.detail else "Nothing was printed."
    yield ""
    lost = "; the guest is lost" if seen.guest_lost else ""
    yield f"`{first}`, {seen.runs} of {seen.of} runs, {seen.server} with {seen.client}, {seen.date}{lost}."
    yield f"To reproduce: `spiceproxy lab --scenario {first}`, or {_how(catalog[first])} through a proxy with these faults:"
    yield from ("", "```toml", toml_of(catalog[first]).strip(), "```")
    if len(finding.names) > 1:
        rest = finding.names[1:]
        more = f" and {len(rest) - _MAX_NAMES} more" if len(rest) > _MAX_NAMES else ""
        yield from ("", f"The same: {', '.join(f'`{name}`' for name in rest[:_MAX_NAMES])}{more}.")


def _how(scenario: Scenario) -> str:
    """What is to be done in a session through the proxy."""
    needs, lab = scenario.needs, scenario.lab
    if needs.migration == "none":
        return "a session"
    words = f"a {needs.migration} migration"
    if lab.cancel:
        words += " that is cancelled"
    if lab.traffic is not None:
        words += f" of a guest with {lab.traffic} traffic"
    channels = [
        each for each in needs.channels if each in {"smartcard", "agent", "port", "webdav", "usbredir"}
    ]
    return f"{words} with {' and '.join(channels)}" if channels else words


def _code(text: str) -> str:
    return text.replace("`", "'")


def _anchor(title: str) -> str:
    """As web sites make it of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
