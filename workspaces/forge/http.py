"""HTTP to a forge: one place for time-outs, size limits, redirects, rate limits and the meaning of failures.

The token goes to the forge's own host only: redirects are not followed, and no error's text contains it.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from studio.kernel.clock import later, now
from studio.kernel.redact import redact
from studio.kernel.text import clean, cut
from workspaces.forge.base import ForgeError, NotThere, Refused

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
TOTAL_SECONDS = 30.0  # for one whole answer, however slowly it drips
ANSWER_LIMIT = 5 * 1024 * 1024  # bytes of JSON
LOG_LIMIT = 32 * 1024 * 1024  # bytes of a log that are read to find its end
TAIL_LIMIT = 64 * 1024  # bytes of a log that are kept
PIECE = 64 * 1024
PAGE = 100
MOST_PAGES = 20  # of one list, however short a forge makes them
SAID_LIMIT = 300  # characters of the forge's own words
LIMIT_SECONDS = 60.0  # to wait when the forge does not say how long
LONGEST_WAIT = timedelta(hours=2)


class _Token(AuthBase):
    """The Authorization header. As `auth` it also keeps requests from looking for credentials in the account's netrc."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers["Authorization"] = self._header
        return request


class ForgeClient:
    """Requests to one forge's REST interface at `base_url`."""

    def __init__(self, base_url: str, *, token: str, scheme: str, accept: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._auth = _Token(f"{scheme} {token}" if token else "")
        self._headers = {"Accept": accept, "User-Agent": "opencode-studio"}

    def get(self, path: str, **params: str | int) -> Any:
        """GET; the decoded JSON."""
        return self.answer("GET", path, params=params)[0]

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST; the decoded JSON."""
        return self.answer("POST", path, body=body)[0]

    def pages(self, path: str, *, most: int, size: str, key: str = "", **params: str | int) -> Iterator[Any]:
        """The members of a list, page by page, at most `most`. `size` names the parameter of the page's length."""
        given, length = 0, min(PAGE, most)
        for number in range(1, MOST_PAGES + 1):
            found, headers = self.answer("GET", path, params={**params, size: length, "page": number})
            members = (found.get(key) or []) if key and isinstance(found, dict) else found
            if not isinstance(members, list):
                raise self._strange()
            yield from members[: most - given]
            given += len(members)
            if not members or given >= min(most, _total(headers, given if len(members) < length else most)):
                return

    def answer(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, body: Any = None
    ) -> tuple[Any, Mapping[str, str]]:
        """(the decoded JSON, the headers) of a successful answer. Raises ForgeError."""
        with self._send(method, path, params, body) as response:
            data = self._read(response)
            if not 200 <= response.status_code < 300:
                raise self._refusal(response, data)
            try:
                return (json.loads(data) if data else None), response.headers
            except (ValueError, RecursionError) as error:
                raise self._strange() from error

    def tail(self, path: str) -> str:
        """The end of a text. A redirect to another host, where forges keep logs, is followed once and without the token."""
        with self._send("GET", path, None, None) as response:
            if response.status_code not in (301, 302, 303, 307, 308):
                return self._tail(response)
            target = urljoin(f"{self.base_url}{path}", response.headers.get("Location", ""))
        self._require_public(target)
        try:
            with requests.get(
                target,
                auth=_Token(""),
                headers={"User-Agent": "opencode-studio"},
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                stream=True,
                allow_redirects=False,
            ) as response:
                return self._tail(response)
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _send(self, method: str, path: str, params: Mapping[str, str | int] | None, body: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = not is_loopback(self.base_url)  # a proxy is never right for this machine
            try:
                return session.request(
                    method,
                    f"{self.base_url}{path}",
                    params=params,
                    json=body,
                    auth=self._auth,
                    headers=self._headers,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                    stream=True,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise self._unreachable(error) from error

    def _read(self, response: requests.Response) -> bytes:
        """The body, up to ANSWER_LIMIT and TOTAL_SECONDS."""
        data = bytearray()
        for piece in self._pieces(response):
            data += piece
            if len(data) > ANSWER_LIMIT:
                raise ForgeError(f"{self.base_url} sent more than {ANSWER_LIMIT} bytes.", code="forge_answer")
        return bytes(data)

    def _tail(self, response: requests.Response) -> str:
        if response.status_code != 200:
            raise self._refusal(response, self._read(response))
        data, total = b"", 0
        for piece in self._pieces(response):
            data = (data + piece)[-TAIL_LIMIT:]
            total += len(piece)
            if total > LOG_LIMIT:
                break  # a log of this length has no end worth waiting for
        return clean(data.decode("utf-8", "replace"))

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it arrives: a read that waits for a full piece would let a slow answer drip for ever."""
        deadline = time.monotonic() + TOTAL_SECONDS
        try:
            while piece := response.raw.read1(PIECE, decode_content=True):
                yield piece
                if time.monotonic() > deadline:
                    raise ForgeError(
                        f"{self.base_url} did not finish its answer in time.", code="forge_unreachable", transient=True
                    )
        except (HTTPError, OSError) as error:
            raise ForgeError(
                f"{self.base_url} broke off in the middle of its answer.", code="forge_unreachable", transient=True
            ) from error

    def _refusal(self, response: requests.Response, data: bytes) -> ForgeError:
        status, said = response.status_code, self._said(data)
        words = f" It says: {said}{'' if said[-1] in '.!?' else '.'}" if said else ""
        if status == 429 or (status == 403 and _is_limit(response.headers, said)):
            retry_at = _retry_at(response.headers)
            text = f"{self.base_url} has had enough requests until {retry_at:%H:%M:%S} UTC.{words}"
            return ForgeError(text, code="forge_limited", transient=True, retry_at=retry_at)
        if status == 401:
            return ForgeError(f"{self.base_url} does not accept the token.{words}", code="forge_unauthorised")
        if status == 403:
            return ForgeError(f"The token may not do this on {self.base_url}.{words}", code="forge_forbidden")
        if status in (404, 410):
            return NotThere(f"{self.base_url} has no such thing, or the token may not see it.{words}")
        if 300 <= status < 400:
            place = urlsplit(response.headers.get("Location", ""))
            target = cut(self._without_token(clean(place.netloc + place.path)), 200)
            return ForgeError(
                f"{self.base_url} sends requests on to {target or 'elsewhere'}; the studio does not follow. "
                "Enter the address and the repository's name as they are now.",
                code="forge_moved",
            )
        if status >= 500:
            return ForgeError(f"{self.base_url} failed ({status}).{words}", transient=True)
        return Refused(f"{self.base_url} refused ({status}).{words}")

    def _said(self, data: bytes) -> str:
        """The forge's own message as one clean line, without the token; empty when it is none (a page of HTML)."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return ""
        if not isinstance(found, dict):
            return ""
        parts = [found.get("message")]
        errors = found.get("errors")
        listed = errors[:5] if isinstance(errors, list) else []
        parts += [one.get("message") if isinstance(one, dict) else one for one in listed]
        text = "; ".join(" ".join(clean(part).split()) for part in parts if isinstance(part, str) and part.strip())
        return cut(self._without_token(text), SAID_LIMIT)

    def _without_token(self, text: str) -> str:
        return redact(text.replace(self._token, "[redacted]") if self._token else text)

    def _unreachable(self, error: requests.RequestException) -> ForgeError:
        if isinstance(error, requests.Timeout):
            text = f"{self.base_url} did not answer in time."
        elif isinstance(error, requests.exceptions.SSLError):
            text = f"The certificate of {self.base_url} is not trusted, or it does not speak https."
        else:
            text = f"{self.base_url} cannot be reached."
        return ForgeError(text, code="forge_unreachable", transient=True)

    def _strange(self) -> ForgeError:
        return ForgeError(
            f"{self.base_url} did not answer as a forge's REST interface does. Is the address right?",
            code="forge_answer",
        )

    def _require_public(self, url: str) -> None:
        """Raises ForgeError unless `url` is https to a public address; a forge of this machine may name this machine."""
        if is_loopback(self.base_url) and is_loopback(url):
            return
        parts = urlsplit(url)
        try:
            found = socket.getaddrinfo(parts.hostname or "", parts.port or 443, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise ForgeError(
                "The log's address cannot be resolved.", code="forge_unreachable", transient=True
            ) from error
        own = parts.hostname == urlsplit(self.base_url).hostname
        if parts.scheme != "https" or not (own or all(ipaddress.ip_address(one[4][0]).is_global for one in found)):
            raise ForgeError(
                f"{self.base_url} keeps the log at an address that the studio does not ask.", code="forge_moved"
            )


def is_loopback(url: str) -> bool:
    """Whether `url` is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _total(headers: Mapping[str, str], otherwise: int) -> int:
    """How many members a list has in all, where the forge says so: its pages may be shorter than was asked for."""
    said = headers.get("X-Total-Count", "")
    return int(said) if said.isdecimal() and len(said) < 10 else otherwise


def _is_limit(headers: Mapping[str, str], said: str) -> bool:
    return headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers or "rate limit" in said.lower()


def _retry_at(headers: Mapping[str, str]) -> datetime:
    """When the forge may be asked again; never in the past and never so far away that a wrong clock stops everything."""
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    found = later(LIMIT_SECONDS)
    if after.isdecimal() and len(after) < 8:
        found = later(float(after))
    elif reset.isdecimal() and len(reset) < 12:
        found = datetime.fromtimestamp(int(reset), UTC)
    return min(max(found, later(1)), now() + LONGEST_WAIT)
