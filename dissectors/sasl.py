"""The SASL exchange that can stand in the ticket's place.

Source: spice-server red-stream.cpp, red_sasl_*; spice-gtk spice-channel.c, spice_channel_perform_auth_sasl.

    1 server  SaslMechList
    2 client  SaslMechName
    3 client  SaslClientStep
    4 server  SaslServerStep; 3 and 4 again while `complete` is 0
    5 server  SaslResult; accepted: then the ordinary LinkResult; rejected: then SaslReason and the end of the stream

Without TLS everything after SaslResult is wrapped by the mechanism and cannot be read from outside. The data is secret.
"""

from enum import IntEnum
from typing import Any, Final

from construct import Construct, ValidationError

from dissectors.fields import U8, U32, Choice, Count, CountedBytes, Record

MAX_MECH_LIST_BYTES: Final = 300  # spice-gtk, SASL_MAX_MECHLIST_LEN
MAX_MECH_NAME_BYTES: Final = 100  # both: SASL_MAX_MECHNAME_LEN
MAX_DATA_BYTES: Final = 2**20  # spice-server SASL_DATA_MAX_LEN, spice-gtk SASL_MAX_DATA_LEN


class SaslVerdict(IntEnum):
    """What the server made of it."""

    ACCEPTED = 0
    REJECTED = 1


class _Length(Count):
    """A length with bounds, judged before the bytes it announces are waited for."""

    def __init__(self, of: str, *, least: int = 0, most: int) -> None:
        super().__init__(U32, of)
        self._least, self._most = least, most

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        length: int = super()._parse(stream, context, path)
        if not self._least <= length <= self._most:
            raise ValidationError(f"is {length}, not {self._least}..{self._most}", path=path)
        return length


SaslMechList: Final[Construct] = Record(
    "mechlist_len" / _Length("mechlist", most=MAX_MECH_LIST_BYTES),
    "mechlist" / CountedBytes("mechlist_len") * "framed by commas, no NUL: ,GSSAPI,DIGEST-MD5,",
)
SaslMechName: Final[Construct] = Record(
    "mechname_len" / _Length("mechname", least=1, most=MAX_MECH_NAME_BYTES),
    "mechname" / CountedBytes("mechname_len") * "no NUL",
)
SaslClientStep: Final[Construct] = Record(
    "len" / _Length("data", most=MAX_DATA_BYTES) * "0 = no data, else one NUL included",
    "data" / CountedBytes("len"),
)
SaslServerStep: Final[Construct] = Record(
    "len" / _Length("data", most=MAX_DATA_BYTES) * "0 = no data, else one NUL included",
    "data" / CountedBytes("len"),
    "complete" / U8 * "1 = the exchange is over",
)
SaslResult: Final[Construct] = Record("verdict" / Choice(U32, SaslVerdict))
SaslReason: Final[Construct] = Record(
    "reason_len" / _Length("reason", most=MAX_DATA_BYTES),
    "reason" / CountedBytes("reason_len") * "text with its NUL",
)
