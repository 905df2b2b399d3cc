"""A sound card as a script of the guest drives it: it plays a tone, and records what the client's microphone hears.

Source: Intel 82801AA (ICH) AC '97 programmer's reference: mixer registers behind BAR 0, bus master registers behind BAR 1.
"""

import math
import struct
from typing import Final

from spiceproxy.lab.machine import Script

_MEMORY: Final = 0x200000  # lists of buffers, then a buffer to play and one to fill
_LIST_BYTES: Final = 0x1000
_PLAYED: Final = _MEMORY + 0x10000
_RECORDED: Final = _MEMORY + 0x20000
_FRAMES: Final = 4800  # a tenth of a second, 48000 frames a second, two samples of 16 bits in each
_TONE_FRAMES: Final = 480
_ENTRIES: Final = 32  # of a list of buffers; the card walks through it again and again

_MASTER_VOLUME, _PCM_VOLUME, _RECORD_GAIN = 0x02, 0x18, 0x1C
_PCM_IN, _PCM_OUT = 0x00, 0x10
_LIST_ADDRESS, _LAST_VALID, _CONTROL = 0x0, 0x5, 0xB
_RUN: Final = 1


class SoundCard:
    """The card, as a script drives it."""

    def __init__(self, script: Script, slot: int) -> None:
        """Set the card in a slot of PCI bus 0 up and let it play and record."""
        self._script = script
        mixer, self._master = script.pci_base(slot, 0), script.pci_base(slot, 1)
        script.enable_bus_master(slot)
        for register, value in ((_MASTER_VOLUME, 0x0404), (_PCM_VOLUME, 0x0808), (_RECORD_GAIN, 0)):
            script.op("out16", mixer, register, value)
        tone = b"".join(
            struct.pack("<hh", sample, sample)
            for sample in (round(6000 * math.sin(2 * math.pi * at / 120)) for at in range(_TONE_FRAMES))
        )
        for start in range(0, _FRAMES * 4, len(tone)):
            script.copy_in(0, _PLAYED + start, tone)
        for channel, buffer in ((_PCM_OUT, _PLAYED), (_PCM_IN, _RECORDED)):
            list_ = _MEMORY + channel * _LIST_BYTES
            script.copy_in(0, list_, struct.pack("<II", buffer, _FRAMES * 2) * _ENTRIES)
            script.op("out32", self._master, channel + _LIST_ADDRESS, list_)
            script.op("out8", self._master, channel + _LAST_VALID, _ENTRIES - 1)
            script.op("out8", self._master, channel + _CONTROL, _RUN)

    def go_on(self, *, half: int) -> None:
        """Move the end of the lists, which the card stops at, from one half of them to the other (0, 1)."""
        for channel in (_PCM_OUT, _PCM_IN):
            self._script.op("out8", self._master, channel + _LAST_VALID, _ENTRIES // 2 * (half + 1) - 1)
