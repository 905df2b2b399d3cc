"""Comments: what faults did stays, what peers sent does not, and nothing that somebody else wrote."""

import pytest

from spiceproxy.capture.pcapng import ORIGINAL_DAMAGED
from spiceproxy.faults.comments import LEDGER, PUT_IN, Place, before, fired, firings
from spiceproxy.redaction.comments import QUOTED, public_comment, public_problem

FIRED = fired("nack-rewrite", 3, "replace MIGRATE_DST_SEAMLESS_NACK")
SENT = "; the client sent SPICE_MSGC_INPUTS_KEY_DOWN, 4 bytes: "
REWRITTEN = (
    "SPICE_MSG_MAIN_MIGRATE_BEGIN rewritten by spiceproxy; the server sent host kvm2 port 5900 sport 65535"
)


@pytest.mark.parametrize(
    "line",
    [
        "inputs:0 hop 2",
        LEDGER,
        FIRED,
        f"{FIRED}; {fired('other', 1, 'drop')}",
        FIRED + PUT_IN,
        before(FIRED),
        before(FIRED, Place("c5", "display:0", 1)),
        fired("slow", 1, "delay 0.5 s, set fields.flags"),
    ],
)
def test_what_this_program_wrote_stays_and_says_the_same(line: str) -> None:
    assert public_comment(line, addresses=False) == (line, 0)


@pytest.mark.parametrize("made", ["", PUT_IN])
def test_what_a_peer_sent_is_not_quoted_any_more_and_the_firing_is_read_as_before(made: str) -> None:
    line = f"{FIRED}{SENT}1e000000{made}"
    kept, changed = public_comment(line, addresses=True)
    assert kept == f"{FIRED}{SENT}{QUOTED}{made}"
    assert changed == 1
    assert list(firings(kept)) == list(firings(line))


@pytest.mark.parametrize(
    "line",
    [
        "hunter2",
        f"{FIRED} hunter2",
        f"{FIRED}; hunter2",
        f"{FIRED}{SENT}hunter2",
        f"{FIRED}; the client sent HUNTER2, 4 bytes: 00",
        f"inputs:0 hop 2 {LEDGER}",
        "hunter2:0 hop 1",
        f"{REWRITTEN} hunter2",
        fired("slow", 1, "hunter2 away"),
    ],
)
def test_whatever_else_a_line_says_it_goes(line: str) -> None:
    assert public_comment(line, addresses=True) == (None, 1)
    assert public_comment(f"main:0 hop 0\n{line}", addresses=True) == ("main:0 hop 0", 1)


def test_a_line_with_a_host_stays_as_long_as_addresses_do() -> None:
    assert public_comment(REWRITTEN, addresses=True) == (REWRITTEN, 0)
    assert public_comment(REWRITTEN, addresses=False) == (None, 1)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("packet 7: the file ends within it", "packet 7: the file ends within it"),
        ("recording ended: No space left on device", "recording ended: No space left on device"),
        ("recording ended: hunter2", "it could not be read as a whole"),
        ("hunter2", "it could not be read as a whole"),
    ],
)
def test_what_was_wrong_with_the_original_is_told_in_known_words(problem: str, told: str) -> None:
    assert public_problem(problem) == ORIGINAL_DAMAGED + told
    assert public_problem(ORIGINAL_DAMAGED + problem) == ORIGINAL_DAMAGED + told  # a copy of a copy
