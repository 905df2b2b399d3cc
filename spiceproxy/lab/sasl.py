"""SASL in the lab: a user in a database of the run, and what QEMU is told of it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spiceproxy.lab.errors import LabError

USER: Final = "tester"
SASLPASSWD: Final = "saslpasswd2"
_TIMEOUT_S: Final = 10.0


def prepare(directory: Path, mechanism: str, password: str) -> Mapping[str, str]:
    """Write configuration and database; return the environment that makes QEMU read them.

    QEMU tells libsasl2 its name, so the file is qemu.conf. Source: QEMU ui/spice-core.c, spice_server_set_sasl_appname();
    Cyrus SASL, "Environment Variables".

    Raises:
        LabError: The user could not be made.
    """
    database = directory / "sasldb"
    (directory / "qemu.conf").write_text(f"mech_list: {mechanism}\nsasldb_path: {database}\n")
    command = [SASLPASSWD, "-p", "-c", "-f", str(database), "-a", "qemu", USER]
    try:
        done = subprocess.run(  # noqa: S603  made above
            command, input=password.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{SASLPASSWD}: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise LabError(f"{SASLPASSWD} made no user (exit status {done.returncode}): {said}")
    return {"SASL_CONF_PATH": str(directory)}
