"""The rules of a migration, as data: who is bound, how bad a breach is, and where the rule comes from.

Numbers are those of the conformance list that the project began with (R1 to R47); higher ones are ours. "seed" is the text in
which seamless migration was proposed (spice-devel, August 2012). Functions are those of spice-server 0.15.1 and spice-gtk 0.42.
docs/rules.md is made from this table.
"""

from typing import Final, NamedTuple

from spiceproxy.protocol.migration.model import Party, Severity

FIRST_OF_OURS: Final = 48

_C, _S1, _S2 = Party.CLIENT, Party.SOURCE, Party.DESTINATION
_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


class Rule(NamedTuple):
    """One rule."""

    id: str  # "R28"
    bound: tuple[Party, ...]  # who can break it
    severity: Severity
    text: str  # what holds, in a sentence
    source: str  # where that is written, or which function does it
    exceptions: str = ""  # what looks like a breach and is none


_ROWS: Final[tuple[Rule, ...]] = (
    Rule(
        "R1", (_S1, _S2), _ERROR,
        "MIGRATE_BEGIN, BEGIN_SEAMLESS, CANCEL, END and SWITCH_HOST are said on main only, after MAIN_INIT or a completed arrival",
        "seed; spice-server main-channel-client.cpp",
        "on a channel of another type these numbers mean something else, and are not judged",
    ),
    Rule(
        "R2", (_S1,), _ERROR,
        "MIGRATE_BEGIN and BEGIN_SEAMLESS go only to a client with SEMI_SEAMLESS_MIGRATE",
        "spice-server main-channel-client.cpp, connect_semi_seamless(), migrate_connect()",
    ),
    Rule(
        "R3", (_S1,), _ERROR,
        "BEGIN_SEAMLESS goes only to a client with AGENT_CONNECTED_TOKENS and SEAMLESS_MIGRATE",
        "spice-server reds.cpp, spice_server_migrate_connect(); main-channel.cpp, migrate_connect()",
    ),
    Rule(
        "R4", (_S1,), _WARNING,
        "the destination is laid out as the marshaller does: host with its NUL right behind the fixed part, subject behind it, no gaps",
        "spice.proto, DstInfo; spice-server main-channel-client.cpp, main_channel_marshall_migrate_dst_info()",
        "any offset inside the body can be read; host_data 0 in SWITCH_HOST makes spice-gtk crash, and is an error",
    ),
    Rule(
        "R5", (_S1,), _ERROR,
        "the destination has a port that can be dialled: plain or TLS, not 0 and not 0xFFFF",
        "spice-server reds.cpp, reds_set_migration_dest_info(); spice-gtk channel-main.c, migrate_channel_connect()",
        "port 0xFFFF beside a TLS port is a warning: spice-gtk dials 65535 in clear first",
    ),
    Rule(
        "R6", (_S1,), _WARNING, "src_mig_version is 1", "spice-server migration-protocol.h, SPICE_MIGRATION_PROTOCOL_VERSION",
        "later servers may raise it",
    ),
    Rule(
        "R7", (_C,), _ERROR,
        "a BEGIN is answered once: CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR; and none of them comes without a BEGIN",
        "seed; spice-server main-channel-client.cpp, handle_migrate_connected()",
    ),
    Rule(
        "R8", (_C,), _NOTE,
        "between BEGIN and its reply the client says nothing else on the source's main",
        "spice-gtk channel-main.c, main_handle_migrate_begin(): the coroutine of main waits there",
        "another client may do otherwise",
    ),
    Rule(
        "R9", (_C,), _ERROR,
        "CONNECTED_SEAMLESS comes only after BEGIN_SEAMLESS and the destination's ACK",
        "seed; spice-gtk channel-main.c, main_migrate_handshake_done()",
    ),
    Rule(
        "R10", (_C,), _ERROR,
        "after a NACK, or if the destination lacks SEAMLESS_MIGRATE, a client that is connected says CONNECTED",
        "seed; spice-gtk channel-main.c, spice_main_channel_send_migration_handshake()",
    ),
    Rule(
        "R11", (_C,), _ERROR,
        "links to the destination carry the session id of the source's MAIN_INIT, main first and the others after its result",
        "spice-gtk spice-session.c, spice_session_new_from_session(); channel-main.c, migrate_channel_new_cb()",
        "after SWITCH_HOST the client begins with 0",
    ),
    Rule(
        "R12", (_C,), _WARNING,
        "the channels linked at the destination are those that are open at the source",
        "spice-gtk channel-main.c, main_migrate_connect(): every channel in the session's list",
        "channels that appear or vanish meanwhile; links that failed; a migration that was ended before all were up",
    ),
    Rule(
        "R13", (_C,), _ERROR,
        "DO_SEAMLESS is said once, on the destination's main, as first message, only after BEGIN_SEAMLESS and to a destination "
        "with SEAMLESS_MIGRATE, with the version of BEGIN_SEAMLESS",
        "seed; spice-gtk channel-main.c, spice_main_channel_send_migration_handshake(); spice-server "
        "main-channel-client.cpp, MainChannelClient::handle_migrate_dst_do_seamless() aborts without an arrival",
    ),
    Rule(
        "R14", (_S2, _S1), _ERROR,
        "DO_SEAMLESS is answered by one ACK or NACK, and neither comes unasked",
        "seed; spice-server reds.cpp, reds_on_migrate_dst_set_seamless()",
        "the connection is lost, or the migration ends, before it could be",
    ),
    Rule(
        "R15", (_S2,), _WARNING,
        "ACK is said only to a version that the destination knows (1)",
        "seed; spice-server reds.cpp, reds_on_migrate_dst_set_seamless()",
        "later servers may know more",
    ),
    Rule(
        "R16", (_C,), _ERROR,
        "before the switch the client says nothing to the destination but DO_SEAMLESS",
        "seed; spice-gtk channel-main.c: target channels are not read or written before the switch",
    ),
    Rule(
        "R17", (_S2,), _ERROR,
        "before the switch the destination sends no MAIN_INIT, no CHANNELS_LIST, and nothing on display",
        "spice-server main-channel.cpp, main_channel_link(); dcc.cpp, dcc_start()",
        "SET_ACK (cursor), INPUTS_INIT, PORT_INIT and PING come early in a seamless migration",
    ),
    Rule(
        "R18", (_S2,), _ERROR,
        "a destination that was not asked for seamless, or said NACK, is silent until the client's MIGRATE_END",
        "spice-server reds.cpp, reds_mig_target_client_add_pending_link(): such links are parked",
        "NACK itself, and the pair of PINGs that can follow it on main",
    ),
    Rule(
        "R19", (_S1,), _ERROR,
        "an attempt ends in one way: MIGRATE on every channel, or END, or CANCEL, or SWITCH_HOST",
        "spice-server main-channel-client.cpp, migrate_src_complete()",
        "a reply that comes late, or crosses the last word, draws a CANCEL; SWITCH_HOST may follow it",
    ),
    Rule(
        "R20", (_S1, _S2), _ERROR,
        "MIGRATE is sent only if the client's last reply was CONNECTED_SEAMLESS",
        "seed; spice-server main-channel-client.cpp, MainChannelClient::migrate() after src_do_seamless_migrate",
        "spice-server keeps a stale answer over a timeout; that is a breach, and is reported",
    ),
    Rule(
        "R21", (_S1, _S2), _ERROR,
        "MIGRATE_END is sent only if the client's last reply was CONNECTED",
        "spice-server main-channel-client.cpp, migrate_src_complete()",
    ),
    Rule(
        "R22", (_S1,), _ERROR,
        "SWITCH_HOST is sent only if there is no timely reply of success",
        "spice-server main-channel-client.cpp, migrate_src_complete()",
        "a reply that crosses it; spice_server_migrate_switch(), which is deprecated",
    ),
    Rule(
        "R23", (_S1,), _ERROR,
        "MIGRATE is sent once on a connection; in a seamless migration on every channel that is open",
        "seed; spice-server red-client.cpp, RedClient::migrate()",
        "a channel that was closed before",
    ),
    Rule(
        "R24", (_S1,), _WARNING,
        "flags of MIGRATE fit the channel: 0 on cursor, playback and record; NEED_FLUSH and NEED_DATA_TRANSFER on the others",
        "spice-server red-channel.cpp and the channels' constructors (SPICE_MIGRATE_NEED_FLUSH, _DATA_TRANSFER)",
        "the seed lets each flag be chosen; a display of a streaming device has 0",
    ),
    Rule(
        "R25", (_S1,), _ERROR,
        "after MIGRATE the source sends nothing on that channel but MIGRATE_DATA",
        "seed; spice-gtk spice-channel.c, spice_channel_handle_migrate() takes the next message for it",
        "on playback and record VOLUME, MUTE or LATENCY that were waiting; behind MIGRATE_DATA it is a warning, since the client "
        "does not read it",
    ),
    Rule(
        "R26", (_S1, _S2), _ERROR,
        "MIGRATE_DATA is sent once if MIGRATE had NEED_DATA_TRANSFER, and else not at all",
        "seed; spice-server red-channel-client.cpp, handle_migrate_flush_mark()",
        "the channel ends before; no FLUSH_MARK came",
    ),
    Rule(
        "R27", (_S1,), _ERROR,
        "MIGRATE_DATA is sent only after the client's FLUSH_MARK",
        "spice-server red-channel-client.cpp, RedChannelClient::handle_migrate_flush_mark()",
        "a channel without NEED_FLUSH",
    ),
    Rule(
        "R28", (_C,), _ERROR,
        "FLUSH_MARK is sent once if MIGRATE had NEED_FLUSH, and else not at all",
        "seed; spice-gtk spice-channel.c, spice_channel_handle_migrate(); an unasked one makes spice-server abort",
        "the channel ends before",
    ),
    Rule(
        "R29", (_C,), _ERROR,
        "after FLUSH_MARK the client says nothing more to the source on that channel",
        "seed; spice-gtk spice-channel.c, spice_channel_handle_migrate(): queued messages wait for the destination",
        "what was written before MIGRATE arrived comes before the mark; an ACK that is due with MIGRATE or MIGRATE_DATA",
    ),
    Rule(
        "R30", (_C,), _ERROR,
        "on a channel whose MIGRATE had no flags the client sends neither FLUSH_MARK nor MIGRATE_DATA",
        "spice-gtk spice-channel.c, spice_channel_handle_migrate()",
    ),
    Rule(
        "R31", (_C,), _ERROR,
        "the client carries MIGRATE_DATA unchanged",
        "spice-gtk spice-channel.c, spice_channel_handle_migrate()",
        "somebody in between changes it",
    ),
    Rule(
        "R32", (_C,), _ERROR,
        "MIGRATE_DATA is the client's first message on the destination after the switch",
        "seed, \"before all pending\"; spice-gtk spice-channel.c",
        "main had DO_SEAMLESS earlier; channels without NEED_DATA_TRANSFER have none",
    ),
    Rule(
        "R33", (_S1,), _ERROR,
        "MIGRATE_DATA begins with its channel's magic and version 1; a char device's part has version 1 as well",
        "spice-server migration-protocol.h",
        "later servers may raise versions",
    ),
    Rule(
        "R34", (_S1,), _ERROR,
        "MIGRATE_DATA is as long as its channel's struct, and its pointers lie inside",
        "spice-server migration-protocol.h; readers do not check",
    ),
    Rule(
        "R35", (_S1,), _ERROR,
        "message_serial in the display's MIGRATE_DATA is the serial of that message",
        "spice-server dcc-send.cpp, display_channel_marshall_migrate_data()",
    ),
    Rule(
        "R36", (_S2,), _WARNING,
        "the destination's first display message has that serial (full header) and is SET_ACK; INVAL_ALL_PIXMAPS follows if the "
        "channel froze the cache, and INVAL_ALL_PALETTES",
        "spice-server dcc.cpp, DisplayChannelClient::handle_migrate_data()",
        "QEMU sends INVAL_ALL_PALETTES and STREAM_DESTROY_ALL between SET_ACK and INVAL_ALL_PIXMAPS, and what a guest that runs on "
        "has drawn",
    ),
    Rule(
        "R37", (_S1,), _WARNING,
        "of the displays that share a pixmap cache one has pixmap_cache_freezer set",
        "spice-server dcc-send.cpp, pixmap_cache_freeze()",
    ),
    Rule(
        "R38", (_S1,), _WARNING,
        "on cursor INVAL_ALL comes right before MIGRATE",
        "spice-server cursor-channel.cpp, cursor_channel_client_migrate()",
    ),
    Rule(
        "R39", (_S2, _C), _ERROR,
        "in a seamless migration the destination sends no MAIN_INIT, and the client no ATTACH_CHANNELS",
        "spice-server main-channel-client.cpp, MainChannelClient::migrate_dst_complete(); spice-gtk channel-main.c",
    ),
    Rule(
        "R40", (_C, _S2), _ERROR,
        "semi-seamless: the client's first message on the destination's main is MIGRATE_END, the destination's first is MAIN_INIT "
        "with the session id that the client has",
        "seed; spice-gtk channel-main.c, main_handle_migrate_end(); spice-server red-client.cpp, semi_seamless_migrate_complete()",
        "where DO_SEAMLESS was tried, it and NACK or PING come earlier",
    ),
    Rule(
        "R41", (_C,), _ERROR,
        "semi-seamless: the client says nothing on the destination's other channels before that MAIN_INIT",
        "spice-gtk channel-main.c, main_handle_init(), then spice_session_switching_disconnect() and the channels' start",
    ),
    Rule(
        "R42", (_C,), _WARNING,
        "the client leaves the source only when all channels have switched (seamless), or after MIGRATE_END",
        "spice-gtk spice-session.c, spice_session_channel_migrate()",
        "links that failed; a client that is thrown out; a session that the user ends",
    ),
    Rule(
        "R43", (_C, _S1), _WARNING,
        "the reply comes within 10 s of BEGIN; a success that is later draws CANCEL",
        "spice-server reds.cpp, MIGRATE_TIMEOUT; main-channel-client.cpp, handle_migrate_connected()",
    ),
    Rule(
        "R44", (_C, _S1), _WARNING,
        "the client has left the source within 10 s of MIGRATE or MIGRATE_END, or the source closes everything",
        "spice-server reds.cpp, migrate_timeout(), reds_mig_finished()",
    ),
    Rule(
        "R45", (_C,), _ERROR,
        "the display's MIGRATE_DATA reaches the destination within 10 s of the switch",
        "spice-server display-channel.cpp, display_channel_wait_for_migrate_data()",
    ),
    Rule(
        "R46", (_S1, _S2), _ERROR,
        "the session goes on: surfaces named in the display's MIGRATE_DATA, and drawn on by the destination, are known to the client",
        "spice-server dcc.cpp, dcc_handle_migrate_data(); spice-gtk channel-display.c, find_surface()",
        "surfaces from before the capture began; one that the client has and that is not named is a warning",
    ),
    Rule(
        "R47", (_S1,), _ERROR,
        "agent tokens of main's MIGRATE_DATA, num_client_tokens and write_num_client_tokens, are 10 at most together",
        "spice-server char-device.cpp, RedCharDevice::restore(); the client starts with 10",
        "tokens that have not come back yet make it less",
    ),
    Rule(
        "R48", (_S1, _S2), _WARNING,
        "MIGRATE_CANCEL comes only while a migration goes on",
        "spice-server main-channel-client.cpp, MainChannelClient::migrate_cancel_wait(), handle_migrate_connected()",
        "clients take no notice of another one",
    ),
    Rule(
        "R49", (_C,), _WARNING,
        "the client says MIGRATE_DATA only to the destination of a seamless migration",
        "spice-gtk spice-channel.c, spice_channel_handle_migrate(); spice-server red-channel-client.cpp, "
        "handle_migrate_data() shuts the channel",
    ),
    Rule(
        "R50", (_C,), _WARNING,
        "after an ACK a client that is connected says CONNECTED_SEAMLESS",
        "spice-gtk channel-main.c, main_migrate_connect(); spice-server red-client.cpp, "
        "RedClient::semi_seamless_migrate_complete() aborts a destination that had said ACK",
    ),
    Rule(
        "R51", (_S1,), _WARNING,
        "motion_count in MIGRATE_DATA of inputs is the number of mouse messages that were not acknowledged",
        "spice-server inputs-channel-client.cpp, on_mouse_motion(), send_migrate_data()",
        "fewer by fours after a migration from there that came to nothing",
    ),
    Rule(
        "R52", (_S1, _S2), _ERROR,
        "last_image_id in the display's MIGRATE_DATA is above the number of every GLZ image sent, and the destination goes on from it",
        "spice-server glz-encoder-dictionary.c, glz_dictionary_pre_encode(), glz_enc_dictionary_get_restore_data()",
        "a destination that does not is a warning; looked at in captures only, where bodies of images are at hand",
    ),
    Rule(
        "R53", (_S1,), _WARNING,
        "num_client_tokens in MIGRATE_DATA of main is the number of agent tokens that the client holds",
        "spice-server char-device.cpp, RedCharDevice::migrate_data_marshall()",
        "an agent that came or went while messages were on their way to it",
    ),
    Rule(
        "R54", (_C,), _ERROR,
        "the client sends no more agent messages than it has tokens, over the switch as well",
        "spice-gtk channel-main.c, agent_send_msg_queue(); spice-server reds.cpp, reds_on_main_agent_data()",
        "an agent that came or went while messages were on their way to it",
    ),
    Rule(
        "R55", (_C,), _ERROR,
        "ACK_SYNC to the destination has the generation of a SET_ACK on that connection",
        "spice-gtk spice-channel.c, spice_channel_handle_set_ack(); spice-server red-channel-client.cpp, handle_message()",
    ),
    Rule(
        "R56", (_C,), _WARNING,
        "PONG to the destination answers a PING on that connection",
        "spice-gtk spice-channel.c, spice_channel_handle_ping(); spice-server red-channel-client.cpp, handle_pong()",
    ),
    Rule(
        "R57", (_S1, _S2), _WARNING,
        "under full headers a server's serials rise by one",
        "spice-server red-channel-client.cpp, begin_send_message()",
        "the first serial of a connection may be any: a display goes on where the source stopped (R36)",
    ),
)  # fmt: skip

RULES: Final[dict[str, Rule]] = {rule.id: rule for rule in _ROWS}
"""All rules by id, in order."""
