"""All diagnoses, causes before what follows from them."""

from typing import Final

from spiceproxy.protocol.migration.diagnoses import (
    blocked,
    connecting,
    ends,
    handshake,
    offer,
    refusals,
    settling,
    state,
)
from spiceproxy.protocol.migration.diagnoses.case import Code

_WAITS: Final = tuple(blocked.STOPS)
_AFTER_DEATH: Final = (
    *_WAITS, "destination-died", "channel-closed-at-destination", "silent-after-switch", "client-left",
)  # fmt: skip

CODES: Final[tuple[Code, ...]] = (
    # The offer
    Code("source-lacks-capability", "the client ignores MIGRATE_END of a source that did not announce SEMI_SEAMLESS_MIGRATE",
         offer.source_lacks_capability, ("client-ignored-end",)),
    Code("begin-postponed", "no BEGIN: the source still waits for state from an earlier migration", offer.begin_postponed),
    Code("switch-host-without-begin", "SWITCH_HOST without BEGIN, and nothing says why", offer.switch_host_without_begin),
    Code("no-usable-port", "the offer has no port that could be dialled", offer.no_usable_port,
         ("destination-unreachable", "client-never-connected")),
    Code("tls-only-sentinel", "plain port 65535 beside a TLS port: the client dials 65535", offer.tls_only_sentinel,
         ("destination-unreachable", "link-broken", "client-never-connected")),
    Code("switch-host-without-host", "SWITCH_HOST names no host; spice-gtk crashes", offer.switch_host_without_host,
         ("destination-unreachable",)),
    # Connecting
    Code("too-early-migrate", "the source's last word came before the client could have replied", connecting.too_early_migrate,
         ("reply-missing", "verdict-missing", "destination-silent", "channel-not-linked", "late-reply", "second-reply")),
    Code("zero-connection-id", "the client linked main at the destination as for a new session", connecting.zero_connection_id),
    *(
        Code(name, f"a link was refused: {row.meaning}", refusals.refusal(name), ("channel-not-linked", "link-broken"))
        for name, row in refusals.REFUSALS.items()
        if name != "link-refused"
    ),
    Code("sasl-refused", "authentication by SASL failed at the destination", refusals.sasl_refused,
         ("link-refused", "link-broken", "channel-not-linked")),
    Code("link-refused", "a link was refused with a code that says no more", refusals.refusal("link-refused"),
         ("link-broken", "channel-not-linked")),
    Code("link-broken", "a link broke off without a code", refusals.link_broken, ("channel-not-linked",)),
    Code("earlier-unfinished", "CONNECT_ERROR of a client that is not through with the migration before", connecting.earlier_unfinished,
         ("destination-unreachable",)),
    Code("destination-unreachable", "no connection of the client to the destination is there", connecting.destination_unreachable,
         ("client-left",)),
    Code("destination-silent", "the destination accepted a connection and does not finish the link", connecting.destination_silent,
         ("channel-not-linked", "reply-missing", "client-ignored-switch-host")),
    Code("client-never-connected", "the client neither connects nor says that it cannot", connecting.client_never_connected,
         ("client-ignored-switch-host",)),
    Code("verdict-missing", "neither ACK nor NACK answers DO_SEAMLESS", handshake.verdict_missing,
         ("reply-missing", "client-ignored-switch-host")),
    Code("channel-not-linked", "main was linked at the destination, another channel never", connecting.channel_not_linked),
    Code("connect-error-unfounded", "CONNECT_ERROR, though every channel was linked", connecting.connect_error_unfounded),
    Code("reply-missing", "every channel was linked, and no reply reached the source", connecting.reply_missing),
    Code("late-reply", "the reply came more than 10 s after BEGIN and drew CANCEL", connecting.late_reply,
         ("source-stopped-waiting", "cancelled", "slow-handshake")),
    Code("source-stopped-waiting", "no reply within 10 s: the source stopped waiting", connecting.source_stopped_waiting),
    # Answers that do not fit together
    Code("second-reply", "more than one reply to a BEGIN", handshake.second_reply, ("cancelled",)),
    Code("destination-already-seamless", "CONNECTED, though the destination had agreed to seamless; it aborts at MIGRATE_END",
         handshake.destination_already_seamless, (*_AFTER_DEATH, "nack", "init-missing", "client-did-not-ask", "client-ignored-end")),
    Code("connected-without-ack", "CONNECTED_SEAMLESS, though the destination had not agreed", handshake.connected_without_ack),
    # The switch
    Code("data-returned-to-source", "the client gave MIGRATE_DATA back to the source", blocked.data_returned_to_source,
         ("source-died", "client-left")),
    Code("unusual-flags", "MIGRATE with flags that spice-server does not use", blocked.unusual_flags,
         ("unasked-flush-mark", "source-died")),
    Code("migrate-twice", "a second MIGRATE on a channel", blocked.migrate_twice),
    Code("unasked-flush-mark", "FLUSH_MARK that no MIGRATE asked for; spice-server aborts", blocked.unasked_flush_mark,
         ("source-died",)),
    Code("flush-mark-twice", "a second FLUSH_MARK on a channel; spice-server aborts", blocked.flush_mark_twice, ("source-died",)),
    Code("message-before-data", "another message between MIGRATE and MIGRATE_DATA", blocked.message_before_data),
    Code("data-of-another-channel", "MIGRATE_DATA of one channel went to another", state.data_of_another_channel),
    Code("bad-migrate-data", "MIGRATE_DATA with a wrong magic, version or length", state.bad_migrate_data),
    Code("data-changed", "MIGRATE_DATA reached the destination with other bytes", state.data_changed),
    Code("data-twice", "a second MIGRATE_DATA on a channel", blocked.data_twice),
    Code("destination-died", "the destination closed all its connections at once", ends.destination_died,
         (*_WAITS, "channel-closed-at-destination", "silent-after-switch", "client-left", "init-missing")),
    Code("source-died", "the source closed all its connections at once, before its time", ends.source_died,
         (*_WAITS, "channel-closed-at-source", "silent-after-switch", "client-left", "client-never-left")),
    Code("channel-closed-at-source", "a channel was closed at the source before it had moved", ends.channel_closed_at_source),
    Code("display-dropped", "the destination gave up waiting for a display's state", settling.display_dropped),
    Code("channel-closed-at-destination", "a channel was closed at the destination before it came to life",
         ends.channel_closed_at_destination),
    *(Code(name, f"a channel is stuck: {row.step}", blocked.stop(name)) for name, row in blocked.STOPS.items()),
    Code("never-open-at-source", "a channel is linked at the destination that the source never had", blocked.never_open_at_source,
         ("client-never-left",)),
    Code("client-ignored-end", "MIGRATE_END of the source, and none of the client", handshake.client_ignored_end),
    Code("client-ignored-switch-host", "the client neither left the source nor came to the destination after SWITCH_HOST",
         handshake.client_ignored_switch_host),
    Code("init-missing", "the client came over, and the destination sent no MAIN_INIT", handshake.init_missing),
    Code("silent-after-switch", "the channels moved, and the destination does not speak", blocked.silent_after_switch),
    Code("client-never-left", "all moved, and the client stays at the source", blocked.client_never_left),
    Code("source-gave-up", "the source closed what was left after 10 s", blocked.source_gave_up),
    # Why not more was agreed
    Code("seamless-option-off", "the source offered semi-seamless though the client could do more", offer.seamless_option_off),
    Code("client-lacks-capability", "the client did not announce what the source needs", offer.client_lacks_capability),
    Code("nack", "the destination answered NACK", handshake.nack),
    Code("destination-lacks-capability", "the destination did not announce SEAMLESS_MIGRATE", handshake.destination_lacks_capability),
    Code("client-did-not-ask", "no DO_SEAMLESS, though both servers can", handshake.client_did_not_ask),
    # What got lost
    Code("not-data-first", "the client said something to the destination before MIGRATE_DATA", state.not_data_first),
    Code("traffic-after-flush-mark", "the client said something to the source after FLUSH_MARK", state.traffic_after_flush_mark),
    Code("messages-lost", "serials of full headers are left out", state.messages_lost),
    Code("messages-reordered", "serials of full headers go back", state.messages_reordered),
    Code("in-flight-lost", "without state, what was on its way is lost", state.in_flight_lost),
    # At the destination
    Code("window-not-restored", "a display went on without SET_ACK", settling.window_not_restored),
    Code("window-shut", "SET_ACK of the destination was not answered", settling.window_shut),
    Code("window-used-up", "no ACKs after SET_ACK: the destination has stopped", settling.window_used_up),
    Code("agent-tokens-wrong", "the state has another number of agent tokens than the client", settling.agent_tokens_wrong),
    Code("agent-tokens-excessive", "the destination granted more agent tokens than there are", settling.agent_tokens_excessive),
    Code("agent-starved", "the client has no agent token left and gets none", settling.agent_starved),
    Code("usb-devices-detached", "redirected USB devices were unplugged", settling.usb_devices_detached),
    Code("usb-compression-lost", "usbredir goes on without compression", settling.usb_compression_lost),
    Code("slow-handshake", "from BEGIN to the reply took 3 s or more", settling.slow_handshake),
    Code("flush-mark-late", "FLUSH_MARK came 1 s or more after MIGRATE", settling.flush_mark_late),
    Code("data-late", "MIGRATE_DATA took 1 s or more from server to server", settling.data_late),
    Code("long-pause", "the user saw nothing new for 1 s or more", settling.long_pause),
    # Ends
    Code("cancelled", "the source cancelled", ends.cancelled),
    Code("began-again", "the source began another migration before this one had ended", ends.began_again),
    Code("client-left", "the client closed everything", ends.client_left),
    Code("reconnected-from-scratch", "SWITCH_HOST: the client built a new session", ends.reconnected),
    Code("new-session-incomplete", "after SWITCH_HOST a channel never came up in the new session", ends.new_session_incomplete),
    Code("unexplained", "it did not get to its end, and none of the others fits", ends.unexplained),
)  # fmt: skip
"""In the order in which they are told."""
