"""Addresses of object stores (s3://, gs://, az://) and clients for them; the client is obstore."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from urllib.request import Request, urlopen

from sepsearch.utils.errors import UserError, one_line
from sepsearch.utils.safe_paths import require_plain

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3CredentialProvider

SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
OPTIONS = {
    "s3": ("endpoint_override", "scheme", "region", "tls_ca_file_path"),
    "gs": ("endpoint_override", "scheme", "tls_ca_file_path"),
    "az": ("endpoint_override", "scheme", "tenant_id", "client_id", "tls_ca_file_path"),
}
EXAMPLES = "s3://bucket/runs, gs://bucket/runs, az://container/runs"
SECRET = ("key", "token", "secret", "password")
AZURE_HOSTS = (".blob.core.windows.net", ".dfs.core.windows.net")
# A request is tried again for about half a minute while the store does not answer, not where it says no.
RETRIES = {
    "max_retries": 10,
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
    "retry_timeout": timedelta(minutes=2),
}
# A whole object may take long over a slow line; a connection on which nothing arrives is given up.
TIMEOUTS = {"timeout": timedelta(minutes=10), "read_timeout": timedelta(minutes=1), "allow_http": True}
REGION_SECONDS = 5.0  # for Amazon to say where a bucket is


@dataclass(frozen=True)
class Address:
    """A parsed URI: `kind` is s3, gs or az; `account` is Azure's, "" for the one in the environment."""

    kind: str
    bucket: str
    prefix: str
    account: str
    options: Mapping[str, str]


def parse_address(text: str, option: str) -> Address:
    """Take a store's URI apart; no store is asked.

    Args:
        text: scheme://bucket/path?name=value&….
        option: of the command line that it was given by.

    Raises:
        UserError: unknown scheme or query parameter, credentials in it, no bucket, or a path with "..".
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UserError(f"{option} {one_line(text)}: not an address ({error}), expected such as {EXAMPLES}") from error
    kind = SCHEMES.get(parts.scheme, "")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    where = f"{option} {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    hidden = any(word in name.lower() for name in options for word in SECRET)
    if parts.password or hidden or (parts.username and kind != "az"):
        raise UserError(
            f"{where}…: credentials in the address, which many files and pages show:"
            " leave them out and set them where the store's own tools look (environment, profile, role)"
        )
    if not kind:
        raise UserError(
            f"{where}: no store is known by {parts.scheme}://, expected a folder that all machines share, or a URI"
            f" such as {EXAMPLES}"
        )
    if odd := sorted(options.keys() - set(OPTIONS[kind])):
        raise UserError(f"{where}: unknown parameter {odd[0]!r}, expected some of {', '.join(OPTIONS[kind])}")
    bucket, prefix, account = parts.netloc, unquote(parts.path).strip("/"), ""
    if kind == "az":
        bucket, prefix, account = _azure(parts.netloc, prefix)
    if not bucket:
        raise UserError(f"{option} {text}: no bucket, expected such as {parts.scheme}://bucket/runs")
    if prefix:
        require_plain(prefix, where)
    return Address(kind, bucket, prefix, account, options)


def _azure(host: str, path: str) -> tuple[str, str, str]:
    """Container, path and account of container@account.dfs.core.windows.net/path, account.blob.core.windows.net/
    container/path, account@container/path or container/path.
    """
    first, at, second = host.rpartition("@")
    account = next((second.removesuffix(end) for end in AZURE_HOSTS if second.endswith(end)), "")
    if account and at:
        return first, path, account
    if account:
        container, _, path = path.partition("/")
        return container, path, account
    return second, path, first


def open_store(address: Address, where: str) -> "ObjectStore":
    """A client of a store, rooted at the address; credentials come from where the store's own tools look for them.

    Raises:
        UserError: there are no credentials, or the client cannot be made.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    given = address.options
    endpoint = given.get("endpoint_override", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{given.get('scheme', 'https')}://{endpoint}"
    client: Any = dict(TIMEOUTS)
    retries: Any = RETRIES
    settings: dict[str, Any] = {"client_options": client, "retry_config": retries, "prefix": address.prefix or None}
    try:
        if path := given.get("tls_ca_file_path"):
            client["root_certificate"] = Path(path).read_bytes()
        if address.kind == "gs":
            return GCSStore(address.bucket, config={"base_url": endpoint} if endpoint else {}, **settings)
        if address.kind == "az":
            azure: Any = {name: given[name] for name in ("tenant_id", "client_id") if name in given}
            azure |= {"account_name": address.account} if address.account else {}
            return AzureStore(address.bucket, config=azure | ({"endpoint": endpoint} if endpoint else {}), **settings)
        provider = _aws_credentials(where)
        # The second name counts more than the first, and may be in the environment.
        config: Any = {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint} if endpoint else {}
        if region := given.get("region") or _aws_region(address.bucket, bool(endpoint), provider):
            config["region"] = region
        return S3Store(address.bucket, config=config, credential_provider=provider, **settings)
    except (BaseError, ValueError, OSError) as error:
        raise UserError(f"{where}: cannot be opened: {reason(error)}: is the address right?") from error


def _aws_credentials(where: str) -> "S3CredentialProvider | None":
    """Boto3's credentials (profiles, SSO, roles), where it is installed; None for what the client finds by itself.

    That is keys in the environment, web identity, and the roles of a container, a pod and an instance.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        own = Path.home() / ".aws"
        files = (
            Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or own / "credentials"),
            Path(os.environ.get("AWS_CONFIG_FILE") or own / "config"),
        )
        if not os.environ.get("AWS_PROFILE") and not any(file.exists() for file in files):
            return None
        raise UserError(
            f"{where}: profiles of AWS are read by boto3, which is not installed: pip install boto3, or set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    try:
        return Boto3CredentialProvider()
    except (ValueError, BotoCoreError) as error:
        found = "none" if isinstance(error, ValueError) else one_line(error)
        raise UserError(
            f"{where}: credentials of AWS: found {found}, expected some in the environment, a profile or the"
            " machine's role: aws sts get-caller-identity has to work here"
        ) from error


def _aws_region(bucket: str, other_server: bool, provider: Any) -> str:
    """Where a bucket of Amazon's is, by Amazon's own answer; "" to leave it to the environment."""
    fallback = str(getattr(provider, "config", {}).get("region", ""))
    if other_server or any(name.startswith("AWS_ENDPOINT") for name in os.environ):
        return fallback
    try:
        # Refused without a signature, but the answer names the region.
        with urlopen(Request(f"https://s3.amazonaws.com/{quote(bucket)}", method="HEAD"), timeout=REGION_SECONDS) as ok:
            return ok.headers.get("x-amz-bucket-region") or fallback
    except HTTPError as refusal:
        return refusal.headers.get("x-amz-bucket-region") or fallback
    except OSError:
        return fallback


def reason(error: Exception) -> str:
    """What a store's client says, without requests, their numbers and its own structures."""
    text, _, structures = str(error).partition("\n\nDebug source")
    code, message = re.search(r"<Code>(.*?)</Code>", text), re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    if code or message:
        return one_line(": ".join(found[1] for found in (code, message) if found))
    cause = re.search(r'message: "([^"]+)"', structures)
    text = one_line(text.rpartition(" - ")[2]).rstrip(": ")
    return f"{text}: {cause[1]}" if cause else text
