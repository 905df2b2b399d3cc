"""The one error that dissectors raise."""


class DissectionError(ValueError):
    """A body does not fit its schema. Costs one event: the bytes are forwarded all the same."""
