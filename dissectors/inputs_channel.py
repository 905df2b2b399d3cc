"""Inputs channel (type 3): keyboard and mouse. Source: spice-common spice.proto, InputsChannel.

Scan codes are those of a PC keyboard, set 1, as the keyboard controller sends them.
"""

from enum import IntEnum, IntFlag
from typing import Final

from dissectors import migrate_data
from dissectors.fields import I32, U8, U16, U32, Choice, Flags, Record, Rest
from dissectors.message import MessageSpec, table


class KeyboardModifiers(IntFlag):
    """SPICE_KEYBOARD_MODIFIER_FLAGS_*: the lock lights that are on."""

    SCROLL_LOCK = 1
    NUM_LOCK = 2
    CAPS_LOCK = 4


class MouseButton(IntEnum):
    """SPICE_MOUSE_BUTTON_*: UP and DOWN are the two ways of the wheel."""

    INVALID = 0
    LEFT = 1
    MIDDLE = 2
    RIGHT = 3
    UP = 4
    DOWN = 5
    SIDE = 6
    EXTRA = 7


class MouseButtonMask(IntFlag):
    """SPICE_MOUSE_BUTTON_MASK_*: the buttons that are down."""

    LEFT = 1
    MIDDLE = 2
    RIGHT = 4
    UP = 8
    DOWN = 16
    SIDE = 32
    EXTRA = 64


_KEY: Final = (
    "scan code, its first byte lowest; 0xE0 comes first where there is one, bit 7 of the last byte: released"
)

KeyCode: Final = Record("code" / U32 * _KEY)
MouseClick: Final = Record(
    "button" / Choice(U8, MouseButton),
    "buttons_state" / Flags(U16, MouseButtonMask) * "buttons that are down afterwards",
)

SERVER_MESSAGES: Final = table(
    migrate_data.from_server(migrate_data.InputsState),
    MessageSpec(
        101,
        "SPICE_MSG_INPUTS_INIT",
        "Opens the channel and tells the keyboard's lock lights.",
        Record("keyboard_modifiers" / Flags(U16, KeyboardModifiers)),
    ),
    MessageSpec(
        102,
        "SPICE_MSG_INPUTS_KEY_MODIFIERS",
        "The guest has switched the keyboard's lock lights.",
        Record("modifiers" / Flags(U16, KeyboardModifiers)),
    ),
    MessageSpec(
        111,
        "SPICE_MSG_INPUTS_MOUSE_MOTION_ACK",
        "Four more MOUSE_MOTION or MOUSE_POSITION messages have been handled.",
    ),
)

CLIENT_MESSAGES: Final = table(
    migrate_data.from_client(migrate_data.InputsState),
    MessageSpec(101, "SPICE_MSGC_INPUTS_KEY_DOWN", "A key goes down, or repeats.", KeyCode),
    MessageSpec(102, "SPICE_MSGC_INPUTS_KEY_UP", "A key goes up.", KeyCode),
    MessageSpec(
        103,
        "SPICE_MSGC_INPUTS_KEY_MODIFIERS",
        "The client's lock lights, for the guest to follow.",
        Record("modifiers" / Flags(U16, KeyboardModifiers)),
    ),
    MessageSpec(
        104,
        "SPICE_MSGC_INPUTS_KEY_SCANCODE",
        "Scan codes in a row, sent to the guest's keyboard as they are (needs SPICE_INPUTS_CAP_KEY_SCANCODE).",
        Record("data" / Rest * "scan codes"),
    ),
    MessageSpec(
        111,
        "SPICE_MSGC_INPUTS_MOUSE_MOTION",
        "The mouse has moved by that much (mouse mode SERVER).",
        Record(
            "dx" / I32 * "steps to the right",
            "dy" / I32 * "steps down",
            "buttons_state" / Flags(U16, MouseButtonMask) * "buttons that are down",
        ),
    ),
    MessageSpec(
        112,
        "SPICE_MSGC_INPUTS_MOUSE_POSITION",
        "The pointer is at this place of a display (mouse mode CLIENT).",
        Record(
            "x" / U32 * "pixels from the left",
            "y" / U32 * "pixels from the top",
            "buttons_state" / Flags(U16, MouseButtonMask) * "buttons that are down",
            "display_id" / U8 * "number of the monitor, over all display channels",
        ),
    ),
    MessageSpec(113, "SPICE_MSGC_INPUTS_MOUSE_PRESS", "A mouse button goes down.", MouseClick),
    MessageSpec(114, "SPICE_MSGC_INPUTS_MOUSE_RELEASE", "A mouse button goes up.", MouseClick),
)
