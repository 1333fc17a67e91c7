"""Where a served model may be, and how its key is read."""

import pickle
from ipaddress import ip_address

import httpx
import pytest

from canary_audit.endpoints.address import parse_address, read_api_key
from canary_audit.errors import ConfigError

KEY = "sk-3vErYsEcReT"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://Host.example/v1", "https://host.example"),
        ("https://host.example:443/api/v1/", "https://host.example/api"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("https://a_b.internal/openai/v1beta", "https://a_b.internal/openai/v1beta"),
    ],
)
def test_addresses_are_taken_apart_and_lose_their_version(url, text):
    address = parse_address(url)
    assert str(address) == text
    assert str(parse_address(text)) == text
    sent = httpx.URL(f"{address}/v1/models")
    assert (sent.host, sent.port or address.port) == (address.host, address.port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://host:0",
        "http://host:65536",
        "http://host:x",
        "http://host/v1?model=x",
        "http://host/v1#x",
        "http://host\\@other/",
        "http://host/a b",
        "http://host\r\nHost: other",
        "http://host/../v1",
        "http://host/%2e%2e/v1",
        "http://höst/",
        "http://169.254.169.254\u3002/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ConfigError, match="address of the model"):
        parse_address(url)


@pytest.mark.parametrize("url", [f"https://user:{KEY}@host/v1", f"http://{KEY}@host", f"https://host/v1?key={KEY}"])
def test_credentials_in_an_address_are_refused_and_not_repeated(url):
    with pytest.raises(ConfigError) as refusal:
        parse_address(url)
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.100.100.200"),  # noqa: S104
        *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xa9.254.43518", "169.254.43518", "169.254.169.254."),
        *("[::]", "[fe80::1]", "[febf::1]", "[ff02::1]", "[fd00:ec2::254]", "[fd20:ce::254]"),
        *("[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::169.254.169.254]"),
        "[2002:a9fe:a9fe::1]",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_however_they_are_spelled(host):
    with pytest.raises(ConfigError):
        parse_address(f"http://{host}/latest/meta-data")


@pytest.mark.parametrize("peer", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"])  # noqa: S104
def test_a_name_that_leads_to_such_an_address_is_refused(peer):
    with pytest.raises(ConfigError, match="link-local"):
        parse_address("https://model.example").check_peer(ip_address(peer), has_key=False)


def test_a_key_crosses_public_networks_only_encrypted():
    plain, encrypted = parse_address("http://model.example"), parse_address("https://model.example")
    with pytest.raises(ConfigError, match="unencrypted"):
        plain.check_peer(ip_address("8.8.8.8"), has_key=True)
    plain.check_peer(ip_address("8.8.8.8"), has_key=False)
    encrypted.check_peer(ip_address("8.8.8.8"), has_key=True)
    for private in ("127.0.0.1", "10.1.2.3", "192.168.0.4", "::1", "fd12::1"):
        plain.check_peer(ip_address(private), has_key=True)


def test_a_key_comes_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_KEY", KEY)
    (tmp_path / "key").write_text(f"{KEY}\n")
    expected = {"Authorization": f"Bearer {KEY}"}
    assert read_api_key(None) is None
    assert read_api_key("env:MODEL_KEY").header() == expected
    assert read_api_key(f"file:{tmp_path / 'key'}").header() == expected


@pytest.mark.parametrize(
    "reference", [KEY, "", f"env:{KEY}", f"env:{KEY.replace('-', '_')}", f"file:{KEY}", f"x:{KEY}"]
)
def test_a_key_given_itself_is_refused_and_not_repeated(reference):
    with pytest.raises(ConfigError) as refusal:
        read_api_key(reference)
    assert "3vErYsEcReT" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xc3\xa4", b"a\tb", b"k" * 9000])
def test_a_missing_or_odd_key_is_refused_by_the_name_of_its_place(content, tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        read_api_key(f"file:{path}")
    monkeypatch.delenv("MODEL_KEY", raising=False)
    with pytest.raises(ConfigError, match="env:MODEL_KEY"):
        read_api_key("env:MODEL_KEY")
    with pytest.raises(ConfigError, match="No such file"):
        read_api_key(f"file:{tmp_path / 'none'}")


def test_a_key_cannot_be_printed_or_pickled(monkeypatch):
    monkeypatch.setenv("MODEL_KEY", KEY)
    key = read_api_key("env:MODEL_KEY")
    assert KEY not in f"{key} {key!r}"
    with pytest.raises(TypeError):
        pickle.dumps(key)
