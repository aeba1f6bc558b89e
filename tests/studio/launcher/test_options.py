"""The command line of `up`, and the port it listens on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from studio.launcher.entry import before_django, up_parser
from studio.launcher.errors import LauncherError
from studio.launcher.options import Options, free_port, is_loopback, read_options


def options(*words, **environ):
    return read_options(vars(up_parser().parse_args(words)), environ)


def test_options__come_from_arguments_then_environment_then_defaults(tmp_path):
    environ = {"STUDIO_PORT": "9000", "STUDIO_HOST": "::1", "STUDIO_HOME": str(tmp_path)}
    assert (options().host, options().port, options().workers) == ("127.0.0.1", 8000, 2)
    assert (options(**environ).host, options(**environ).port, options(**environ).data) == ("::1", 9000, tmp_path)
    chosen = options("--port", "8123", "--data", "~/elsewhere", "--no-agent", "--no-sample", "--json", **environ)
    assert chosen.port == 8123
    assert chosen.data == Path.home().resolve() / "elsewhere"
    assert (chosen.agent, chosen.sample, chosen.json) == (False, False, True)


@pytest.mark.parametrize("port", ["http", "-1", "65536", "8000.0", "", "٨٠٠٠"])
def test_options__refuse_what_is_no_port(port):
    if port == "":
        assert options("--port", port).port == 8000
        return
    with pytest.raises(LauncherError, match="whole number from 0 to 65535"):
        options(f"--port={port}")


def test_options__refuse_no_workers():
    with pytest.raises(LauncherError, match="number of workers"):
        options("--workers", "0")


def test_environment__keeps_what_a_person_has_set_for_the_outside(tmp_path):
    asked = Options(data=tmp_path, host="0.0.0.0", port=8123)
    environment = asked.environment({"STUDIO_URL": "https://studio.example", "STUDIO_ALLOWED_HOSTS": "studio.example"})
    assert environment["STUDIO_URL"] == "https://studio.example"
    assert environment["STUDIO_ALLOWED_HOSTS"] == "studio.example"
    assert environment["STUDIO_INTERNAL_URL"] == "http://127.0.0.1:8123"
    assert Options(data=tmp_path, host="::1").environment({})["STUDIO_URL"] == "http://[::1]:8000"
    assert "192.0.2.7" in Options(data=tmp_path, host="192.0.2.7").environment({})["STUDIO_ALLOWED_HOSTS"]


def test_free_port__finds_one_for_zero(tmp_path):
    assert free_port(Options(data=tmp_path, port=0)) > 0


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_free_port__names_the_port_and_the_option_when_it_is_taken(tmp_path, address):
    with socket.socket() as other:
        other.bind((address, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LauncherError, match=rf"Port {port} on 127.0.0.1 is in use.*--port"):
            free_port(Options(data=tmp_path, port=port))


def test_free_port__says_when_the_address_is_wrong(tmp_path):
    with pytest.raises(LauncherError, match=r"192\.0\.2\.1 is not an address of this computer"):
        free_port(Options(data=tmp_path, host="192.0.2.1", port=8000))
    with pytest.raises(LauncherError, match="no address called"):
        free_port(Options(data=tmp_path, host="no such host", port=8000))


def test_is_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.0.2.1", "studio")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_up__prints_one_sentence_for_a_wrong_option(capsys):
    assert before_django(["manage.py", "up", "--port", "many"]) == 1
    assert capsys.readouterr().err == "The port must be a whole number from 0 to 65535, not 'many'.\n"


def test_up__prints_one_sentence_for_a_wrong_folder(capsys, tmp_path):
    (tmp_path / "data").write_text("")
    assert before_django(["manage.py", "up", "--data", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err.startswith("The data folder")


def test_down__is_content_with_a_folder_that_is_not_there(capsys, tmp_path):
    assert before_django(["manage.py", "down", "--data", str(tmp_path / "none")]) == 0
    assert "no data folder" in capsys.readouterr().out
