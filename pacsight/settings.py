"""All settings: one ``pacsight.yaml`` plus ``PACSIGHT_*``; a frozen object handed down.

Environment variables win over the file; ``__`` separates levels (``PACSIGHT_SCP__PORT=11112``),
lists are JSON. Unknown keys are refused with the nearest known name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SettingsSourceError
from sqlalchemy import Engine, make_url

from dicom_out.destination import DeliveryConfig, Destination
from dicom_out.profile import PROFILES, Profile
from inference.config import InferenceConfig
from ledger.database import migrate, open_database
from ledger.secret import Secret
from ledger.store import Keys, Store, open_store
from pacsight.audit.config import AuditConfig
from pacsight.errors import SettingsError
from pacsight.monitoring.config import LogConfig, MonitoringConfig
from scp.config import CompletenessConfig, ListenerConfig, Source, StatRule
from viewer_api.config import WebConfig

PREFIX = "PACSIGHT_"
CONFIG_VARIABLE = "PACSIGHT_CONFIG"
DEFAULT_FILE = Path("pacsight.yaml")


class RetentionConfig(BaseModel):
    """How long images and files of results stay here. What is not delivered stays in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_days: float | None = Field(default=None, ge=0)
    """after the last object of a study came; None: for ever"""
    keep_bytes: int | None = Field(default=None, ge=0)
    """of images and results together: beyond it the oldest studies go; None: no limit"""


class Settings(BaseSettings):
    """Everything that can be set. Paths are relative to the working folder."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Path("pacsight-data")
    """ledger, engine, spool, results, artifacts, compiled models"""
    database_url: str | None = None
    """``postgresql://…`` to run on several machines; default: SQLite files in data_dir"""
    database_password: Secret | None = None
    """where database_url names none"""
    object_store_url: str | None = None
    """``file:///folder`` or ``s3://bucket/prefix`` that all machines reach; default: data_dir"""
    object_store_key_id: Secret | None = None
    object_store_key: Secret | None = None
    """of S3; without them credentials come from the usual variables or from the machine's role"""
    models_dir: Path = Path("checkpoints")
    scp: ListenerConfig = ListenerConfig()
    completeness: CompletenessConfig = CompletenessConfig()
    sources: tuple[Source, ...] = Field(default=())
    """senders that can be asked what they hold"""
    stat: tuple[StatRule, ...] = Field(default=())
    """which studies go first, besides those whose order or sender says so"""
    inference: InferenceConfig = InferenceConfig()
    destinations: tuple[Destination, ...] = Field(default=())
    profiles: tuple[Profile, ...] = Field(default=())
    """profiles of one's own, beside `dicom_out.profile.PROFILES`"""
    delivery: DeliveryConfig = DeliveryConfig()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    log: LogConfig = LogConfig()
    web: WebConfig = WebConfig()

    @field_validator("destinations")
    @classmethod
    def _names_differ(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        if len({destination.name for destination in value}) < len(value):
            raise ValueError("each destination needs a name of its own")
        return value

    @model_validator(mode="after")
    def _profiles_are_known(self) -> Self:
        names = [profile.name for profile in self.profiles]
        for name in names:
            if name in PROFILES or names.count(name) > 1:
                raise ValueError(f"profiles.name: '{name}' is taken; choose another name")
        for destination in self.destinations:
            if destination.profile not in {*PROFILES, *names}:
                near = _nearest(destination.profile, {*PROFILES, *names})
                raise ValueError(
                    f"destinations.profile: '{destination.profile}' is no profile.{near}"
                )
        return self

    def profile_of(self, destination: Destination) -> Profile:
        """Return what a destination gets, and how."""
        own = {profile.name: profile for profile in self.profiles}
        return {**PROFILES, **own}[destination.profile]

    @model_validator(mode="after")
    def _keys_come_together(self) -> Self:
        if (self.object_store_key_id is None) != (self.object_store_key is None):
            raise ValueError("object_store_key_id and object_store_key: set both or neither")
        return self

    @field_validator("object_store_url")
    @classmethod
    def _store_is_of_a_known_kind(cls, value: str | None) -> str | None:
        open_store(value, Path())
        return value

    @property
    def ledger_url(self) -> str:
        """Database of the ledger."""
        return self._database("ledger")

    @property
    def engine_url(self) -> str:
        """Database of the durable engine: a SQLite file of its own, or schema ``dbos``."""
        return self._database("engine")

    def _database(self, name: str) -> str:
        if self.database_url is None:
            return f"sqlite:///{(self.data_dir / f'{name}.sqlite').absolute()}"
        if self.database_password is None:
            return self.database_url
        url = make_url(self.database_url).set(password=self.database_password.get_secret_value())
        return url.render_as_string(hide_password=False)

    @property
    def spool_dir(self) -> Path:
        """Folder of the received segments."""
        return self.data_dir / "spool"

    def open_store(self) -> Store:
        """Return where heatmaps, masks and results lie."""
        keys = None
        if self.object_store_key_id is not None and self.object_store_key is not None:
            keys = Keys(
                self.object_store_key_id.get_secret_value(),
                self.object_store_key.get_secret_value(),
            )
        return open_store(self.object_store_url, self.data_dir, keys)

    def open_shared_store(self) -> Store | None:
        """Return where received objects go that other machines read; None on one machine."""
        return self.open_store() if self.object_store_url else None

    def inference_config(self) -> InferenceConfig:
        """Inference settings with the cache folder placed below data_dir unless set."""
        if self.inference.cache_dir is not None:
            return self.inference
        return self.inference.model_copy(update={"cache_dir": self.data_dir / "cache"})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the environment first, then what the file said."""
        return env_settings, init_settings


def load_settings(file: Path | None = None) -> Settings:
    """Read `file` (default: ``$PACSIGHT_CONFIG``, else ``pacsight.yaml`` if it exists).

    Raises
    ------
    SettingsError
        The file is missing or no YAML mapping, a key is unknown, or a value is wrong.
    """
    _refuse_unknown_variables(os.environ)
    _refuse_unknown_keys(_read_environment(), Settings, ())
    path = file or _default_file()
    values: dict[str, Any] = {}
    if path is not None:
        values = _read(path)
        _refuse_unknown_keys(values, Settings, ())
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_first_problem(error)) from error


def open_ledger(settings: Settings) -> Engine:
    """Open the ledger in its newest schema.

    Raises
    ------
    LedgerError
        The database can't be opened or was written by a newer Pacsight.
    """
    database = open_database(settings.ledger_url)
    migrate(database)
    return database


def _default_file() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML; check its indentation.") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold settings such as 'data_dir: …'.")
    return values


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsSourceError as error:
        raise SettingsError(
            f"{PREFIX}*: {str(error).split(' from source')[0]}; lists and sections in the "
            "environment are written as JSON, check quotes and brackets."
        ) from error


def _refuse_unknown_keys(
    values: Mapping[str, Any], model: type[BaseModel], at: tuple[str, ...]
) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            dotted = ".".join((*at, str(key)))
            raise SettingsError(f"Unknown setting '{dotted}'.{_nearest(key, model.model_fields)}")
        inner = model_in(model.model_fields[key].annotation)
        items = value if isinstance(value, list) else [value]
        if inner is not None:
            for item in items:
                if isinstance(item, dict):
                    _refuse_unknown_keys(item, inner, (*at, str(key)))


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, itself or as the items of a list."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {CONFIG_VARIABLE, *variable_names()}
    for name in environment:
        if name.startswith(PREFIX) and name.upper() not in known:
            raise SettingsError(f"Unknown variable {name}.{_nearest(name, known)}")


def variable_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    """Yield the name of every ``PACSIGHT_*`` variable that sets something."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}".upper()
        inner = model_in(field.annotation)
        if inner is not None and get_origin(field.annotation) is not tuple:  # lists are JSON
            yield from variable_names(inner, f"{prefix}{name}__")


def _nearest(name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(sorted(known))}."


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    what = problem["msg"].removeprefix("Value error, ")  # pydantic's, before our own sentences
    where = ".".join(str(part) for part in problem["loc"])  # empty: about several settings
    return f"Setting '{where}': {what}." if where else f"{what}."
