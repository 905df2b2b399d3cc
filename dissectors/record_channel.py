"""Record channel (type 6): the client's microphone to the guest. Source: spice-common spice.proto, RecordChannel."""

from typing import Final

from dissectors.fields import U16, U32, Choice, Record
from dissectors.message import MessageSpec, table
from dissectors.sound import AudioData, AudioFormat, AudioMode, Mute, Time, Volume

SERVER_MESSAGES: Final = table(
    MessageSpec(
        101,
        "SPICE_MSG_RECORD_START",
        "The guest records: send sound of this format.",
        Record(
            "channels" / U32 * "1 mono, 2 stereo",
            "format" / Choice(U16, AudioFormat),
            "frequency" / U32 * "samples a second, per channel",
        ),
    ),
    MessageSpec(102, "SPICE_MSG_RECORD_STOP", "The guest has stopped recording."),
    MessageSpec(
        103,
        "SPICE_MSG_RECORD_VOLUME",
        "The guest has set its recording volume, for the client to follow.",
        Volume,
    ),
    MessageSpec(
        104, "SPICE_MSG_RECORD_MUTE", "The guest has muted its recording or made it heard again.", Mute
    ),
)

CLIENT_MESSAGES: Final = table(
    MessageSpec(101, "SPICE_MSGC_RECORD_DATA", "A packet of sound, and when it was recorded.", AudioData),
    MessageSpec(102, "SPICE_MSGC_RECORD_MODE", "How the sound that follows is encoded.", AudioMode),
    MessageSpec(
        103, "SPICE_MSGC_RECORD_START_MARK", "Answers START: sound is on its way.", Record("time" / Time)
    ),
)
