"""Settings from the file and the environment, and every way to get them wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from pacsight.errors import SettingsError
from pacsight.settings import load_settings


def _file(folder: Path, text: str) -> Path:
    path = folder / "pacsight.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.scp.ae_title == "PACSIGHT"
    assert settings.ledger_url == f"sqlite:///{tmp_path}/pacsight-data/ledger.sqlite"
    assert settings.engine_url == f"sqlite:///{tmp_path}/pacsight-data/engine.sqlite"
    assert settings.inference_config().cache_dir == Path("pacsight-data/cache")


def test_file_in_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _file(tmp_path, "scp: {port: 4711}\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().scp.port == 4711


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, "scp: {port: 4711, ae_title: FROMFILE}\n")
    monkeypatch.setenv("PACSIGHT_SCP__PORT", "4712")
    monkeypatch.setenv("PACSIGHT_DATABASE_URL", "postgresql://pacs@db/pacsight")
    settings = load_settings(path)
    assert (settings.scp.port, settings.scp.ae_title) == (4712, "FROMFILE")
    assert settings.ledger_url == settings.engine_url == "postgresql://pacs@db/pacsight"


def test_destinations_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PACSIGHT_DESTINATIONS", '[{"name": "a", "ae_title": "PACS", "host": "h", "port": 104}]'
    )
    (destination,) = load_settings(_file(tmp_path, "")).destinations
    assert (destination.ae_title, destination.port) == ("PACS", 104)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("scpp: {}", "Unknown setting 'scpp'. Did you mean 'scp'?"),
        ("scp: {prot: 104}", "Unknown setting 'scp.prot'. Did you mean 'port'?"),
        (
            "destinations: [{name: a, ae_titel: X, host: h, port: 1}]",
            "Unknown setting 'destinations.ae_titel'. Did you mean 'ae_title'?",
        ),
        ("scp: {port: many}", "Setting 'scp.port': Input should be a valid integer"),
        ("scp: {ae_title: A TITLE THAT IS TOO LONG}", "Setting 'scp.ae_title': an AE title has"),
        ("scp: {allowed_peers: [{address: nowhere}]}", "Setting 'scp.allowed_peers.0.address'"),
        (
            "destinations: [{name: a, ae_title: X, host: h, port: 1},"
            " {name: a, ae_title: Y, host: h, port: 1}]",
            "each destination needs a name of its own",
        ),
        ("destinations: [{name: 'a:b', ae_title: X, host: h, port: 1}]", "destinations.0.name"),
        ("- a\n- b", "must hold settings"),
        ("scp: {", "is not valid YAML"),
    ],
)
def test_wrong_file_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=r"\.") as caught:
        load_settings(_file(tmp_path, text))
    assert sentence in str(caught.value)


def test_unknown_variable_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACSIGHT_SCP__PROT", "104")
    with pytest.raises(SettingsError, match="Did you mean 'PACSIGHT_SCP__PORT'"):
        load_settings(_file(tmp_path, ""))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[{", 'error parsing value for field "destinations"; lists and sections'),
        ('[{"nmae": "a"}]', "Unknown setting 'destinations.nmae'. Did you mean 'name'?"),
        ('[{"name": "a"}]', "Setting 'destinations.0.ae_title': Field required."),
    ],
)
def test_wrong_variable_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("PACSIGHT_DESTINATIONS", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(_file(tmp_path, ""))
    assert sentence in str(caught.value)


def test_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings(tmp_path / "nowhere.yaml")


def test_secrets_come_from_files_and_are_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("database", "oidc", "user"):
        (tmp_path / name).write_text(f"p@ss/{name}\n", encoding="utf-8")
    monkeypatch.setenv("PACSIGHT_DATABASE_URL", "postgresql://pacs@db/pacsight")
    monkeypatch.setenv("PACSIGHT_DATABASE_PASSWORD", f"file:{tmp_path}/database")
    monkeypatch.setenv("PACSIGHT_WEB__OIDC__ISSUER", "https://id.hospital")
    monkeypatch.setenv("PACSIGHT_WEB__OIDC__CLIENT_ID", "pacsight")
    monkeypatch.setenv("PACSIGHT_WEB__OIDC__CLIENT_SECRET", f"file://{tmp_path}/oidc")
    peer = (
        "destinations: [{name: a, ae_title: X, host: h, port: 1, tls: {authorities: a.pem},"
        f" user: {{name: u, password: 'file:{tmp_path}/user'}}}}]"
    )
    settings = load_settings(_file(tmp_path, peer))
    assert settings.ledger_url == settings.engine_url
    assert make_url(settings.ledger_url).password == "p@ss/database"
    assert settings.web.oidc is not None
    assert settings.web.oidc.client_secret.get_secret_value() == "p@ss/oidc"
    assert settings.destinations[0].user is not None
    assert settings.destinations[0].user.password.get_secret_value() == "p@ss/user"
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "can't be read: No such file"), (b"\n", "is empty"), (b"\xff\xfe", "is not text")],
)
def test_secret_file_that_holds_none_is_refused(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=r"database_password.*secret") as caught:
        load_settings(_file(tmp_path, f"database_password: 'file:{tmp_path}/secret'"))
    assert sentence in str(caught.value)


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set both or neither"):
        load_settings(_file(tmp_path, "object_store_key: secret"))
