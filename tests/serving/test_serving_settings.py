"""The service's settings: what they refuse, and that the YAML of the repository says the same as the code."""

from pathlib import Path

import pytest
import yaml

from defectnet.errors import SettingsError
from serving.auth import hash_token
from serving.settings import ScoreSettings, ServiceSettings, is_loopback, load_service_settings


def test_loopback_by_default():
    assert ServiceSettings().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "some.host", ""])
def test_wider_address_needs_a_token(host: str):
    with pytest.raises(SettingsError, match="without a token"):
        ServiceSettings.from_yaml(None, host=host)
    assert ServiceSettings(host=host, tokens={"beamline": hash_token("secret")}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_names(host: str):
    assert is_loopback(host)


def test_a_token_in_clear_is_refused_without_being_repeated():
    with pytest.raises(SettingsError, match="not a SHA-256") as caught:
        ServiceSettings.from_yaml(None, tokens={"beamline": "my-secret-word"})
    assert "my-secret-word" not in str(caught.value)


def test_minimum_above_maximum():
    with pytest.raises(SettingsError, match="replicas"):
        ServiceSettings.from_yaml(None, replicas={"minimum": 3, "maximum": 2})


def test_packaged_yaml_is_what_serve_deploy_and_defectnet_serve_understand(repository: Path):
    from ray.serve.schema import ServeDeploySchema

    path = repository / "configs" / "serve.yaml"
    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    assert schema.applications[0].import_path == "serving.app:build"
    settings = load_service_settings(path)
    assert settings == ServiceSettings(replicas=settings.replicas, ingress=settings.ingress)
    # A default that is written twice drifts: only the model and the address, which a reader looks for, may repeat one.
    (application,) = yaml.safe_load(path.read_text())["applications"]
    fields = {name: value for name, value in application["args"].items() if not isinstance(value, dict)}
    assert fields == {"model": ServiceSettings().model}


def test_packaged_score_yaml(repository: Path):
    assert ScoreSettings.from_yaml(repository / "configs" / "score.yaml").model == ScoreSettings().model


def test_command_line_wins_over_the_file(repository: Path):
    assert load_service_settings(repository / "configs" / "serve.yaml", port=1234, model=None).port == 1234


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications: [", "not YAML"),
        ("port: 8000", "one application"),
        ("applications: [{name: a, args: {ports: 3}}]", "ports"),
        ("applications: [{name: a, args: {max_spectra: 0}}]", "max_spectra"),
        ("http_options: {host: 0.0.0.0}\napplications: [{name: a}]", "without a token"),
    ],
)
def test_bad_file_gives_one_sentence(tmp_path: Path, text: str, said: str):
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        load_service_settings(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot read"):
        load_service_settings(tmp_path / "none.yaml")
