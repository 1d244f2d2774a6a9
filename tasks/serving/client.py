"""Asks a model server: which version serves, and what it makes of images whose answer is known."""

import base64
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contract import StageError
from tasks.serving.image_size import pixels_of
from tasks.serving.limits import LIGHT_PIXELS, SMALL_BODY

BUSY_ATTEMPTS, BUSY_SECONDS = 10, 1.0
"""How often a server that is busy is asked again, and the pause between."""


@dataclass(frozen=True, kw_only=True)
class KnownAnswer:
    """A test image and the offline prediction of it.

    Attributes
    ----------
    image_id : str
        Names the image in messages.
    image : bytes
        The encoded image, as in the test set.
    probabilities : tuple of float
        Offline prediction, one per class.
    """

    image_id: str
    image: bytes
    probabilities: tuple[float, ...]


class ServerClient:
    """A model server on the network.

    Parameters
    ----------
    url : str
        ``http://host:port``.
    timeout : float
        Seconds for one request.
    """

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        import httpx

        self.url = url.rstrip("/")
        # it logs a line per request
        logging.getLogger("httpx").setLevel(logging.WARNING)
        # no proxy of the environment: the server is on this machine or in this cluster
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)

    def __enter__(self) -> "ServerClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def served(self, model: str) -> dict[str, Any]:
        """Return what serves under a name: ``serving``, ``wanted``, ``problem``; empty if nothing.

        Raises
        ------
        StageError
            The server does not answer.
        """
        document = self._ask("GET", "/served")
        entry = document.get(model, {})
        return entry if isinstance(entry, dict) else {}

    def switch_now(self, model: str) -> None:
        """Make the server look at its pointers without waiting for its next look."""
        try:
            self._ask("POST", f"/v2/repository/models/{model}/load")
        except StageError:
            # only a shortcut: the server looks by itself as well, and tells the problem there
            return

    def wait_until_served(
        self, model: str, digest: str, *, seconds: float, alive: Callable[[], str] = lambda: ""
    ) -> None:
        """Wait until a model's digest serves.

        Parameters
        ----------
        model, digest : str
            What must serve.
        seconds : float
            Time it may take.
        alive : callable
            Returns why waiting is in vain, or an empty text.

        Raises
        ------
        StageError
            It does not serve in time; says why.
        """
        deadline = time.monotonic() + seconds
        reason = "it does not answer"
        while time.monotonic() < deadline:
            try:
                entry = self.served(model)
                if (entry.get("serving") or {}).get("digest") == digest:
                    return
                reason = entry.get("problem") or "it still serves another version"
                if entry.get("problem") and (entry.get("wanted") or {}).get("digest") == digest:
                    break
            except StageError as error:
                reason = str(error)
            if alive():
                reason = alive()
                break
            time.sleep(0.1)
        raise StageError(f"model server {self.url} does not serve {model} {digest[:12]}: {reason}")

    def predict_v1(self, model: str, images: Sequence[bytes]) -> dict[str, Any]:
        """Ask over V1 with base64 images; see KServe's V1 protocol.

        Raises
        ------
        StageError
            The server does not answer, or refuses.
        """
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        return self._ask("POST", f"/v1/models/{model}:predict", {"instances": instances})

    def infer_v2(self, model: str, images: Sequence[bytes]) -> dict[str, Any]:
        """Ask over V2 with base64 strings in a BYTES tensor; see the Open Inference Protocol.

        Raises
        ------
        StageError
            The server does not answer, or refuses.
        """
        tensor = {
            "name": "image_bytes",
            "datatype": "BYTES",
            "shape": [len(images)],
            "data": [base64.b64encode(image).decode() for image in images],
        }
        return self._ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})

    def check_known_answers(
        self, model: str, digest: str, answers: Sequence[KnownAnswer], *, tolerance: float
    ) -> float:
        """Ask for known answers over both protocols and compare.

        Parameters
        ----------
        model, digest : str
            Who must answer.
        answers : sequence of KnownAnswer
            Images and offline predictions.
        tolerance : float
            Largest difference allowed of a probability.

        Returns
        -------
        float
            Largest difference found.

        Raises
        ------
        StageError
            An answer differs, comes from another version, or does not come.
        """
        try:
            return self._check(model, digest, answers, tolerance)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise StageError(
                f"model server {self.url} gave an answer of another shape than KServe's: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _check(
        self, model: str, digest: str, answers: Sequence[KnownAnswer], tolerance: float
    ) -> float:
        return max(self._check_part(model, digest, part, tolerance) for part in _parts(answers))

    def _check_part(
        self, model: str, digest: str, answers: Sequence[KnownAnswer], tolerance: float
    ) -> float:
        images = [answer.image for answer in answers]
        first = self.predict_v1(model, images)
        rows = [entry["probabilities"] for entry in first["predictions"]]
        largest = _compare(answers, rows, tolerance=tolerance, protocol="V1")
        second = self.infer_v2(model, images)
        outputs = {output["name"]: output for output in second["outputs"]}
        flat, width = outputs["probabilities"]["data"], outputs["probabilities"]["shape"][1]
        rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        largest = max(largest, _compare(answers, rows, tolerance=tolerance, protocol="V2"))
        given = (first["model_digest"], second["parameters"]["model_digest"])
        if given != (digest, digest):
            raise StageError(
                f"model server {self.url} answered with digest {given[0][:12]}, not {digest[:12]}"
            )
        return largest

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        import httpx

        try:
            response = self._http.request(method, path, json=body)
            for _ in range(BUSY_ATTEMPTS):
                if response.status_code != 503 or "retry-after" not in response.headers:
                    break
                # others ask it, too
                time.sleep(BUSY_SECONDS)
                response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise StageError(
                f"model server {self.url}{path}: {type(error).__name__}: {error}"
            ) from error
        if response.status_code != 200:
            raise StageError(
                f"model server {self.url}{path}: status {response.status_code}: "
                f"{response.text[:300]}"
            )
        try:
            document = response.json()
        except ValueError as error:
            raise StageError(
                f"model server {self.url}{path}: answered no JSON: {response.text[:100]!r}"
            ) from error
        return document if isinstance(document, dict) else {}


def _parts(answers: Sequence[KnownAnswer]) -> Iterator[Sequence[KnownAnswer]]:
    """Yield the answers in requests that a server takes: large images go alone."""
    part: list[KnownAnswer] = []
    pixels = size = 0
    for answer in answers:
        own = pixels_of(answer.image) or 0
        if part and (pixels + own > LIGHT_PIXELS or size + len(answer.image) > SMALL_BODY):
            yield part
            part, pixels, size = [], 0, 0
        part.append(answer)
        pixels, size = pixels + own, size + len(answer.image)
    if part:
        yield part


def _compare(
    answers: Sequence[KnownAnswer], rows: list[list[float]], *, tolerance: float, protocol: str
) -> float:
    if len(rows) != len(answers):
        raise StageError(f"{protocol}: {len(rows)} answers to {len(answers)} images")
    differences = []
    for answer, row in zip(answers, rows, strict=True):
        if len(row) != len(answer.probabilities):
            raise StageError(
                f"{protocol}: {answer.image_id}: {len(row)} probabilities served, "
                f"{len(answer.probabilities)} offline"
            )
        pairs = zip(row, answer.probabilities, strict=True)
        differences.append(max(abs(served - offline) for served, offline in pairs))
    # not "> tolerance": a NaN must fail as well
    wrong = [
        f"{answer.image_id} by {difference:.3g}"
        for answer, difference in zip(answers, differences, strict=True)
        if not difference <= tolerance
    ]
    if wrong:
        raise StageError(
            f"{protocol}: served answers differ from the offline predictions by more than "
            f"{tolerance:g} for {len(wrong)} of {len(answers)} images: {', '.join(wrong[:5])}"
        )
    return max(differences, default=0.0)
