"""What every section of a configuration is: checked, unchangeable, without unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
