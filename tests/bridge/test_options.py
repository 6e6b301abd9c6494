"""Options: which source wins, and what each refused value is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.errors import UsageError
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.options import Options


def gather(
    flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None, **more: Any,
) -> Options:
    return Options.gather(flags or {}, environment or {}, **more)


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_defaults_are_those_of_the_interface() -> None:
    options = gather()
    assert (options.dns, options.ssh, options.trace_level, options.log_format) == ("auto", "auto", "info", "text")
    assert options.route == options.exclude == options.allow == options.deny == options.command == ()
    assert options.mtu is None
    assert options.gui is None
    assert options.capture_all is False


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path, 'dns = "off"\nmtu = 1400\nssh = "openssh"\n')
    options = gather({"dns": "all"}, {"NETBRIDGE_DNS": "auto", "NETBRIDGE_MTU": "1300"}, config=file)
    assert (options.dns, options.mtu, options.ssh, options.log_format) == ("all", 1300, "openssh", "text")


def test_a_list_replaces_the_list_of_a_weaker_source(tmp_path: Path) -> None:
    file = write(tmp_path, 'route = ["10.0.0.0/8"]\nexclude = ["10.9.0.0/16"]')
    options = gather({"route": ["10.1.0.0/16", "fd00::/8"]}, {"NETBRIDGE_ROUTE": "10.2.0.0/16"}, config=file)
    assert options.route == ("10.1.0.0/16", "fd00::/8")
    assert options.exclude == ("10.9.0.0/16",)


def test_lists_in_the_environment_are_separated_by_commas_or_blanks() -> None:
    options = gather(environment={
        "NETBRIDGE_ROUTE": "10.0.0.0/8, 10.1.2.3",
        "NETBRIDGE_ALLOW": "127.0.0.1:80,443 [::1]:5432",
        "NETBRIDGE_DNS_DOMAIN": "Corp.Example. .lan",
    })
    assert options.route == ("10.0.0.0/8", "10.1.2.3/32")
    assert options.allow == ("127.0.0.1:80,443", "[::1]:5432")
    assert options.dns_domain == ("corp.example", "lan")


def test_an_empty_variable_is_an_unset_one() -> None:
    assert gather(environment={"NETBRIDGE_DNS": "", "NETBRIDGE_ROUTE": ""}).dns == "auto"


def test_the_environment_may_name_the_file_and_a_flag_another(tmp_path: Path) -> None:
    named = write(tmp_path, "mtu = 1400")
    other = tmp_path / "other.toml"
    other.write_text("mtu = 1450")
    assert gather(environment={"NETBRIDGE_CONFIG": str(named)}).mtu == 1400
    assert gather(environment={"NETBRIDGE_CONFIG": str(named)}, config=other).mtu == 1450


def test_the_default_file_may_be_missing_a_named_one_not(tmp_path: Path) -> None:
    assert gather(default_config=tmp_path / "none.toml").dns == "auto"
    with pytest.raises(UsageError, match="There is no configuration file"):
        gather(config=tmp_path / "none.toml")


@pytest.mark.parametrize(("name", "value", "message"), [
    ("route", ["10.0.0.0/33"], "is not a network"),
    ("route", ["10.0.0.1/8"], r"10\.0\.0\.0/8 was perhaps meant"),
    ("exclude", ["example.org"], "is not a network"),
    ("allow", ["10.0.0.0/8:0"], "1 to 65535"),
    ("deny", ["10.0.0.0/8:90-80"], "ends before it begins"),
    ("dns", "some", "none of auto, all, off"),
    ("dns_domain", ["-bad-.example"], "not a domain suffix"),
    ("dns_domain", ["."], "not a domain suffix"),
    ("ssh", "putty", "none of auto, asyncssh, openssh"),
    ("mtu", "1279", "from 1280 to 65535"),
    ("mtu", "many", "from 1280 to 65535"),
    ("gui", "maybe", "neither true nor false"),
    ("trace_level", "loud", "none of none, trace"),
    ("log_file", "", "not a file name"),
    ("target", " ", "empty or no text"),
])
def test_a_refused_value_names_its_source(name: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        gather({name: value})
    assert caught.value.why == f"It came from the option --{name.replace('_', '-')}."
    assert caught.value.exit_code == 2


def test_a_refused_value_of_the_file_names_file_and_key(tmp_path: Path) -> None:
    file = write(tmp_path, "route = 7")
    with pytest.raises(UsageError, match="text or a list of texts") as caught:
        gather(config=file)
    assert str(file) in caught.value.why
    assert "key route" in caught.value.why


@pytest.mark.parametrize(("text", "message"), [
    ("dns = ", "cannot be read"),
    ("rout = []", "Perhaps 'route' was meant"),
    ("[table]\nx = 1", "unknown key 'table'"),
    ("mtu = true", "from 1280"),
    ("dns-domain = [1]", "list of texts"),
])
def test_a_faulty_file_is_a_usage_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gather(config=write(tmp_path, text))


def test_a_file_that_is_no_text_or_too_large_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageError, match="cannot be read"):
        gather(config=file)
    file.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="larger than"):
        gather(config=file)
    with pytest.raises(UsageError, match="cannot be read"):
        gather(config=tmp_path)


def test_file_keys_may_be_written_with_underscores(tmp_path: Path) -> None:
    assert gather(config=write(tmp_path, 'dns_domain = ["lan"]\nall = true')).dns_domain == ("lan",)


def test_contradicting_dns_options_are_refused() -> None:
    with pytest.raises(UsageError, match="contradict"):
        gather({"dns": "off", "dns_domain": ["lan"]})


def test_limits_are_settings_one_by_one(tmp_path: Path) -> None:
    file = write(tmp_path, '[limits]\ntcp-flows = 100\nudp_flows = 200\nbytes-per-flow = "1MiB"\n')
    options = gather(
        {"limits": ["tcp-flows=300"]}, {"NETBRIDGE_LIMITS": "udp-flows=400 icmp-flows=5"}, config=file,
    )
    limits = options.limits
    assert (limits.tcp_flows, limits.udp_flows, limits.icmp_flows, limits.bytes_per_flow) == (300, 400, 5, 1 << 20)
    assert limits.tcp_connect_timeout == Limits().tcp_connect_timeout
    assert gather().limits == Limits()


@pytest.mark.parametrize(("flags", "environment", "toml", "source"), [
    ({"limits": ["tcp-flows=1"]}, {}, "", "the option --limit"),
    ({}, {"NETBRIDGE_LIMITS": "tcp-flows=1"}, "", "the environment variable NETBRIDGE_LIMITS"),
    ({}, {}, "[limits]\ntcp-flows = 1", "config.toml, key limits"),
])
def test_a_limit_out_of_range_is_refused(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], toml: str, source: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        gather(flags, environment, config=write(tmp_path, toml))
    assert "the limit tcp-flows is a whole number of flows from 8 to 65,536" in str(caught.value)
    assert "Each costs a descriptor" in str(caught.value)
    assert source in str(caught.value)


def test_host_alias_and_own_addresses() -> None:
    options = gather({"host_alias": True, "allow": ["127.0.0.1:8080"], "deny": ["local", "local:22"]})
    assert (options.host_alias, options.deny) == (True, ("local", "local:22"))
    assert gather(environment={"NETBRIDGE_HOST_ALIAS": "yes", "NETBRIDGE_DENY": "local"}).host_alias
    assert not gather().host_alias
    with pytest.raises(UsageError, match="`local` is a word for --deny"):
        gather({"allow": ["local:80"]})
