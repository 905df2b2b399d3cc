"""Names of the numbers in usbredir packets. Source: usbredir usbredirproto.h, names without their prefix."""

from enum import IntEnum, IntFlag
from typing import Final


class UsbredirType(IntEnum):
    """usb_redir_*: `type` of a packet."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    START_ISO_STREAM = 12
    STOP_ISO_STREAM = 13
    ISO_STREAM_STATUS = 14
    START_INTERRUPT_RECEIVING = 15
    STOP_INTERRUPT_RECEIVING = 16
    INTERRUPT_RECEIVING_STATUS = 17
    ALLOC_BULK_STREAMS = 18
    FREE_BULK_STREAMS = 19
    BULK_STREAMS_STATUS = 20
    CANCEL_DATA_PACKET = 21
    FILTER_REJECT = 22
    FILTER_FILTER = 23
    DEVICE_DISCONNECT_ACK = 24
    START_BULK_RECEIVING = 25
    STOP_BULK_RECEIVING = 26
    BULK_RECEIVING_STATUS = 27
    CONTROL_PACKET = 100
    BULK_PACKET = 101
    ISO_PACKET = 102
    INTERRUPT_PACKET = 103
    BUFFERED_BULK_PACKET = 104


class UsbredirCap(IntFlag):
    """usb_redir_cap_*, as bits of the first capability word."""

    BULK_STREAMS = 1
    CONNECT_DEVICE_VERSION = 2
    FILTER = 4
    DEVICE_DISCONNECT_ACK = 8
    EP_INFO_MAX_PACKET_SIZE = 16
    IDS_64BITS = 32
    BULK_LENGTH_32BITS = 64
    BULK_RECEIVING = 128


NO_CAPS: Final = UsbredirCap(0)


class Status(IntEnum):
    """How a request ended; a value without a name is an error, too."""

    SUCCESS = 0
    CANCELLED = 1
    INVAL = 2
    IOERROR = 3
    STALL = 4
    TIMEOUT = 5
    BABBLE = 6


class Speed(IntEnum):
    """usb_redir_speed_*."""

    LOW = 0
    FULL = 1
    HIGH = 2
    SUPER = 3
    UNKNOWN = 255


class EndpointType(IntEnum):
    """usb_redir_type_*: as USB numbers them; INVALID where there is no such endpoint."""

    CONTROL = 0
    ISO = 1
    BULK = 2
    INTERRUPT = 3
    INVALID = 255
