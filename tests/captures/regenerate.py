"""`make captures`: write the expected dissection of every specimen anew. Look at the difference before it is committed."""

import sys

from tests.captures.corpus import specimens


def main() -> None:
    names = set(sys.argv[1:])
    for specimen in specimens():
        if names and specimen.name not in names:
            continue
        text = specimen.dissect()
        before = specimen.expected.read_text() if specimen.expected.exists() else None
        if text != before:
            specimen.expected.write_text(text)
            print(f"{specimen.name}: {'new' if before is None else 'changed'}")


if __name__ == "__main__":
    main()
