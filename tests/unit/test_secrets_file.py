from pathlib import Path
from typing import Any

import pytest

from collab_server.secrets_file import jwt_secret
from collab_server.settings import Settings
from schemas.errors import ConfigurationError


def settings(data_dir: Path, **changes: Any) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, **changes)


def test_in_development_a_secret_is_made_once_and_kept(tmp_path: Path):
    first = jwt_secret(settings(tmp_path / "new"))
    assert len(first) >= 32
    assert jwt_secret(settings(tmp_path / "new")) == first
    assert jwt_secret(settings(tmp_path / "other")) != first


def test_only_its_owner_may_read_the_file(tmp_path: Path):
    jwt_secret(settings(tmp_path))
    assert (tmp_path / "jwt.secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["jwt.secret"]


def test_production_without_a_secret_does_not_start(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="COLLAB_JWT_SECRET"):
        jwt_secret(settings(tmp_path, environment="production"))
    assert not (tmp_path / "jwt.secret").exists()


@pytest.mark.parametrize("weak", ["", "short", "x" * 64, "changeme" * 8])
def test_a_short_or_repeated_secret_is_refused_and_not_shown(tmp_path: Path, weak: str):
    with pytest.raises(ConfigurationError) as caught:
        jwt_secret(settings(tmp_path, environment="production", jwt_secret=weak))
    assert not weak or weak not in str(caught.value)


def test_a_good_secret_is_taken_as_it_is(tmp_path: Path):
    good = "9f1c6a0e5b7d4c3e8a2f1b0c9d8e7f60"
    assert jwt_secret(settings(tmp_path, environment="production", jwt_secret=good)) == good.encode()


def test_a_damaged_file_is_told_instead_of_replaced(tmp_path: Path):
    (tmp_path / "jwt.secret").write_text("cut off")
    with pytest.raises(ConfigurationError, match=r"jwt\.secret"):
        jwt_secret(settings(tmp_path))
