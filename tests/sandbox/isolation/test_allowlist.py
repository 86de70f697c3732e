"""The list of hosts: what it takes, what it lets through, which addresses no name may lead to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.errors import InputError
from rlm_kernel.sandbox.isolation.allowlist import Allowed, authority, find, is_public, parse


def test_a_list() -> None:
    """Names, patterns, addresses and ports, in any case, with spaces, each once; nothing is an empty list."""
    listed = parse("API.Example.org, *.example.net:8443,localhost:1,[::1]:2,[2001:DB8::0:1],10.0.0.1,api.example.org.,")

    assert [*map(str, listed)] == [
        "api.example.org",
        "*.example.net:8443",
        "localhost:1",
        "[::1]:2",
        "[2001:db8::1]",
        "10.0.0.1",
    ]
    assert parse(",".join(map(str, listed))) == listed
    assert parse("") == parse(" , ") == ()
    assert parse("bücher.example") == (Allowed("xn--bcher-kva.example"),)


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*:80",
        "*.org",
        "*.10.0.0.1",
        "a.*.org",
        "**.example.org",
        "https://example.org",
        "example.org/path",
        "me@example.org",
        "example.org:0",
        "example.org:65536",
        "example.org:http",
        "example.org:",
        "::1",
        "[::1",
        "[1.2.3.4]",
        "a b",
        "example.org\n",
        ".example.org",
        "-example.org",
        "a" * 254,
        "\udc80.example.org",
    ],
)
def test_entries_that_are_none(entry: str) -> None:
    """One line names the entry, and what would be one."""
    with pytest.raises(InputError) as error:
        parse(f"example.com,{entry}x" if entry.endswith("\n") else f"example.com,{entry}")

    assert "is no host; write api.example.org" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "host", "port", "through"),
    [
        ("example.org", "example.org", 443, True),
        ("example.org", "example.org", 80, True),
        ("example.org", "example.org", 22, False),
        ("example.org:22", "example.org", 22, True),
        ("example.org:22", "example.org", 443, False),
        ("example.org", "www.example.org", 443, False),
        ("example.org", "notexample.org", 443, False),
        ("example.org", "example.org.evil.test", 443, False),
        ("*.example.org", "a.example.org", 443, True),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "notexample.org", 443, False),
        ("127.0.0.1", "localhost", 443, False),
        ("localhost", "127.0.0.1", 443, False),
        ("[::1]", "::1", 443, True),
        ("127.0.0.1", "::ffff:127.0.0.1", 443, False),
        ("127.0.0.1", "2130706433", 443, False),
    ],
)
def test_what_an_entry_lets_through(entry: str, host: str, port: int, through: bool) -> None:
    """Exactly the host, or all below it, on its port, or on 443 and 80."""
    assert (find(parse(f"other.example,{entry}"), host, port) is not None) is through


def test_an_address_that_was_named() -> None:
    """Only `localhost` and literal addresses may lead to this machine's network."""
    assert [a.anywhere for a in parse("localhost:1,127.0.0.1,[fe80::1],example.org,*.localhost.example")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """This machine, its network, the cloud's metadata, and the IPv6 addresses that stand for them."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1", "2002:101:101::1"]
)
def test_addresses_that_are_public(address: str) -> None:
    """The internet's."""
    assert is_public(address)


@given(st.text(max_size=60))
def test_no_text_gets_through_by_accident(text: str) -> None:
    """Whatever is asked for is refused, or is a plain host and port that the list is compared with."""
    try:
        host, port = authority(text)
    except ValueError:
        return
    assert not set(host) & set("@/\\?#%* \t\r\n\0")
    assert host == host.lower()
    assert port is None or 0 < port < 65536
