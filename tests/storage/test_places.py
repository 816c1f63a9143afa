"""`~`, defaults from the environment, and addresses without their passwords."""

import os
import pwd
from pathlib import Path

import pytest
from support.runs import compose_config, compose_settings

from lungsound.config.overrides import compose_config as compose_with_hydra
from lungsound.config.overrides import reject_passwords
from lungsound.errors import ConfigError
from lungsound.storage.places import expand_user, remove_secrets, without_secrets

PATHS = ("output_dir", "store_dir", "data.root", "split.file", "tracking.uri")
ICBHI = ("data=icbhi", "data.root=/icbhi", "split=file", "split.file=/split.csv")


@pytest.mark.parametrize("key", PATHS)
def test_every_path_begins_at_home_if_it_says_so(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "sqlite:///" if key == "tracking.uri" else ""
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = compose_settings(*ICBHI, f"{key}='{prefix}~/a b'")
    places = [settings.output_dir, settings.store_dir, settings.data.root, settings.split.file]
    assert f"{prefix}{tmp_path}/a b" in [*places, settings.tracking.uri]
    for value, message in (("~nosuchuser/x", "home folder for ~nosuchuser"), ("", "got none")):
        with pytest.raises(ConfigError, match=f"{key}={prefix}{value}: .*{message}"):
            compose_settings(*ICBHI, f"{key}='{prefix}{value}'")


def test_the_home_folder_of_a_user_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    assert expand_user("~/x") == f"{pwd.getpwuid(os.getuid()).pw_dir}/x"
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456_789)  # a container's, in no passwd
    with pytest.raises(ConfigError, match="home folder for ~, but"):
        expand_user("~/x")
    for text in ("./~x", "a~b", "/data/~/x"):
        assert expand_user(text) == text


def test_hydra_makes_no_folder_of_the_sign_for_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = compose_with_hydra(["output_dir='~/o'"])
    assert cfg.hydra.sweep.dir == f"{tmp_path}/o/studies"


DEFAULTS = {  # variable -> key, and its value if the variable is empty
    "LUNGSOUND_DATA": ("root", None),
    "MLFLOW_TRACKING_URI": ("uri", "sqlite:///mlflow.db"),
    "MLFLOW_EXPERIMENT_NAME": ("experiment", "lungsound"),
}


@pytest.mark.parametrize("value", ["/data/me@work/100% #1", "http://host:5000", "sqlite:///x.db"])
@pytest.mark.parametrize("variable", DEFAULTS)
def test_the_environment_is_the_default(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == "MLFLOW_TRACKING_URI":
        value = value.replace("/data/me@", "databricks://")
    name, default = DEFAULTS[variable]
    for given in (value, "", None):
        if given is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, given)
        cfg, _ = compose_config("data=icbhi")
        assert (cfg.data if name == "root" else cfg.tracking)[name] == (given or default)
    monkeypatch.setenv(variable, "from the environment")
    words = ("data=icbhi", "data.root=t", "tracking.uri=t", "tracking.experiment=t")
    cfg, _ = compose_config(*words)
    assert (cfg.data.root, cfg.tracking.uri, cfg.tracking.experiment) == ("t", "t", "t")


SECRET = {  # an address -> the same without its password
    "http://ana:s3cret@host:5000": "http://host:5000",
    "https://s3cret@host/mlflow": "https://host/mlflow",
    "http://ana:s3@c/r:e?t@host": "http://host",
    "http://ana:my s3cret@host": "http://host",
    "http://ana:s3cret#key@host": "http://host",
    "HTTP://ana:s3cret@host": "HTTP://host",
    "http://host?token=s3cret": "http://host",
    "https://host/x?sig=s3cret": "https://host/x",
    "https://s3cret@host/path@v2": "https://host/path@v2",
    "http://host/#access_token=s3cret": "http://host/",
    "ana:s3cret@host": "host",
    "postgresql://ana:s3cret@host/db": "postgresql://ana@host/db",
    "postgresql+psycopg2://ana:s3@/cret@host/db": "postgresql+psycopg2://ana@host/db",
    "postgresql://host/db?user=ana&Password=s3cret": "postgresql://host/db",
    "mssql+pyodbc:///?odbc_connect=UID%3Dana%3BPWD%3Ds3cret": "mssql+pyodbc:///",
    "databricks://ana:s3cret@host": "databricks://host",
}
HARMLESS = (
    *("https://host/path@v2", "http://host/#/experiments/1", "file:///home/ana@work"),
    *("http://host:5000/mlflow", "databricks", "databricks://profile", "", "nonsense://here"),
    *("postgresql://ana@host/db?sslmode=require", "sqlite:////home/ana:b@work/token?key=#1/m.db"),
)


@pytest.mark.parametrize(("address", "public"), SECRET.items())
def test_a_password_is_removed_from_an_address_and_refused_on_the_command_line(
    address: str, public: str
) -> None:
    assert without_secrets(address) == public == without_secrets(public)
    for word in (address, f"'{address}'", f'"{address}"', f"sqlite:///x.db,{address}"):
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as error:
            reject_passwords(["-m", f"tracking.uri={word}"])
        assert "s3" not in str(error.value)
    words = [f"++tracking={{uri:{address}}}", f"'+tracking.uri={address}'"]
    if "://" in address:  # under any key, or none
        words += [address, f"--tracking.uri={address}", f"trackin.uri={address}"]
        words.append(f"data.root={address}")
        text = f'a: "{public}"\nb: {public}\n'
        assert remove_secrets(text.replace(public, address)) == text
    for word in words:
        with pytest.raises(ConfigError, match=rf"^{'data.root' if 'data.' in word else ''}[\w.]*="):
            reject_passwords([word])


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.job.env_set.MLFLOW_TRACKING_PASSWORD=s3cret", "tracking.password=s3cret",
        "--token", "+hydra.job.env_set={A:1,MLFLOW_TRACKING_TOKEN:s3cret}", "SECRET=s3cret",
    ],
)  # fmt: skip
def test_a_key_for_a_password_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as error:
        reject_passwords(["seed=1", word])
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("address", HARMLESS)
def test_an_address_without_a_password_stays(address: str) -> None:
    assert without_secrets(address) == address
    assert remove_secrets(f'a: {address}\n  b: "x"') == f'a: {address}\n  b: "x"'
    words = [f"tracking.uri={address}", "tracking.experiment=a:b@c", "data.root=a:b@c"]
    words += ["data.root=/my secret", "tracking.experiment=a,token", "+model.options={a:token}"]
    reject_passwords(words)
