"""Clients of object stores, by URL, set up by the usual environment variables. Used in the helper process."""

from __future__ import annotations

import configparser
import os
import threading
from collections import OrderedDict
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from data.store.retry import Failure

_KEPT = 64
_CONNECT_S = 5.0
_READ_S = 15.0
_BODY_S = 3600
"""Bounds a whole body, however well it comes; it is then continued by range."""


class Endpoints:
    """One client for each bucket, or folder and query of a web server."""

    def __init__(self) -> None:
        self._stores: OrderedDict[tuple, Any] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, url: str, deadline_s: float, retries: int = 0) -> tuple[Any, str]:
        """(client, key) of an object.

        Raises:
            Failure: the URL names no object, or the environment's settings are incomplete.
        """
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            folder, _, name = parts.path.rpartition("/")
            if "%2f" in name.lower():  # as a key it would be another folder
                folder, name = parts.path, ""
            place = parts._replace(path=folder, fragment="").geturl()
            key = unquote(name)
        else:
            scheme, _, rest = url.partition("://")
            bucket, _, key = rest.partition("/")
            place = f"{scheme.lower()}://{bucket}"
        if not parts.netloc:
            raise Failure("name", "the name holds no host or bucket")
        read_s = min(_READ_S, max(1.0, deadline_s / 4))
        name_of_store = (place, read_s, retries)
        with self._lock:
            if name_of_store not in self._stores:
                while len(self._stores) >= _KEPT:
                    self._stores.popitem(last=False)
                self._stores[name_of_store] = _client(place, read_s, retries)
            self._stores.move_to_end(name_of_store)
            return self._stores[name_of_store], key


def _client(place: str, read_s: float, retries: int) -> Any:
    options: dict[str, Any] = {
        "client_options": {
            "timeout": f"{_BODY_S}s",
            "read_timeout": f"{int(read_s * 1000)}ms",
            "connect_timeout": f"{min(_CONNECT_S, read_s):g}s",
            "allow_http": True,  # what is written decides: an endpoint of http:// is meant
        },
        # One request an attempt: obstore's own continuation does not ask for the version that it began with.
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=_BODY_S)},
    }
    scheme, _, bucket = place.partition("://")
    try:
        if scheme == "s3":
            return S3Store(bucket, config=_aws(), **options)  # type: ignore[arg-type]
        if scheme == "gs":
            return GCSStore(bucket, **options)
        if scheme == "az":
            return AzureStore(bucket, **options)
        return HTTPStore.from_url(place, **options)
    except Exception as error:  # noqa: BLE001 -- obstore raises what it likes for settings; all of them are the user's
        raise Failure("wrong", str(error).partition("\n")[0]) from None


def _aws() -> dict[str, str]:
    """What obstore does not read itself: the endpoint of S3 alone, and keys from the credentials file."""
    found: dict[str, str] = {}
    if os.environ.get("AWS_ENDPOINT_URL_S3"):
        found["endpoint"] = os.environ["AWS_ENDPOINT_URL_S3"]
    others = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
              "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE")  # fmt: skip
    if any(os.environ.get(name) for name in others):
        return found
    profile = os.environ.get("AWS_PROFILE", "default")
    files = {
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"): profile,
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"): profile if profile == "default" else f"profile {profile}",
    }
    kept = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region")
    for path, section in files.items():
        parsed = configparser.RawConfigParser()
        parsed.read(os.path.expanduser(path))
        if parsed.has_section(section):
            found.update({name: value for name, value in parsed.items(section) if name in kept and name not in found})
    if os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        found.pop("region", None)
    return found
