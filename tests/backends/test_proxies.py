"""Which proxy the environment names for a URL, and the credentials in a proxy's URL."""

from __future__ import annotations

import base64

import pytest

from shipper.backends.http.proxies import basic_credentials, bypasses_proxy, find_proxy, is_socks, without_credentials


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://a.test/", {}, None),
        ("http://a.test/", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.test/", {"http_proxy": "http://p:1"}, None),
        ("https://a.test/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.test/", {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "http://low:1"),
        ("https://a.test/", {"https_proxy": "", "HTTPS_PROXY": "http://up:1"}, None),
        ("http://a.test/", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"all_proxy": "http://p:1", "http_proxy": "http://own:1"}, "http://own:1"),
        ("http://a.test/", {"ALL_PROXY": "p:1"}, "http://p:1"),
        ("http://a.test/", {"http_proxy": " http://p:1 "}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ("HTTP://A.test/", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"all_proxy": "socks5://p:1"}, "socks5://p:1"),
        ("http://a.test/", {"all_proxy": "socks://p:1"}, "socks5h://p:1"),
        ("http://a.test/", {"all_proxy": "http://p:1", "no_proxy": "a.test"}, None),
        ("http://a.test/", {"all_proxy": "http://p:1", "NO_PROXY": "a.test"}, None),
        ("http://a.test:81/", {"all_proxy": "http://p:1", "no_proxy": "a.test:80"}, "http://p:1"),
        ("https://a.test/", {"all_proxy": "http://p:1", "no_proxy": "a.test:443"}, None),
        ("http://[::1]:81/", {"all_proxy": "http://p:1", "no_proxy": "[::1]"}, None),
    ],
)
def test_the_proxy_is_that_of_the_environment(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert find_proxy(url, environ) == proxy


BYPASSED = [
    ("example.com", "example.com"), ("example.com", ".example.com"), ("www.example.com", "example.com"),
    ("www.example.com", ".example.com"), ("EXAMPLE.com", "example.COM"), ("example.com.", "example.com"),
    ("example.com", "example.com."), ("a.b.example.com", "b.example.com"), ("anything", "*"), ("127.0.0.1", " * "),
    ("example.com", "a,b, example.com"), ("example.com", "a b example.com"), ("example.com", "a,\texample.com\n"),
    ("example.com", "example.com:80"), ("localhost", "localhost,127.0.0.1"),
    ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.1:80"), ("127.0.0.1", "127.0.0.0/8"), ("10.1.2.3", "10.0.0.0/8"),
    ("10.1.2.3", "10.1.2.3/32"), ("10.1.2.3", "10.1.2.0/255.255.255.0"),
    ("::1", "::1"), ("::1", "[::1]"), ("::1", "[::1]:80"), ("::1", "0:0:0:0:0:0:0:1"), ("fe80::7", "fe80::/10"),
    ("fe80::7%eth0", "fe80::/10"), ("2001:db8::1", "[2001:db8::]/32"),
]  # fmt: skip
PROXIED = [
    ("example.com", ""), ("example.com", " , "), ("example.com", "."), ("nonexample.com", "example.com"),
    ("example.com", "www.example.com"), ("example.com", "example.com:8080"), ("example.com", "ample.com"),
    ("example.com.evil.test", "example.com"), ("example.com", "93.184.216.34"), ("example.com", "0.0.0.0/0"),
    ("127.0.0.1", "127.0.0.1:8080"), ("127.0.0.1", "128.0.0.0/8"), ("127.0.0.1", "::1"), ("127.0.0.1", "0.0.1"),
    ("127.0.0.1", "10.0.0.0/33"), ("example.com", "a, *"), ("example.com", "*,a"), ("www.example.com", "*.example.com"),
    ("::1", "127.0.0.1"), ("::1", "[::1]:8080"), ("::2", "::1"), ("fe80::7", "fd00::/8"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "no_proxy"), BYPASSED)
def test_a_listed_host_is_reached_without_a_proxy(host: str, no_proxy: str) -> None:
    assert bypasses_proxy(host, 80, no_proxy)


@pytest.mark.parametrize(("host", "no_proxy"), PROXIED)
def test_any_other_host_is_reached_through_the_proxy(host: str, no_proxy: str) -> None:
    assert not bypasses_proxy(host, 80, no_proxy)


@pytest.mark.parametrize(
    ("url", "pair"),
    [
        ("http://me:secret@p:1", b"me:secret"),
        ("http://me@p:1", b"me:"),
        ("http://:secret@p:1", b":secret"),
        ("http://me:a%40b%3Ac@p:1", b"me:a@b:c"),
        ("http://me:a:b@p:1", b"me:a:b"),
        ("http://me:Passwört€@p:1", "me:Passwört€".encode()),
        ("http://me:%D0%BF%D0%B0%D1%80@p:1", "me:пар".encode()),
        ("http://me:%FC@p:1", b"me:\xfc"),
        ("http://me:\udcfc@p:1", b"me:\xfc"),
    ],
)
def test_credentials_in_a_url_become_a_header(url: str, pair: bytes) -> None:
    assert basic_credentials(url) == "Basic " + base64.b64encode(pair).decode()


def test_a_url_without_credentials_has_no_header() -> None:
    assert basic_credentials("http://p:1/a@b") is None


def test_credentials_are_taken_out_of_a_url() -> None:
    assert without_credentials("http://me:secret@h:1/p?q#f") == "http://h:1/p?q#f"
    assert without_credentials("http://h/p") == "http://h/p"


def test_socks_proxies_are_known_by_their_scheme() -> None:
    assert [is_socks(f"{scheme}://p") for scheme in ("socks5", "SOCKS5h", "socks4a", "http", "https")] == [
        True, True, True, False, False,
    ]  # fmt: skip
