"""The manifest of a shard set: read, and checked before anything in it is believed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sepsearch.audio.spectrogram import FrontEndField
from sepsearch.data.instruments import INSTRUMENTS
from sepsearch.data.recordings import MOST_PLAYERS
from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.validation import problem_of

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Shard(_Facts):
    file: str = Field(pattern=r"\Ashard-[0-9]{4,9}\.arrow\z")  # beside the manifest, and nowhere else
    clips: int = Field(ge=1)
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern=r"\A[0-9a-f]{64}\z")


class _Stem(_Facts):
    piece: str
    stem: str
    instrument: str
    sha256: str
    seconds: float = Field(gt=0)
    rms: float
    peak: float
    sounding: float


class _Mixture(_Facts):
    deviation_db: float | None
    gain_db: float | None
    fitted_db: float | None
    problem: str | None = None


class _Piece(_Facts):
    name: str
    title: str
    seconds: float = Field(gt=0)
    stems: list[_Stem] = Field(min_length=1, max_length=MOST_PLAYERS)
    mixture: _Mixture
    shard: _Shard


class _Take(_Facts):
    first: list[str] = Field(min_length=2, max_length=2)
    second: list[str] = Field(min_length=2, max_length=2)
    correlation: float
    gain: float
    lag_seconds: float


class _Manifest(_Facts):
    source: str
    fingerprint: str
    front_end: FrontEndField
    constant: float = Field(gt=0)
    rms: float = Field(gt=0)
    pieces: list[_Piece] = Field(min_length=1)
    shared_takes: list[_Take]
    title_groups: list[list[str]]
    notes: list[str]


def read_manifest(path: Path, advice: str) -> dict[str, Any]:
    """The content of a manifest; raises `UserError`, which ends in `advice`, unless it is whole and of this version."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a readable manifest ({type(error).__name__}): {advice}") from error
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {one_line(version)}, expected {SCHEMA_VERSION}: {advice}")
    stated = manifest.pop("sha256", None)
    if stated != (found := digest(manifest)):
        raise UserError(f"{path}: checksum is {found[:12]}…, expected {one_line(str(stated)[:12])}…: {advice}")
    if problem := _problem(manifest):
        raise UserError(f"{path}: {problem}: {advice}")
    return dict(manifest)


def _problem(manifest: dict[str, Any]) -> str:
    """What is wrong with a manifest whose checksum somebody has made fit, if anything."""
    try:
        facts = _Manifest.model_validate(manifest)
    except ValidationError as error:
        return one_line(problem_of(error, _Manifest))
    files = [piece.shard.file for piece in facts.pieces]
    if len(set(files)) < len(files):
        return "a shard belongs to two pieces"
    odd = [stem.instrument for piece in facts.pieces for stem in piece.stems if stem.instrument not in INSTRUMENTS]
    if odd:
        return f"instrument is {one_line(repr(odd[0]))}, expected one of {', '.join(INSTRUMENTS)}"
    titles = {piece.title for piece in facts.pieces}
    groups = [title for group in facts.title_groups for title in group]
    if sorted(groups) != sorted(titles):
        return "title_groups: expected every title once"
    return ""


def digest(facts: object) -> str:
    """SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
