"""Words that several texts need."""


def duration(ns: int) -> str:
    """Nanoseconds as people say them."""
    return (
        f"{ns / 1e9:.1f} s" if ns >= 10**9 else f"{ns / 1e6:.0f} ms" if ns >= 10**7 else f"{ns / 1e6:.1f} ms"
    )


def plain_name(name: str) -> str:
    """A message's name without SPICE_MSG_: as rules and people write it."""
    plain = name.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_")
    return plain.removeprefix("MAIN_") if "MIGRATE" in plain else plain


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number of things."""
    return f"{number} {one if number == 1 else many or one + 's'}"
