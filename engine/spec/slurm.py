"""What a run asks of Slurm: one job of an array, each a worker or several on one node."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

# Words that go into sbatch's argument list. None can begin an option or hold a space.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:@+-]{0,127}$")]
LINE = re.compile(r"#SBATCH +--?[A-Za-z][ -~]{0,500}")


class Slurm(BaseModel):
    """The jobs of one array are alike; each computes whatever of the run is ready."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    time: str | None = Field(
        default=None,
        pattern=r"^(\d{1,7}(:\d{1,2}){0,2}|\d{1,4}-\d{1,2}(:\d{1,2}){0,2})$",
        description="Limit of each job, as in 30, 12:00:00 or 2-00:00:00.",
    )
    gpus: int | None = Field(
        default=None, ge=0, le=64, description="Of each job. Default: 1, and 0 with device cpu."
    )
    memory: str | None = Field(
        default=None, pattern=r"^\d{1,9}[KMGT]?$", description="Of each job, as in 16G."
    )
    array_size: int = Field(default=1, ge=1, le=10_000, description="Jobs at once.")
    notice: int = Field(
        default=120, ge=1, le=65_535, description="Seconds before the limit at which a job stops."
    )
    idle: float = Field(
        default=10.0, ge=0, description="Minutes after which a job that finds nothing to do ends."
    )
    extra: tuple[str, ...] = Field(
        default=(), description="More #SBATCH lines: ['#SBATCH --constraint=a100']."
    )

    @field_validator("extra")
    @classmethod
    def _only_options(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            if not LINE.fullmatch(line):
                raise ValueError(f"{line!r} is no line of the form '#SBATCH --option=value'")
        return lines
