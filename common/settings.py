"""Every setting of the project, read once from the environment and `.env`.

This is the only module that reads either. A variable of the environment wins over the same
variable in `.env`; `.env.example` lists them all with their defaults.
"""

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dotenv import dotenv_values

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable."""

    exit_code = 2


def _setting(variable: str, default: object = "") -> object:
    """Declare a field that is filled from `variable` of the environment or `.env`."""
    return field(default=default, metadata={"variable": variable})


@dataclass(frozen=True)
class Settings:
    """The settings of one run. Paths are absolute; relative ones count from the project's root."""

    milvus_uri: str = _setting("MILVUS_URI", ".milvus/milvus.db")
    milvus_token: str = _setting("MILVUS_TOKEN")
    milvus_db_name: str = _setting("MILVUS_DB_NAME")
    milvus_timeout: float = _setting("MILVUS_TIMEOUT", 10.0)
    milvus_server_pem: str = _setting("MILVUS_SERVER_PEM")
    milvus_server_name: str = _setting("MILVUS_SERVER_NAME")
    milvus_ca_pem: str = _setting("MILVUS_CA_PEM")
    milvus_client_pem: str = _setting("MILVUS_CLIENT_PEM")
    milvus_client_key: str = _setting("MILVUS_CLIENT_KEY")
    text_model: str = _setting("TEXT_MODEL")
    text_model_ko: str = _setting("TEXT_MODEL_KO")
    image_model: str = _setting("IMAGE_MODEL")
    llm_base_url: str = _setting("LLM_BASE_URL")
    llm_model: str = _setting("LLM_MODEL")
    llm_api_key: str = _setting("LLM_API_KEY")
    llm_timeout: float = _setting("LLM_TIMEOUT", 60.0)
    kafka_bootstrap: str = _setting("KAFKA_BOOTSTRAP")
    out_dir: Path = _setting("OUT_DIR", Path("out"))
    cache_dir: Path = _setting("CACHE_DIR", Path(".cache"))

    @classmethod
    def variables(cls) -> dict[str, object]:
        """The environment variables that are read, each with its default."""
        return {f.metadata["variable"]: f.default for f in cls.__dataclass_fields__.values()}

    @classmethod
    def chosen(cls, variable: str) -> str:
        """What the environment, or else `.env`, says of one variable; empty if neither does."""
        text = os.environ.get(variable) or dotenv_values(PROJECT_ROOT / ".env").get(variable)
        return (text or "").strip()

    @classmethod
    def read(cls, environment: dict[str, str] | None = None, env_file: Path | None = None):
        """Read the settings from `environment` and, for what it lacks, from `env_file`.

        An empty variable counts as unset, so `MILVUS_URI= python script.py` gives the default.

        Raises:
            SettingsError: a value cannot be converted to the type of its setting.
        """
        environment = dict(os.environ) if environment is None else environment
        file_values = dotenv_values(env_file or PROJECT_ROOT / ".env")
        values = {}
        for name, f in cls.__dataclass_fields__.items():
            variable = f.metadata["variable"]
            text = environment.get(variable) or file_values.get(variable) or ""
            values[name] = _convert(variable, text.strip(), f.default)
        if values["milvus_uri"] == cls.milvus_uri:
            # One embedded database for the project, wherever a script is called from.
            values["milvus_uri"] = str(PROJECT_ROOT / cls.milvus_uri)
        return cls(**values)


def _convert(variable: str, text: str, default: object) -> object:
    """Convert `text` to the type of `default`; an empty text gives the default."""
    if isinstance(default, Path):
        return PROJECT_ROOT / (Path(text).expanduser() if text else default)
    if not text:
        return default
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise SettingsError(f"{variable}={text!r} is not a positive number of seconds")
        return number
    return text


@cache
def settings() -> Settings:
    """The settings of this process; read at the first call."""
    return Settings.read()
