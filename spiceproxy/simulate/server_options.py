"""How a simulated server is set up, and how it shows what is linked to it."""

import ssl
import uuid
from dataclasses import dataclass, field

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.simulate.linking import SERVER_CAPS
from spiceproxy.simulate.wire import Observer


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a simulated server behaves. The defaults are spice-server 0.15.1 in QEMU, with three channels.

    Attributes:
        name: What observers call it.
        host, port: Where it listens; port 0 chooses one.
        tls: Certificate and key, for TLS on its port; None for none.
        password: None disables ticketing: any ticket is good that decrypts.
        channels: Names such as ``display``, ``usbredir:1``; main goes without saying.
        seamless: The hypervisor's ``seamless-migration=on``.
        mini_header: Whether SPICE_COMMON_CAP_MINI_HEADER is announced.
        incoming: It waits for a guest (``-incoming``): a client that switches before the guest came breaks R16.
        migration_version: SPICE_MIGRATION_PROTOCOL_VERSION; a source that says more is answered with NACK.
        main_caps: Capability words of main; 0x0f is all four, 0x09 is what servers up to 0.15.0 sent.
        session_id: Of the first client; None for a random one.
        agent: Whether the guest runs an agent.
        ack_window: Messages per ACK on display and cursor.
        net_test: Whether new sessions get the three PINGs with which the bandwidth is measured (256 kB).
        latency_ping_after_s: Seconds after a link that the first pair of latency PINGs goes out; None for never.
        link_timeout_s: For the link phase. spice-server waits without limit.
        migrate_timeout_s: How long the client may take to connect to a destination (MIGRATE_TIMEOUT).
        leave_timeout_s: How long the client may take to leave after the migration (MIGRATE_TIMEOUT again).
        guest_name, guest_uuid: For SPICE_MSG_MAIN_NAME and SPICE_MSG_MAIN_UUID.
        observer: Called with every message sent and received.
    """

    name: str = "server"
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    password: str | None = field(default=None, repr=False)
    channels: tuple[str, ...] = ("display", "inputs", "cursor")
    seamless: bool = True
    mini_header: bool = True
    incoming: bool = False
    migration_version: int = 1
    main_caps: tuple[int, ...] = SERVER_CAPS[ChannelType.MAIN]
    session_id: int | None = None
    agent: bool = False
    ack_window: int = 20
    net_test: bool = True
    latency_ping_after_s: float | None = 0.1
    link_timeout_s: float = 30.0
    migrate_timeout_s: float = 10.0
    leave_timeout_s: float = 10.0
    guest_name: str = "simulated"
    guest_uuid: uuid.UUID = field(default_factory=lambda: uuid.UUID(int=0))
    observer: Observer | None = None


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel of the connected client, as a table wants it.

    Attributes:
        peer: The other end of the TCP connection: the client, or a proxy.
        local: This end.
        header: ``mini`` or ``full``.
        received, sent: Messages by name.
    """

    name: str
    peer: Address
    local: Address
    header: str
    received: dict[str, int]
    sent: dict[str, int]
