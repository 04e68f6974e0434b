"""Checks of an MLflow database, read only: driver, schema version, experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepsearch.tracking.mlflow_internals import database_scripts
from sepsearch.tracking.server_errors import first_line, quoted_uri, without_password
from sepsearch.tracking.tracker import import_mlflow
from sepsearch.utils.errors import UserError
from sepsearch.utils.programs import program

if TYPE_CHECKING:
    from sqlalchemy import Engine

TIMEOUT = 5  # seconds to connect; a database that takes longer counts as away, which does not keep a search back
PACKAGES = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # by module
DIALECTS = ("sqlite", "postgresql", "mysql", "mssql")


def is_database(uri: str) -> bool:
    """Whether an address is that of a database, in SQLAlchemy's form dialect+driver://…"""
    scheme, colon, _ = uri.partition(":")
    return bool(colon) and scheme.lower().partition("+")[0] in DIALECTS


def check_database(uri: str, experiment: str) -> None:
    """Find what keeps MLflow from writing to a database; a database that is away or does not exist passes.

    Args:
        uri: of the database.
        experiment: name of the one that will be written to; it need not exist.

    Raises:
        UserError: no such dialect or driver, no database file, a schema of another MLflow, or a deleted experiment.
    """
    import sqlalchemy

    where = f"MLflow at {without_password(uri)}"
    engine = _engine(uri, where)
    if engine is None:
        return
    try:
        with engine.connect() as connection:
            if not {"alembic_version", "experiments"} <= set(sqlalchemy.inspect(connection).get_table_names()):
                return  # MLflow creates its tables
            versions = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars().all()
            _check_schema(uri, where, [str(version) for version in versions])
            query = sqlalchemy.text("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = :name")
            deleted = [id for id, stage in connection.execute(query, {"name": experiment}) if stage == "deleted"]
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError):
        return  # away, or locked
    except sqlalchemy.exc.DatabaseError as error:
        advice = "choose another store with MLFLOW_TRACKING_URI"
        reason = first_line(error.orig or error)
        raise UserError(f"{where}: cannot be read as MLflow's database ({reason}): {advice}") from error
    finally:
        engine.dispose()
    if deleted:
        raise deleted_experiment(where, uri, experiment, str(deleted[0]))


def _engine(uri: str, where: str) -> "Engine | None":
    """An engine that does not wait long; None for an SQLite file that does not exist yet or is empty."""
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(uri)
        dialect = url.get_backend_name()
        if dialect == "sqlite":
            if url.host or url.database in (None, "", ":memory:"):
                raise UserError(f"{where}: no file, expected sqlite:///mlflow.db or sqlite:////folder/mlflow.db")
            file = Path(str(url.database))
            if not (file.is_file() and file.stat().st_size):
                return None  # connecting would create it
        name = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout"}.get(dialect)
        arguments: dict[str, Any] = {name: TIMEOUT} if name else {}
        return sqlalchemy.create_engine(url, connect_args=arguments)
    except sqlalchemy.exc.NoSuchModuleError as error:
        raise UserError(f"{where}: {first_line(error)}, expected one of {', '.join(DIALECTS)}") from error
    except sqlalchemy.exc.ArgumentError as error:
        expected = "sqlite:///mlflow.db or postgresql://user@host/database"
        raise UserError(f"{where}: no address of a database ({first_line(error)}), expected {expected}") from error
    except ModuleNotFoundError as error:
        name = error.name or "its driver"
        package = PACKAGES.get(name, name)
        raise UserError(f"{where}: Python package {name} is missing: {program('pip')} install {package}") from error


def _check_schema(uri: str, where: str, versions: list[str]) -> None:
    """Compare the schema version of a database with that of the installed MLflow."""
    mlflow, scripts = import_mlflow(), database_scripts()
    heads = scripts.get_heads()
    if not versions or set(versions) == set(heads):
        return
    found = (
        f"{where}: database schema {', '.join(versions)}, expected {', '.join(heads)} of MLflow {mlflow.__version__}"
    )
    if set(versions) <= {script.revision for script in scripts.walk_revisions()}:
        raise UserError(f"{found}: back it up, then: {program('mlflow')} db upgrade {quoted_uri(uri)}")
    advice = "install that MLflow, or choose another store with MLFLOW_TRACKING_URI"
    raise UserError(f"{found}: it is of another, probably a newer MLflow: {advice}")


def deleted_experiment(where: str, uri: str, name: str, id: str) -> UserError:
    """The error for an experiment that was deleted and still holds its name, with the command that restores it."""
    restore = f"MLFLOW_TRACKING_URI={quoted_uri(uri)} {program('mlflow')} experiments restore -x {id}"
    return UserError(
        f"{where}: experiment {name!r} is deleted: restore it ({restore}), or set MLFLOW_EXPERIMENT_NAME to another"
    )
