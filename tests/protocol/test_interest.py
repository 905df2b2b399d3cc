"""What the proxy wants of which message: the steps of a migration, and nothing it has no use for."""

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Msg, MsgC
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.protocol.framer import Want
from spiceproxy.protocol.interest import DESTINATION_MESSAGES, wanted_messages


def test_the_three_messages_that_name_the_next_server_are_held_and_no_others() -> None:
    held = {
        (channel, side, id_)
        for channel in ChannelType
        for side in Side
        for id_, want in wanted_messages(channel, side).items()
        if want is Want.HOLD
    }
    assert held == {(ChannelType.MAIN, Side.SERVER, id_) for id_ in DESTINATION_MESSAGES}
    names = {message_name(*key) for key in held}
    assert names == {
        "SPICE_MSG_MAIN_MIGRATE_BEGIN",
        "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
        "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
    }


@pytest.mark.parametrize("channel", [*ChannelType, 0, 200])
def test_the_steps_of_a_migration_are_seen_on_every_channel(channel: int) -> None:
    server, client = wanted_messages(channel, Side.SERVER), wanted_messages(channel, Side.CLIENT)
    assert server[Msg.MIGRATE] is server[Msg.MIGRATE_DATA] is Want.SEE
    assert client[MsgC.MIGRATE_FLUSH_MARK] is client[MsgC.MIGRATE_DATA] is Want.SEE
    if channel != ChannelType.MAIN:
        assert (len(server), len(client)) == (2, 2)


def test_every_main_message_about_a_migration_is_wanted() -> None:
    for side, prefix in ((Side.SERVER, "SPICE_MSG_"), (Side.CLIENT, "SPICE_MSGC_")):
        named = {id_: message_name(ChannelType.MAIN, side, id_) for id_ in range(1, 200)}
        about = {id_ for id_, name in named.items() if name.startswith(prefix) and "MIGRATE" in name}
        assert about <= set(wanted_messages(ChannelType.MAIN, side))
