"""One frozen Settings, read once. Every field is an environment variable with the prefix COLLAB_."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

KIB = 1024
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Units stand in the names. ``docs/operations.md`` lists every field; a test holds it to that."""

    model_config = SettingsConfigDict(env_prefix="COLLAB_", env_file=".env", frozen=True, extra="ignore")

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str = "http://127.0.0.1:8000"
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    data_dir: Path = Path("data")
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    jwt_secret: SecretStr | None = None
    access_token_seconds: int = Field(600, ge=30, le=900)
    refresh_idle_days: int = Field(7, ge=1)
    refresh_absolute_days: int = Field(30, ge=1)
    refresh_grace_seconds: int = Field(10, ge=0, le=60)
    ticket_seconds: int = Field(60, ge=5, le=300)
    password_hash_memory_kib: int = Field(19_456, ge=1024)
    password_hash_passes: int = Field(2, ge=1)
    password_hash_slots: int = Field(2, ge=1, le=16)

    max_body_bytes: int = Field(1 * MIB, ge=KIB)
    max_frame_bytes: int = Field(8 * MIB, ge=64 * KIB)
    max_update_bytes: int = Field(1 * MIB, ge=64 * KIB)
    client_id_ownership: Literal["strict", "relaxed"] = "strict"
    max_document_bytes: int = Field(50 * MIB, ge=MIB)
    max_awareness_bytes: int = Field(64 * KIB, ge=KIB)
    max_awareness_state_bytes: int = Field(8 * KIB, ge=256)
    max_documents_per_socket: int = Field(100, ge=1)
    outbox_bytes: int = Field(4 * MIB, ge=64 * KIB)
    auth_deadline_seconds: float = Field(5.0, gt=0)
    keepalive_seconds: float = Field(10.0, gt=0, le=20)
    awareness_tick_ms: int = Field(30, ge=0, le=1000)
    awareness_expiry_seconds: float = Field(30.0, gt=0)

    storage_window_seconds: float = Field(30.0, gt=0)
    storage_window_bytes: int = Field(64 * MIB, ge=MIB)
    document_window_bytes: int = Field(4 * MIB, ge=64 * KIB)
    poll_seconds: float = Field(2.0, gt=0)
    unload_after_seconds: float = Field(30.0, ge=0)
    compact_after_updates: int = Field(500, ge=2)
    keep_rows_hours: float = Field(24.0, ge=0)
    drain_seconds: float = Field(10.0, gt=0)

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
        return value

    @cached_property
    def database(self) -> str:
        """The database URL in SQLAlchemy's form, SQLite in ``data_dir`` unless one is set."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.data_dir / 'collab.db'}"
        url = self.database_url.get_secret_value()
        for short in ("postgres://", "postgresql://"):
            if url.startswith(short):
                return "postgresql+asyncpg://" + url.removeprefix(short)
        return url
