"""What rides inside SPICE messages: agent messages, USB packets, WebDAV frames, smartcard messages. Sans-I/O.

A stream is cut over SPICE messages without regard to what is in it, so each direction has state. The schemas are in
`dissectors.vd_agent`, `usbredir`, `webdav_mux` and `vscard`.
"""

from spiceproxy.protocol.payload.guest_port import guest_port_messages
from spiceproxy.protocol.payload.inner import MAX_INNERS, MAX_KEPT, Inner
from spiceproxy.protocol.payload.payloads import Payloads

__all__ = ["MAX_INNERS", "MAX_KEPT", "Inner", "Payloads", "guest_port_messages"]
