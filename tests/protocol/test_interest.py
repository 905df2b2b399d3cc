"""What the proxy wants of which message: ids against the registry's names, and nothing it has no use for."""

import pytest

from dissectors.channels import ChannelType
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.protocol import interest
from spiceproxy.protocol.framer import Want
from spiceproxy.protocol.interest import wanted_messages

CONSTANTS = {name: value for name, value in vars(interest).items() if name.startswith(("MSG_", "MSGC_"))}


@pytest.mark.parametrize("name", CONSTANTS)
def test_each_id_is_the_one_the_registry_has_under_that_name(name: str) -> None:
    side = Side.CLIENT if name.startswith("MSGC_") else Side.SERVER
    assert message_name(ChannelType.MAIN, side, CONSTANTS[name]) == f"SPICE_{name}"


def test_the_three_messages_that_name_the_next_server_are_held_and_no_others() -> None:
    held = {
        (channel, side, id_)
        for channel in ChannelType
        for side in Side
        for id_, want in wanted_messages(channel, side).items()
        if want is Want.HOLD
    }
    assert held == {(ChannelType.MAIN, Side.SERVER, id_) for id_ in interest.DESTINATION_MESSAGES}
    names = {message_name(*key) for key in held}
    assert names == {
        "SPICE_MSG_MAIN_MIGRATE_BEGIN",
        "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
        "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
    }


@pytest.mark.parametrize("channel", [*ChannelType, 0, 200])
def test_the_steps_of_a_migration_are_seen_on_every_channel(channel: int) -> None:
    server, client = wanted_messages(channel, Side.SERVER), wanted_messages(channel, Side.CLIENT)
    assert server[interest.MSG_MIGRATE] is server[interest.MSG_MIGRATE_DATA] is Want.SEE
    assert client[interest.MSGC_MIGRATE_FLUSH_MARK] is client[interest.MSGC_MIGRATE_DATA] is Want.SEE
    if channel != ChannelType.MAIN:
        assert (len(server), len(client)) == (2, 2)


def test_every_main_message_about_a_migration_is_wanted() -> None:
    for side, prefix in ((Side.SERVER, "SPICE_MSG_"), (Side.CLIENT, "SPICE_MSGC_")):
        named = {id_: message_name(ChannelType.MAIN, side, id_) for id_ in range(1, 200)}
        about = {id_ for id_, name in named.items() if name.startswith(prefix) and "MIGRATE" in name}
        assert about <= set(wanted_messages(ChannelType.MAIN, side))
