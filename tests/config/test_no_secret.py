"""No secret is in what `load` says, logs or shows, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from session_pool.config import load
from session_pool.errors import ConfigError

URL = "https://stack.example.com"
SECRET = "v3ry-s3cret-v3ry-s3cret"


def everything_of(error: BaseException) -> str:
    return "".join((str(error), repr(error), *traceback.format_exception(error)))


@pytest.mark.parametrize(
    "foundry",
    [
        {"token": f"Bearer {SECRET}"},
        {"token": f"{SECRET} with white space"},
        {"token": {"file": "/x", "text": SECRET}},
        {"token": [SECRET]},
        {"token": {"text": SECRET}},
        {"tokn": SECRET},
        {"client_id": "app", "client_secret": [SECRET]},
        {"client_id": "", "client_secret": SECRET},
        {"client_secret": SECRET},
        {"token": SECRET, "client_secret": SECRET},
        {"token": "t", "url": f"https://user:{SECRET}@stack.example.com"},
        {"token": "t", "url": f"user:{SECRET}@stack.example.com"},
        {"token": SECRET, "allow_http": "perhaps"},
    ],
)
def test_no_mistake_tells_a_secret(
    file: Path, foundry: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def toml(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
        return repr(value)

    fields = {"url": URL} | foundry
    file.write_text(
        "[foundry]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in fields.items()),
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert SECRET not in everything_of(caught.value) + caplog.text
    variables = {f"SESSION_POOL__FOUNDRY__{name}": toml(it) for name, it in fields.items()}
    with pytest.raises(ConfigError) as caught:
        load(None, variables)
    assert SECRET not in everything_of(caught.value) + caplog.text


@pytest.mark.parametrize(
    "foundry", [{"token": SECRET}, {"client_id": "app", "client_secret": SECRET}]
)
def test_the_repr_of_settings_tells_no_secret(foundry: dict[str, str]) -> None:
    environ = {f"SESSION_POOL__FOUNDRY__{name}": value for name, value in foundry.items()}
    environ["FOUNDRY_HOSTNAME"] = "stack.example.com"
    settings = load(None, environ, store=f"redis://user:{SECRET}@host/0")
    assert SECRET not in repr(settings) + str(settings) + repr(settings.origins)
    assert URL in repr(settings)


def test_a_file_that_is_no_text_is_told_so_without_its_bytes(file: Path) -> None:
    file.write_bytes(b'[foundry]\ntoken = "\xff' + SECRET.encode() + b'"\n')
    with pytest.raises(ConfigError, match="is not UTF-8 text") as caught:
        load(file, {})
    assert SECRET not in everything_of(caught.value)
