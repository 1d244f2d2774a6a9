"""Asks a served version what the answers are known to, and watches it for a while."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from tasks.contract import BadInput, Publication, PublishedAnswer, StageError
from tasks.spec.masking import masked
from trusted_retraining.hooks.http import http_client
from trusted_retraining.serving.plan import Endpoint
from trusted_retraining.settings import ServingSettings

log = logging.getLogger("trusted_retraining.serving")

PAUSE_SECONDS = 0.5
"""Between two requests of the watch, and before asking again what does not answer yet."""

PATIENCE_SECONDS = 60.0
"""How long a ready version may be out of reach: routes and endpoints follow a little later."""

REQUEST_SECONDS = 30.0


class WrongAnswer(BadInput):
    """A version answers, but not what it should: asking again tomorrow will not help."""


class NoAnswer(StageError):
    """A version does not answer, or with an error."""


class TooMuch(NoAnswer):
    """A version does not take the request as it is, perhaps because it holds too much."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a version while it was watched.

    Attributes
    ----------
    requests, failed : int
        Sent by us, and how many of them failed.
    latency_ms : float
        95th percentile of their latency; 0 without requests.
    """

    requests: int
    failed: int
    latency_ms: float

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed, 0 .. 1."""
        return self.failed / self.requests if self.requests else 0.0


class Prober:
    """Asks a model server over V1.

    Parameters
    ----------
    publication : Publication
        The version, and what it must answer.
    endpoint : Endpoint
        Where.
    """

    def __init__(self, publication: Publication, endpoint: Endpoint) -> None:
        self.publication = publication
        self.endpoint = endpoint
        self._http = http_client(headers=endpoint.headers, timeout=REQUEST_SECONDS)

    def __enter__(self) -> "Prober":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask_all(self) -> float:
        """Ask for every known answer; return the largest difference found of a probability.

        It may not answer for a while. A wrong answer is final at once.

        Raises
        ------
        StageError
            It answers wrongly, or not in time.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._ask_in_parts(self.publication.known_answers)
            except NoAnswer as error:
                if time.monotonic() >= deadline:
                    raise
                log.info("%s; asking again", error)
            time.sleep(PAUSE_SECONDS)

    def watch(
        self,
        *,
        seconds: float,
        max_error_rate: float,
        max_latency_ms: float,
        still_wanted: Callable[[], None] = lambda: None,
    ) -> Watched:
        """Send single images for a while, two a second.

        Parameters
        ----------
        seconds : float
            How long.
        max_error_rate : float
            Share of requests that may fail, 0 .. 1.
        max_latency_ms : float
            Bound on the 95th percentile of the latency.
        still_wanted : callable
            Called now and then; raises when there is no point in going on.

        Raises
        ------
        StageError
            It answers wrongly, too late or not at all too often.
        """
        answers = self.publication.known_answers
        latencies: list[float] = []
        failed, number = 0, 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            started = time.perf_counter()
            try:
                self._ask([answers[number % len(answers)]])
            except NoAnswer as error:
                failed += 1
                log.warning("%s", error)
            latencies.append(1000 * (time.perf_counter() - started))
            number += 1
            if number % 20 == 0:
                still_wanted()
            time.sleep(max(0.0, min(PAUSE_SECONDS, deadline - time.monotonic())))
        seen = Watched(requests=number, failed=failed, latency_ms=percentile_95(latencies))
        check_bounds(
            seen.error_rate,
            seen.latency_ms,
            max_error_rate=max_error_rate,
            max_latency_ms=max_latency_ms,
            seen_by=f"{number} requests of our own",
        )
        return seen

    def _ask_in_parts(self, answers: Sequence[PublishedAnswer]) -> float:
        """Ask for all at once; large images, which a server takes few of at a time, one by one."""
        try:
            return self._ask(answers)
        except TooMuch:
            if len(answers) == 1:
                raise
            return max(self._ask([answer]) for answer in answers)

    def _ask(self, answers: Sequence[PublishedAnswer]) -> float:
        import httpx

        model = self.publication.model
        address = f"{self.endpoint.url}/v1/models/{model.name}:predict"
        url = masked(address)
        body = {"instances": [{"b64": answer.image_b64} for answer in answers]}
        try:
            response = self._http.post(address, json=body)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{url}: {type(error).__name__}: {error}") from error
        if response.status_code != 200:
            text = " ".join(response.text.split())[:200]
            kind = TooMuch if response.status_code in (400, 413) else NoAnswer
            raise kind(f"{url}: status {response.status_code}: {text}")
        try:
            document = response.json()
            digest = document["model_digest"]
            rows = [entry["probabilities"] for entry in document["predictions"]]
            if digest != model.digest:
                raise WrongAnswer(
                    f"{url}: digest {str(digest)[:12]} answers, not {model.digest[:12]}"
                )
            return self._compare(answers, rows)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongAnswer(
                f"{url}: answers in another shape than KServe's V1: {type(error).__name__}: {error}"
            ) from error

    def _compare(self, answers: Sequence[PublishedAnswer], rows: list[list[float]]) -> float:
        tolerance = self.publication.tolerance
        if len(rows) != len(answers):
            raise WrongAnswer(f"{len(rows)} answers to {len(answers)} images")
        largest, wrong = 0.0, []
        for answer, row in zip(answers, rows, strict=True):
            if len(row) != len(answer.probabilities):
                raise WrongAnswer(
                    f"{answer.image_id}: {len(row)} probabilities served, "
                    f"{len(answer.probabilities)} offline"
                )
            pairs = zip(row, answer.probabilities, strict=True)
            difference = max(abs(served - offline) for served, offline in pairs)
            # not "> tolerance": a NaN must fail as well
            if not difference <= tolerance:
                wrong.append(f"{answer.image_id} by {difference:.3g}")
            else:
                largest = max(largest, difference)
        if wrong:
            raise WrongAnswer(
                f"served answers differ from the offline predictions by more than {tolerance:g} "
                f"for {len(wrong)} of {len(answers)} images: {', '.join(wrong[:5])}"
            )
        return largest


def ask_prometheus(
    serving: ServingSettings,
    endpoint: Endpoint,
    *,
    seconds: int,
    max_error_rate: float,
    max_latency_ms: float,
) -> None:
    """Hold what Prometheus saw of a version against the same bounds.

    Raises
    ------
    StageError
        A bound is broken, or Prometheus does not answer. A series without a sample is no error:
        then nobody but us has asked.
    """
    if not serving.prometheus_url:
        return
    words = {
        "namespace": serving.namespace,
        "service": endpoint.service,
        "revision": endpoint.revision,
        # Prometheus needs a few samples in the window
        "seconds": str(max(60, seconds)),
    }
    rate, latency = (
        _query(serving.prometheus_url, Template(query).safe_substitute(words)) if query else None
        for query in (serving.error_rate_query, serving.latency_query)
    )
    check_bounds(
        rate or 0.0,
        latency or 0.0,
        max_error_rate=max_error_rate,
        max_latency_ms=max_latency_ms,
        seen_by="Prometheus",
    )


def check_bounds(
    error_rate: float,
    latency_ms: float,
    *,
    max_error_rate: float,
    max_latency_ms: float,
    seen_by: str,
) -> None:
    """Raise when a version fails too often or is too slow."""
    if error_rate > max_error_rate:
        raise BadInput(
            f"the canary fails {error_rate:.1%} of the requests, deploy.max_error_rate is "
            f"{max_error_rate:.1%} ({seen_by})"
        )
    if latency_ms > max_latency_ms:
        raise BadInput(
            f"the canary's 95th percentile of latency is {latency_ms:.0f} ms, "
            f"deploy.max_latency_ms is {max_latency_ms:.0f} ({seen_by})"
        )


def percentile_95(values: Sequence[float]) -> float:
    """Return the 95th percentile by nearest rank; 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _query(address: str, query: str) -> float | None:
    import httpx

    try:
        with http_client(timeout=REQUEST_SECONDS) as client:
            response = client.get(f"{address}/api/v1/query", params={"query": query})
        document: dict[str, Any] = response.json()
        if response.status_code != 200 or document.get("status") != "success":
            raise ValueError(f"status {response.status_code}: {document.get('error')}")
        found = document["data"]["result"]
        value = float(found[0]["value"][1]) if found else math.nan
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StageError(
            f"Prometheus at {masked(address)}: {masked(str(error))}: {query[:200]}"
        ) from error
    return None if math.isnan(value) else value
