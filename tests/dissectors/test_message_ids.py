"""Ids against the registry's names: the list of ids and the tables of messages cannot drift apart."""

from enum import IntEnum

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.registry import message_name
from dissectors.side import Side

KINDS: list[tuple[type[IntEnum], Side, str]] = [
    (Msg, Side.SERVER, "SPICE_MSG_"),
    (MsgC, Side.CLIENT, "SPICE_MSGC_"),
    (Main, Side.SERVER, "SPICE_MSG_MAIN_"),
    (MainC, Side.CLIENT, "SPICE_MSGC_MAIN_"),
]
IDS = [(member, side, prefix + member.name) for kind, side, prefix in KINDS for member in kind]


@pytest.mark.parametrize(("member", "side", "name"), IDS, ids=[name for _, _, name in IDS])
def test_each_id_is_the_one_the_registry_has_under_that_name(member: IntEnum, side: Side, name: str) -> None:
    assert message_name(ChannelType.MAIN, side, member) == name
