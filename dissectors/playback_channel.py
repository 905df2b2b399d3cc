"""Playback channel (type 5): the guest's sound to the client. Source: spice-common spice.proto, PlaybackChannel."""

from typing import Final

from dissectors.fields import U16, U32, Choice, Record
from dissectors.message import MessageSpec, table
from dissectors.sound import AudioData, AudioFormat, AudioMode, Mute, Time, Volume

SERVER_MESSAGES: Final = table(
    MessageSpec(101, "SPICE_MSG_PLAYBACK_DATA", "A packet of sound, and when it is to be heard.", AudioData),
    MessageSpec(102, "SPICE_MSG_PLAYBACK_MODE", "How the sound that follows is encoded.", AudioMode),
    MessageSpec(
        103,
        "SPICE_MSG_PLAYBACK_START",
        "Sound begins, of this format.",
        Record(
            "channels" / U32 * "1 mono, 2 stereo",
            "format" / Choice(U16, AudioFormat),
            "frequency" / U32 * "samples a second, per channel",
            "time" / Time,
        ),
    ),
    MessageSpec(104, "SPICE_MSG_PLAYBACK_STOP", "Sound ends."),
    MessageSpec(
        105, "SPICE_MSG_PLAYBACK_VOLUME", "The guest has set its volume, for the client to follow.", Volume
    ),
    MessageSpec(
        106, "SPICE_MSG_PLAYBACK_MUTE", "The guest has muted its sound or made it heard again.", Mute
    ),
    MessageSpec(
        107,
        "SPICE_MSG_PLAYBACK_LATENCY",
        "Keep at least that much sound in store (needs SPICE_PLAYBACK_CAP_LATENCY).",
        Record("latency_ms" / U32 * "milliseconds"),
    ),
)

CLIENT_MESSAGES: Final = table()
