"""Migrations as a hostile peer would have them."""

import dataclasses
from typing import Final

from spiceproxy.protocol.migration.model import Migration
from tests.report.examples import seamless, wedged

EVIL: Final = "</title></text></script><script>alert(1)</script>\"'&]]>\x00\x1b[2J\u202e\udcff<!--"


def spoiled() -> Migration:
    """What peers can write has something in it that must not get out."""
    migration = wedged()
    assert migration.offered is not None
    migration.offered.host = migration.destination_address = migration.source_address = migration.reason = (
        EVIL
    )
    migration.agreed_reason = migration.offered.reason = EVIL
    migration.losses.append(EVIL)
    migration.damaged.append(EVIL)
    first, second = migration.violations
    first.message = second.message = second.rule = EVIL
    diagnosis = migration.diagnoses[0]
    diagnosis.text = diagnosis.next = diagnosis.code = EVIL
    migration.waiting[0] = migration.waiting[0]._replace(text=EVIL, what=EVIL)
    main = migration.channels["main:0"]
    assert main.destination is not None
    main.destination = main.destination._replace(error=EVIL, linked_ns=None)
    inputs = migration.channels.pop("inputs:0")
    inputs.channel = EVIL
    migration.channels[EVIL] = inputs
    migration.messages[0] = migration.messages[0]._replace(name=EVIL, connection=EVIL)
    assert inputs.migrate is not None
    inputs.migrate = inputs.migrate._replace(name=EVIL, channel=EVIL)
    return migration


def flooded() -> Migration:
    """As many messages and channels as a tracker keeps."""
    migration = seamless()
    first = migration.messages[0]
    for index in range(4000):
        name = "SPICE_MSG_PING" if index % 2 else "SPICE_MSG_MAIN_MIGRATE_BEGIN"
        time_ns = migration.started_ns + index * 300_000
        migration.messages.append(first._replace(number=10_000 + index, time_ns=time_ns, name=name))
    display = migration.channels["display:0"]
    for index in range(1, 300):
        name = f"display:{index}"
        migration.channels[name] = dataclasses.replace(display, channel=name, channel_id=index)
    return migration
