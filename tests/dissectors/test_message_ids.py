"""Ids against the registry's names: the list of ids and the tables of messages cannot drift apart."""

from enum import IntEnum

import pytest

from dissectors import message_ids as ids
from dissectors.channels import ChannelType
from dissectors.registry import MODULES, lookup, message_name
from dissectors.side import Side

SERVER, CLIENT = Side.SERVER, Side.CLIENT
KINDS: list[tuple[ChannelType, Side, str, tuple[type[IntEnum], ...]]] = [
    (ChannelType.MAIN, SERVER, "SPICE_MSG_MAIN_", (ids.Main,)),
    (ChannelType.MAIN, CLIENT, "SPICE_MSGC_MAIN_", (ids.MainC,)),
    (ChannelType.DISPLAY, SERVER, "SPICE_MSG_DISPLAY_", (ids.Display,)),
    (ChannelType.DISPLAY, CLIENT, "SPICE_MSGC_DISPLAY_", (ids.DisplayC,)),
    (ChannelType.INPUTS, SERVER, "SPICE_MSG_INPUTS_", (ids.Inputs,)),
    (ChannelType.INPUTS, CLIENT, "SPICE_MSGC_INPUTS_", (ids.InputsC,)),
    (ChannelType.CURSOR, SERVER, "SPICE_MSG_CURSOR_", (ids.Cursor,)),
    (ChannelType.CURSOR, CLIENT, "", ()),
    (ChannelType.PLAYBACK, SERVER, "SPICE_MSG_PLAYBACK_", (ids.Playback,)),
    (ChannelType.PLAYBACK, CLIENT, "", ()),
    (ChannelType.RECORD, SERVER, "SPICE_MSG_RECORD_", (ids.Record,)),
    (ChannelType.RECORD, CLIENT, "SPICE_MSGC_RECORD_", (ids.RecordC,)),
    (ChannelType.TUNNEL, SERVER, "", ()),
    (ChannelType.TUNNEL, CLIENT, "", ()),
    (ChannelType.SMARTCARD, SERVER, "SPICE_MSG_SMARTCARD_", (ids.Smartcard,)),
    (ChannelType.SMARTCARD, CLIENT, "SPICE_MSGC_SMARTCARD_", (ids.SmartcardC,)),
    (ChannelType.USBREDIR, SERVER, "SPICE_MSG_SPICEVMC_", (ids.Spicevmc,)),
    (ChannelType.USBREDIR, CLIENT, "SPICE_MSGC_SPICEVMC_", (ids.SpicevmcC,)),
    *[
        row
        for channel in (ChannelType.PORT, ChannelType.WEBDAV)
        for row in (
            (channel, SERVER, "SPICE_MSG_", (ids.Spicevmc, ids.Port)),
            (channel, CLIENT, "SPICE_MSGC_", (ids.SpicevmcC, ids.PortC)),
        )
    ],
]
LAST_COMMON = 100


def full_name(prefix: str, kind: type[IntEnum], member: IntEnum) -> str:
    """Of a channel with two kinds of messages, those of the one have its name in theirs."""
    own = prefix if prefix.count("_") > 2 else f"{prefix}{kind.__name__.removesuffix('C').upper()}_"
    return own + member.name


@pytest.mark.parametrize(
    ("channel", "side", "prefix", "kinds"), KINDS, ids=[f"{row[0].name}-{row[1].value}" for row in KINDS]
)
def test_a_channel_has_these_ids_under_these_names_and_no_others(
    channel: ChannelType, side: Side, prefix: str, kinds: tuple[type[IntEnum], ...]
) -> None:
    listed = {int(member): full_name(prefix, kind, member) for kind in kinds for member in kind}
    module = MODULES[channel]
    table = module.SERVER_MESSAGES if side is SERVER else module.CLIENT_MESSAGES
    assert listed == {id_: spec.name for id_, spec in table.items() if id_ > LAST_COMMON}


def test_every_channel_is_held_both_ways() -> None:
    assert {row[:2] for row in KINDS} == {(channel, side) for channel in ChannelType for side in Side}


@pytest.mark.parametrize(
    ("kind", "side", "prefix"), [(ids.Msg, SERVER, "SPICE_MSG_"), (ids.MsgC, CLIENT, "SPICE_MSGC_")]
)
def test_each_common_id_is_the_one_that_every_channel_has_under_that_name(
    kind: type[IntEnum], side: Side, prefix: str
) -> None:
    for channel in ChannelType:
        assert [message_name(channel, side, member) for member in kind] == [
            prefix + member.name for member in kind
        ]
        assert lookup(channel, side, max(kind) + 1) is None
