import pytest

from tests.programs import require_programs


def test_a_program_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICEPROXY_REQUIRE_LAB", "1")  # a skip would look like a pass
    require_programs("sh")


def test_a_missing_program_skips_the_test_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPICEPROXY_REQUIRE_LAB", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"not installed: no-such-program, nor-this$"):
        require_programs("sh", "no-such-program", "nor-this")


def test_a_missing_program_fails_the_test_where_the_lab_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICEPROXY_REQUIRE_LAB", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed: no-such-program"):
        require_programs("no-such-program")
