"""The .vv file: what remote-viewer reads, and nobody but its owner."""

import contextlib
import ctypes
import ctypes.util
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.vvfile import SecurePort, read_vv, render_vv, write_vv
from tests.ways.proxmox import name_of, vv_of

PROXY = Address("127.0.0.1", 5901)

# What each password is in the file.
PASSWORDS = {
    "tiger": "tiger",
    " blank first": r"\sblank first",
    "blank last ": "blank last ",
    r"back\slash": r"back\\slash",
    "two\nlines\rand\ta tab": r"two\nlines\rand\ta tab",
    "%=;#[]&\"'": "%=;#[]&\"'",
    "grüße": "grüße",
}


def test_the_file_leads_to_the_proxy_and_stays() -> None:
    assert render_vv(PROXY).splitlines() == [
        "[virt-viewer]",
        "type=spice",
        "host=127.0.0.1",
        "port=5901",
        "title=spiceproxy 127.0.0.1:5901",
        "delete-this-file=0",
    ]


def test_an_ipv6_host_has_no_brackets() -> None:
    assert "host=::1\nport=5901\n" in render_vv(Address("::1", 5901))


@pytest.mark.parametrize(("password", "written"), PASSWORDS.items(), ids=PASSWORDS)
def test_a_password_is_written_so_that_it_is_read_back(password: str, written: str) -> None:
    assert f"\npassword={written}\n" in render_vv(PROXY, password)


@pytest.mark.parametrize("password", [None, ""])
def test_without_a_password_remote_viewer_is_left_to_ask(password: str | None) -> None:
    assert "password" not in render_vv(PROXY, password)


@pytest.mark.parametrize("password", PASSWORDS)
def test_glib_which_remote_viewer_uses_reads_what_was_meant(password: str) -> None:
    library = ctypes.util.find_library("glib-2.0")
    if library is None:
        pytest.skip("not installed: GLib")
    values = _read_by_glib(
        ctypes.CDLL(library), render_vv(PROXY, password).encode(), "password", "host", "port"
    )
    assert values == [password, PROXY.host, str(PROXY.port)]


def _read_by_glib(glib: ctypes.CDLL, data: bytes, *keys: str) -> list[str]:
    glib.g_key_file_new.restype = ctypes.c_void_p
    glib.g_key_file_get_string.restype = ctypes.c_void_p
    file = ctypes.c_void_p(glib.g_key_file_new())
    assert glib.g_key_file_load_from_data(file, data, ctypes.c_size_t(len(data)), 0, None)
    values = []
    for key in keys:
        text = ctypes.c_void_p(glib.g_key_file_get_string(file, b"virt-viewer", key.encode(), None))
        values.append(ctypes.string_at(text).decode() if text else "")
        glib.g_free(text)
    glib.g_key_file_free(file)
    return values


@pytest.mark.parametrize("there", [False, True], ids=["new", "there already"])
def test_the_file_can_be_read_by_its_owner_only(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "vm.vv"
    mask = os.umask(0)
    try:
        if there:
            path.write_text("old")
            path.chmod(0o666)
        write_vv(path, PROXY, "tiger")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == render_vv(PROXY, "tiger")


def test_whoever_holds_the_old_file_open_does_not_see_the_password(tmp_path: Path) -> None:
    path = tmp_path / "vm.vv"
    path.write_text("old")
    with path.open(encoding="utf-8") as somebody:
        write_vv(path, PROXY, "tiger")
        assert somebody.read() == "old"


def test_a_link_is_not_followed_and_not_removed(tmp_path: Path) -> None:
    path, target = tmp_path / "vm.vv", tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(UsageError, match="no regular file"):
        write_vv(path, PROXY)
    assert path.is_symlink()
    assert target.read_text() == "precious"


def test_a_device_or_a_pipe_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UsageError, match=f"cannot write {path}: it is there and no regular file"):
        write_vv(path, PROXY)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_place_that_does_not_exist_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "vm.vv"
    with pytest.raises(UsageError) as caught:
        write_vv(path, PROXY)
    assert str(caught.value) == f"cannot write {path}: No such file or directory"


# Files of others --------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", PASSWORDS)
def test_what_is_written_is_read_back(password: str, tmp_path: Path) -> None:
    secure = SecurePort(Address("kvm1", 5901), "-----BEGIN\nand END-----\n", "O=Servers\\, Inc.,CN=kvm1")
    path = tmp_path / "vm.vv"
    write_vv(path, Address("kvm1", 5900), password, secure=secure, proxy=PROXY, proxy_tls=True)
    found = read_vv(path)
    assert (found.target.address, found.target.tls) == (Address("kvm1", 5900), secure.address)
    assert found.target.password == password.rstrip(" ")  # as GKeyFile
    assert (found.ca, found.subject, found.proxy) == (secure.ca, secure.subject, "https://127.0.0.1:5901")
    assert repr(found.target.password) not in repr(found)


def test_a_file_of_proxmox_is_read(tmp_path: Path) -> None:
    name, path = name_of("pve1"), tmp_path / "pve.vv"
    path.write_text(
        vv_of(name, 61000, proxy=Address("pve1", 3128), ca="-----BEGIN\nX\n", subject="OU=PVE,CN=pve1")
    )
    found = read_vv(path)
    assert (found.target.address, found.target.tls) == (None, Address(name, 61000))
    assert (found.ca, found.subject, found.proxy) == ("-----BEGIN\nX\n", "OU=PVE,CN=pve1", "http://pve1:3128")
    assert str(found.target.tls) == f"{name.partition('::')[0]}:61000"  # without the signature


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"no group \[virt-viewer\]"),
        ("password = secret\n[virt-viewer]\n", r"no group \[virt-viewer\]"),
        ("[virt-viewer]\ntype=vnc\nhost=kvm1\nport=1\npassword=secret\n", "type has to be spice"),
        ("[virt-viewer]\ntype=spice\nport=1\n", "host"),
        ("[virt-viewer]\ntype=spice\nhost=kvm1\n", "neither port nor tls-port"),
        ("[virt-viewer]\ntype=spice\nhost=kvm1\nport=secret\n", "is not HOST:PORT"),
        ("[virt-viewer]\ntype=spice\nhost=k\\nvm1\nport=1\n", "host"),
        (None, "cannot read"),
    ],
)
def test_what_leads_nowhere_is_told(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "vm.vv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_vv(path)
    assert "password" not in str(caught.value)


def test_bytes_that_are_no_text_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "vm.vv").write_bytes(b"\xff\xfe[virt-viewer]")
    with pytest.raises(UsageError, match="no file for remote-viewer"):
        read_vv(tmp_path / "vm.vv")


@given(st.text(max_size=60), st.booleans())
def test_no_text_makes_it_fail_otherwise(text: str, begun: bool) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".vv", newline="") as file:
        file.write("[virt-viewer]\ntype=spice\nhost=a\nport=1\n" * begun + text)
        file.flush()
        with contextlib.suppress(UsageError):
            assert read_vv(Path(file.name)).target.address is not None
