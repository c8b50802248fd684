"""Where a root is and how to reach it: URLs and options, by an allow-list.

Options are named as users of fsspec know them and as obstore names them. What looks like a
credential is kept apart, so that it can never be pickled, printed or logged.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .errors import InvalidArgument, StorageUnsupported, near

__all__ = ["Options", "Place", "parse_options", "parse_url", "refuse_options"]

_SCHEMES = {
    "file": "file",
    "local": "file",
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "http": "http",
    "https": "https",
    "memory": "memory",
}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(/?)")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

# option -> (name in obstore, is a credential); "client:" marks an option of the HTTP client.
_CLIENT = {
    "timeout": ("client:timeout", False),
    "connect_timeout": ("client:connect_timeout", False),
    "allow_http": ("client:allow_http", False),
    "max_retries": ("retry:max_retries", False),
}
_S3 = {
    "key": ("access_key_id", True),
    "secret": ("secret_access_key", True),
    "token": ("session_token", True),
    "access_key_id": ("access_key_id", True),
    "secret_access_key": ("secret_access_key", True),
    "session_token": ("session_token", True),
    "aws_access_key_id": ("access_key_id", True),
    "aws_secret_access_key": ("secret_access_key", True),
    "aws_session_token": ("session_token", True),
    "anon": ("skip_signature", False),
    "skip_signature": ("skip_signature", False),
    "endpoint_url": ("endpoint", False),
    "endpoint": ("endpoint", False),
    "region": ("region", False),
    "region_name": ("region", False),
    "profile": ("profile", False),
    "virtual_hosted_style_request": ("virtual_hosted_style_request", False),
    "request_payer": ("request_payer", False),
    "requester_pays": ("request_payer", False),
    "server_side_encryption": ("server_side_encryption", False),
    "sse_kms_key_id": ("sse_kms_key_id", False),
}
_GS = {
    "anon": ("skip_signature", False),
    "skip_signature": ("skip_signature", False),
    "service_account": ("service_account", False),
    "application_credentials": ("application_credentials", False),
    "service_account_key": ("service_account_key", True),
    "bearer_token": ("bearer_token", True),
    "endpoint_url": ("base_url", False),
}
_AZ = {
    "anon": ("skip_signature", False),
    "skip_signature": ("skip_signature", False),
    "account_name": ("account_name", False),
    "account_key": ("account_key", True),
    "sas_token": ("sas_key", True),
    "tenant_id": ("tenant_id", False),
    "client_id": ("client_id", False),
    "client_secret": ("client_secret", True),
    "use_azure_cli": ("use_azure_cli", False),
    "use_emulator": ("use_emulator", False),
    "endpoint": ("endpoint", False),
    "endpoint_url": ("endpoint", False),
}
_ALLOWED: dict[str, dict[str, tuple[str, bool]]] = {
    "s3": _S3 | _CLIENT,
    "gs": _GS | _CLIENT,
    "az": _AZ | _CLIENT,
    "http": _CLIENT,
    "https": _CLIENT,
    "memory": {},
    "file": {},
}
_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_CLIENT_SECRET",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a root is.

    Attributes
    ----------
    scheme : str
        file, s3, gs, az, http, https or memory.
    host : str
        Bucket, container or server; empty for a file.
    path : str
        Path under it, without a final `/`; absolute for a file.
    """

    scheme: str
    host: str
    path: str

    @property
    def url(self) -> str:
        """The place as one string; a plain path for a file."""
        if self.scheme == "file":
            return self.path
        return f"{self.scheme}://{self.host}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one root, with credentials apart.

    Attributes
    ----------
    public : mapping
        Name and value as the user gave them; travels with a pickle.
    config, client, retry : mapping
        What obstore is given; `config` holds the credentials and is never printed.
    secrets : tuple of str
        Credential values, to strike them out of messages.
    withheld : tuple of str
        Names of the credentials, to say what did not travel.
    """

    public: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    withheld: tuple[str, ...] = ()


def parse_url(url: str | Path) -> Place:
    """Read a URL or path; a folder named like a scheme is never meant.

    Raises
    ------
    StorageUnsupported
        Unknown scheme or a chained URL (`a::b`).
    InvalidArgument
        Credentials, a query or `..` in the URL, no bucket, or a URL that went through `Path`.

    Examples
    --------
    >>> parse_url("s3://bucket/brain.atlas/").url
    's3://bucket/brain.atlas'
    """
    text = os.fspath(url)
    if not text or "\0" in text:
        raise InvalidArgument(f"a path or URL is wanted, but got {text!r}")
    found = _URL.match(text)
    if "::" in text.split("/", 1)[0]:
        raise StorageUnsupported(f"chained URLs are not followed, but got {text!r}")
    if found is None:
        # Path.expanduser raises where there is no such user
        return Place("file", "", str(Path(os.path.expanduser(text)).absolute()))  # noqa: PTH111
    scheme = _SCHEMES.get(found[1].lower())
    if scheme is None:
        raise StorageUnsupported(
            f"a local path or one of {', '.join(sorted(set(_SCHEMES.values())))}:// is wanted, "
            f"but got scheme {found[1]!r}"
        )
    if not found[2] and scheme != "file":
        raise InvalidArgument(
            f"a URL is wanted as a string, but got {text!r}, which lost a '/' in a Path; "
            "pass the string itself"
        )
    return _parse_remote(text, scheme)


def _parse_remote(text: str, scheme: str) -> Place:
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The text itself is not repeated: it may hold a password or a signature.
        raise InvalidArgument(
            f"a URL without user, query or fragment is wanted, but got one for {scheme}://; "
            "give credentials by the environment or storage_options"
        )
    if ".." in parts.path.split("/"):
        raise InvalidArgument(f"a URL without '..' is wanted, but got {text!r}")
    if scheme == "file":
        return Place("file", "", str(Path(unquote(parts.path)).absolute()))
    if not parts.netloc:
        raise InvalidArgument(f"a bucket or host is wanted after {scheme}://, but got {text!r}")
    return Place(scheme, parts.netloc, "/".join(part for part in parts.path.split("/") if part))


def refuse_options(scheme: str, options: Mapping[str, Any]) -> None:
    """Raise `StorageUnsupported` for the first option that the scheme does not take."""
    allowed = _ALLOWED[scheme]
    for name in options:
        if name not in allowed and name != "client_kwargs":
            raise StorageUnsupported(
                f"storage option {name!r} is not known for {scheme}://.{near(name, allowed)}"
            )
    if "client_kwargs" in options and scheme != "s3":
        raise StorageUnsupported(f"storage option 'client_kwargs' is not known for {scheme}://")


def parse_options(scheme: str, given: Mapping[str, Any]) -> Options:
    """Translate options of fsspec and obstore into what obstore is given.

    Raises
    ------
    StorageUnsupported
        An option that the scheme does not take.
    InvalidArgument
        A value that is not text, number or truth; plain HTTP to another machine unasked.
    """
    flat = dict(given)
    nested = flat.pop("client_kwargs", None) or {}
    refuse_options(scheme, given)
    refuse_options(scheme, nested)
    flat.update(nested)
    allowed = _ALLOWED[scheme]
    config: dict[str, Any] = {}
    client: dict[str, Any] = {}
    retry: dict[str, Any] = {}
    for name, value in flat.items():
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            raise InvalidArgument(
                f"storage option {name!r} takes text, a number or a truth value, "
                f"but got a {type(value).__name__}"
            )
        target, _ = allowed[name]
        where, _, plain = target.rpartition(":")
        {"client": client, "retry": retry}.get(where, config)[plain] = value
    _settle(scheme, config, client)
    secret = {name for name in flat if allowed[name][1] and flat[name]}
    return Options(
        public={name: value for name, value in flat.items() if name not in secret},
        config=config,
        client=client,
        retry=retry,
        secrets=_secrets(scheme, config),
        withheld=tuple(sorted(secret)),
    )


def _settle(scheme: str, config: dict[str, Any], client: dict[str, Any]) -> None:
    for name in ("timeout", "connect_timeout"):
        if name in client:
            client[name] = timedelta(seconds=float(client[name]))
    endpoint = config.get("endpoint") or config.get("base_url")
    if scheme == "s3" and not endpoint:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and urlsplit(str(endpoint)).scheme == "http" and "allow_http" not in client:
        if urlsplit(str(endpoint)).hostname not in _LOOPBACK:
            raise InvalidArgument(
                "an https endpoint is wanted, but got plain http to another machine; "
                "set allow_http=True if the network between is yours"
            )
        client["allow_http"] = True
    profile = config.pop("profile", None)
    if scheme == "s3" and "access_key_id" not in config and not config.get("skip_signature"):
        if profile is None and "AWS_ACCESS_KEY_ID" not in os.environ:
            profile = os.environ.get("AWS_PROFILE")
        if profile is not None:
            config.update(_profile_credentials(str(profile)))


def _profile_credentials(profile: str) -> dict[str, str]:
    """Read a named AWS profile's static credentials where the AWS tools keep them."""
    home = Path.home() / ".aws"
    shared = configparser.ConfigParser(interpolation=None)
    shared.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"))
    config = configparser.ConfigParser(interpolation=None)
    config.read(os.environ.get("AWS_CONFIG_FILE", home / "config"))
    found: dict[str, str] = {}
    for parser, section in ((config, f"profile {profile}"), (config, profile), (shared, profile)):
        if parser.has_section(section):
            found.update(parser.items(section))
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
    }
    settings = {names[name]: value for name, value in found.items() if name in names}
    if "secret_access_key" not in settings:
        raise StorageUnsupported(
            f"an AWS profile with static keys is wanted, but got profile {profile!r} without; "
            "export its credentials first: aws configure export-credentials --format env"
        )
    return settings


def _secrets(scheme: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Credential values from the options, the profile and the environment."""
    targets = {target for target, secret in _ALLOWED[scheme].values() if secret}
    values = [str(value) for name, value in config.items() if name in targets]
    values += [os.environ.get(name, "") for name in _SECRET_VARIABLES]
    # Shorter ones are test values, and would strike half of every message.
    return tuple(value for value in values if len(value) >= _SHORTEST_SECRET)
