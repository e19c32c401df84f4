"""Settings read from `configs/*.yaml`: frozen pydantic models that refuse what they do not know."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from defectnet.errors import SettingsError

__all__ = ["Settings", "read_yaml"]


class Settings(BaseModel):
    """Base of every group of settings.

    Subclasses document each field by a text right below it: its unit, and the reason of its default. That text is the
    field's description, which the JSON schema of the settings has too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def from_yaml(cls, path: str | Path | None = None, **overrides: Any) -> Self:
        """Read settings from a YAML file; `overrides` that are not None win over the file.

        Raises:
            SettingsError: the file cannot be read, is not a mapping, or has an unknown or impossible value.
        """
        values: dict[str, Any] = {}
        where = "the settings"
        if path is not None:
            where = str(path)
            loaded = read_yaml(path)
            if loaded is not None and not isinstance(loaded, dict):
                raise SettingsError(f"{path} holds no settings; write one `name: value` a line")
            values = loaded or {}
        values |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "settings"
            raise SettingsError(f"{name} in {where}: {first['msg']}; see configs/ for an example") from None


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds; raises `SettingsError` where it cannot be read or is no YAML."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")[:160]
        raise SettingsError(f"{path} is not YAML ({reason}); repair it") from None
