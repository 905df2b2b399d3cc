"""What `run` is told about TLS and tickets."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from cryptography.hazmat.primitives import serialization

from spiceproxy.address import Address, ServerTarget, parse_address, parse_listen, parse_server
from spiceproxy.cli.options import FILE
from spiceproxy.cli.together import with_options
from spiceproxy.errors import UsageError
from spiceproxy.tickets import TicketKey, Tickets, read_passwords
from spiceproxy.tls.authority import Authority, Store, read_certificates
from spiceproxy.tls.names import parse_subject
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.vvfile import VvFile, read_vv

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--tls-listen", metavar="HOST:PORT", help="Where clients connect with TLS; port 0 for any free one."),
    click.option("--tls-server", metavar="HOST:PORT", help="The SPICE server's TLS port."),
    click.option("--server-ca", metavar="FILE.pem", type=FILE, help="CAs that servers' certificates have to come from. [default: the system's]"),
    click.option("--server-subject", metavar="SUBJECT", help="Subject that the server's certificate has to have, as O=Red Hat,CN=kvm1. [default: it has to be of the host]"),
    click.option("--insecure", is_flag=True, help="Believe any server's certificate."),
    click.option("--ca-cert", metavar="FILE.pem", type=FILE, help="CA that signs what clients are shown, with the CAs above it, if there are any. [default: your own, see `spiceproxy ca`]"),
    click.option("--ca-key", metavar="FILE.pem", type=FILE, help="Its private key."),
    click.option("--cert", metavar="FILE.pem", type=FILE, help="Show all clients this certificate instead."),
    click.option("--key", metavar="FILE.pem", type=FILE, help="Its private key."),
    click.option(
        "--ticket-key", metavar="new|FILE.pem", help="Read tickets: give clients this RSA key, and servers a ticket for theirs."
    ),
    click.option(
        "--ticket-file",
        metavar="FILE",
        type=FILE,
        help="The server's password, which clients need not know; in a second line what they have to say instead.",
    ),
)  # fmt: skip

# Where clients come when nobody has said.
_ANYWHERE: Final = Address("127.0.0.1", 0)


def tls_options(command: F) -> F:
    """Add the options."""
    return with_options(command, _OPTIONS)


def with_vv(options: dict[str, Any]) -> dict[str, Any]:
    """Options with what the file of `--server-vv` says, where nothing else is said; the file's place takes a VvFile.

    Raises:
        UsageError: It cannot be read.
        click.UsageError: The server is named twice.
    """
    if options["server_vv"] is None:
        return options
    if options["server"] or options["tls_server"]:
        raise click.UsageError("--server-vv names the server, so --server and --tls-server do not go with it")
    given = read_vv(options["server_vv"])
    subject = None if options["insecure"] else given.subject
    return options | {
        "server_vv": given,
        "server_subject": options["server_subject"] or subject,
        "upstream_proxy": options["upstream_proxy"] or given.proxy,
    }


def target_of(options: Mapping[str, Any]) -> ServerTarget:
    """The server.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    given: VvFile | None = options.get("server_vv")
    if given is not None:
        return given.target
    target = parse_server(options["server"]) if options["server"] else ServerTarget(None)
    if options["tls_server"]:
        if target.tls is not None:
            raise UsageError(
                "the server's TLS port is in --server already, so --tls-server does not go with it"
            )
        target = replace(target, tls=parse_address(options["tls_server"], default_host=""))
        if target.tls is not None and not target.tls.host:
            host = target.address.machine if target.address is not None else _ANYWHERE.host
            target = replace(target, tls=Address(host, target.tls.port))
    if target.address is None and target.tls is None:
        raise click.UsageError("Missing option '--server', '--tls-server' or '--server-vv'.")
    return target


def listeners_of(options: Mapping[str, Any], target: ServerTarget) -> tuple[Address | None, Address | None]:
    """Where clients connect, in clear and with TLS: as the user says, and for each of the server's ports somewhere."""
    plain, tls = (
        parse(options[name]) if options[name] else None
        for name, parse in (("listen", parse_listen), ("tls_listen", partial(parse_address, any_port=True)))
    )
    asked = plain
    if plain is None and target.address is not None and (tls is None or target.tls is not None):
        plain = _ANYWHERE
    if tls is None and target.tls is not None and (asked is None or target.address is not None):
        tls = Address((asked or _ANYWHERE).machine, 0)
    return plain, tls


def tls_of(
    options: dict[str, Any], listen: Address | None, server: Address | None, *, shows: bool = False
) -> TlsConfig | None:
    """What the proxy is told; None if TLS is of no concern.

    Args:
        options: Of the command.
        listen: Where clients connect with TLS.
        server: The server's TLS port.
        shows: Whether clients can be shown certificates also where nothing listens for TLS only.

    Raises:
        UsageError: A file cannot be used.
        click.UsageError: The options do not go together.
    """
    for one, other in (("ca_cert", "ca_key"), ("cert", "key")):
        if (options[one] is None) != (options[other] is None):
            raise click.UsageError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} go together")
    door = shows and listen is not None and options["cert"]  # then it is for the way to us alone
    if options["ca_cert"] and options["cert"] and not door:
        raise click.UsageError("--cert is shown as it is, so no CA goes with it")
    if options["insecure"] and (options["server_ca"] or options["server_subject"]):
        raise click.UsageError(
            "--insecure believes anybody, so --server-ca and --server-subject do not go with it"
        )
    if options["server_subject"]:
        try:
            parse_subject(options["server_subject"])
        except ValueError as error:
            raise click.UsageError(f"--server-subject: {error}") from None
    given: VvFile | None = options.get("server_vv")
    pem = given.ca if given is not None and not options["server_ca"] and not options["insecure"] else None
    asked = options["server_ca"] or pem or options["insecure"]
    if shows:
        asked = asked or options["ca_cert"] or (options["cert"] and not door)
    if listen is None and server is None and not asked:
        return None
    keylog = os.environ.get("SSLKEYLOGFILE")
    more: dict[str, Any] = {}
    if door:
        more = {"door": FixedCertificate(options["cert"], options["key"])}
        more["certificate"] = _certificate(options | {"cert": None}) if asked else more["door"]
    elif listen is not None or shows:
        more = {"certificate": _certificate(options)}
    return TlsConfig(
        listen=listen,
        server=server,
        server_ca=options["server_ca"],
        server_ca_pem=pem,
        server_subject=options["server_subject"],
        insecure=options["insecure"],
        inside=bool(asked),
        keylog=Path(keylog) if keylog else None,
        **more,
    )


def _certificate(options: dict[str, Any]) -> Authority | FixedCertificate:
    if options["cert"]:
        return FixedCertificate(options["cert"], options["key"])
    if options["ca_cert"]:
        return Authority.load(options["ca_cert"], options["ca_key"])
    return Store().open()


def tickets_of(options: Mapping[str, Any]) -> Tickets | None:
    """What is done to tickets; None: nothing.

    Raises:
        UsageError: A file cannot be used.
    """
    if not options["ticket_key"] and not options["ticket_file"]:
        return None
    made = options["ticket_key"] in {None, "new"}
    key = TicketKey() if made else TicketKey.load(Path(options["ticket_key"]))
    return Tickets(key, *(read_passwords(options["ticket_file"]) if options["ticket_file"] else ()))


def trusted_by_clients(config: TlsConfig) -> str | None:
    """What a client has to trust, in PEM; None if only its owner knows: a certificate that somebody else has signed."""
    if isinstance(config.certificate, Authority):
        trusted = config.certificate.trusted
        return None if trusted is None else trusted.decode()
    found = read_certificates(config.certificate.certificate)
    roots = [each for each in found if each.issuer == each.subject]
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in roots) or None
