"""Recordings: pcapng files that Wireshark opens, one TCP conversation per channel connection.

`recorder` is the door (trio); `conversation` turns what a connection carried into packets and `pcapng` packets into
blocks, both sans-I/O; `writer` is the thread that writes.
"""

from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.recorder import Recorder, open_recorder

__all__ = ["Conversation", "Recorder", "open_recorder"]
