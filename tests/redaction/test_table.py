"""The table of secrets against all messages there are."""

from pathlib import Path

from construct import Construct

from dissectors.fields import Record, Switch
from dissectors.fields.arrays import Count, ListOf
from spiceproxy.redaction.kinds import KEEPABLE, MEANINGS, Kind
from spiceproxy.redaction.table import KEPT, RULES
from tests.redaction.leaves import BYTES, leaves

KEPT_FIELDS = Path(__file__).parent / "kept_fields.txt"


def is_secret(record: Record, name: str) -> bool:
    return name in RULES.get(record, {})


def test_every_field_of_bytes_or_text_is_either_secret_or_known_to_be_none() -> None:
    undecided = {
        f"{leaf.message} {leaf.path}"
        for leaf in leaves()
        if isinstance(leaf.schema, BYTES)
        and not is_secret(leaf.record, leaf.name)
        and leaf.name not in KEPT.get(leaf.record, ())
    }
    assert undecided == set()


def test_no_field_is_both_secret_and_kept() -> None:
    assert not [record for record, names in KEPT.items() if names & set(RULES.get(record, ()))]


def test_every_row_of_the_table_names_a_field_that_some_message_has() -> None:
    known = {(id(leaf.record), leaf.name) for leaf in leaves()}
    unknown = [
        (record, name) for record, rules in RULES.items() for name in rules if (id(record), name) not in known
    ]
    assert unknown == []


def test_the_fields_that_stay_are_the_reviewed_ones() -> None:
    """Whoever adds a field to a message has to say in this file that it may be published, or add it to the table.

    The test writes what it found to kept_fields.txt.found.
    """
    secret_paths = {(leaf.message, leaf.path) for leaf in leaves() if is_secret(leaf.record, leaf.name)}

    def below_secret(message: str, path: str) -> bool:
        parts = path.replace("[]", "").split(".")
        return any((message, ".".join(parts[:size])) in secret_paths for size in range(1, len(parts) + 1))

    found, seen = [], set[tuple[int, str]]()
    for leaf in leaves():
        if (
            is_container(leaf.schema)
            or is_secret(leaf.record, leaf.name)
            or below_secret(leaf.message, leaf.path)
        ):
            continue
        if (id(leaf.record), leaf.name) not in seen:  # a record that several messages have is told once
            seen.add((id(leaf.record), leaf.name))
            found.append(f"{leaf.message} {leaf.path}")
    text = "\n".join(found) + "\n"
    reviewed = KEPT_FIELDS.read_text() if KEPT_FIELDS.exists() else ""
    if text != reviewed:
        KEPT_FIELDS.with_suffix(".txt.found").write_text(text)
    new = set(found) - set(reviewed.splitlines())
    gone = set(reviewed.splitlines()) - set(found)
    assert (new, gone) == (set(), set())


def is_container(schema: Construct) -> bool:
    return isinstance(schema, Record | Switch) or (
        isinstance(schema, ListOf) and isinstance(schema.subcon, Record)
    )


def test_counts_are_never_secret_since_sizes_stay() -> None:
    assert not [
        f"{leaf.message} {leaf.path}"
        for leaf in leaves()
        if isinstance(leaf.schema, Count) and is_secret(leaf.record, leaf.name)
    ]


def test_every_kind_has_a_meaning_and_only_three_cannot_be_kept() -> None:
    assert set(MEANINGS) == set(Kind)
    assert set(Kind) - set(KEEPABLE) == {Kind.CREDENTIALS, Kind.ADDRESSES, Kind.UNREAD}
