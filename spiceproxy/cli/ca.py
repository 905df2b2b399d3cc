"""`spiceproxy ca`: the user's own CA."""

import sys

import click
from cryptography.hazmat.primitives import hashes

from spiceproxy.tls.authority import Authority, Store
from spiceproxy.tls.der import read_subject
from spiceproxy.tls.names import render_subject

EPILOG = """\b
Examples:
  spiceproxy ca show
  remote-viewer --spice-ca-file="$(spiceproxy ca path)" 'spice://127.0.0.1?tls-port=5902'
  spiceproxy ca renew

Whoever has the key of this CA can be any SPICE server to clients that trust it, so give clients this CA for the time of
a test only, and to nobody else's. It is made when it is needed first.
"""


@click.group("ca", epilog=EPILOG)
def ca_command() -> None:
    """The CA that signs what TLS clients of the proxy are shown: where it is, and a new one."""


@ca_command.command("show")
@click.option("--pem", is_flag=True, help="Print the certificate itself.")
def show(pem: bool) -> None:
    """Say whose CA it is, until when, and where; make one if there is none."""
    store = Store()
    authority = store.open()
    _tell(store, authority)
    if pem:
        click.echo(authority.pem.decode(), nl=False)


@ca_command.command("path")
def path() -> None:
    """Print the file with the certificate, for a client's CA option; make a CA if there is none."""
    store = Store()
    store.open()
    click.echo(store.certificate)


@ca_command.command("renew")
@click.option("--yes", is_flag=True, help="Do not ask.")
def renew(yes: bool) -> None:
    """Make a new CA in the place of the old one. Clients have to be given the new certificate."""
    store = Store()
    if store.exists and not yes and sys.stdin.isatty():
        click.confirm("Clients that trust the present CA will refuse the proxy. Go on?", abort=True)
    _tell(store, store.renew())


def _tell(store: Store, authority: Authority) -> None:
    certificate = authority.certificate
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    click.echo(f"subject:      {render_subject(read_subject(certificate))}")
    click.echo(f"valid until:  {certificate.not_valid_after_utc:%Y-%m-%d}")
    click.echo(f"SHA-256:      {fingerprint}")
    click.echo(f"certificate:  {store.certificate}")
    click.echo(f"private key:  {store.key}, for nobody else to read")
